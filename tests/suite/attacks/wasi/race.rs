//! A race against a thread of the host that changes what a path means.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use stockade::{Grants, Limits};
use stockade_tests::eventually;

use super::super::seen;
use super::{Driven, Outside};

/// Opens the path so many times, reads a byte where that works, and counts what it saw: by its first
/// byte, `i` for inside and `n` for the secret, and errors.
const RACER: &str = r#"
    (func (export "race") (param $length i32) (param $times i32) (result i32 i32 i32)
        (local $inside i32) (local $outside i32) (local $errors i32)
        (i32.store (i32.const 16384) (i32.const 65536))
        (i32.store (i32.const 16388) (i32.const 1))
        (loop $more
            (if (call $path_open (i32.const 3) (i32.const 1) (i32.const 1024) (local.get $length)
                    (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 20480))
                (then (local.set $errors (i32.add (local.get $errors) (i32.const 1))))
                (else
                    (i32.store8 (i32.const 65536) (i32.const 0))
                    (drop (call $fd_read (i32.load (i32.const 20480))
                        (i32.const 16384) (i32.const 1) (i32.const 20484)))
                    (if (i32.eq (i32.load8_u (i32.const 65536)) (i32.const 105))
                        (then (local.set $inside (i32.add (local.get $inside) (i32.const 1)))))
                    (if (i32.eq (i32.load8_u (i32.const 65536)) (i32.const 110))
                        (then (local.set $outside (i32.add (local.get $outside) (i32.const 1)))))
                    (drop (call $fd_close (i32.load (i32.const 20480))))))
            (local.set $times (i32.sub (local.get $times) (i32.const 1)))
            (br_if $more (local.get $times)))
        (local.get $inside) (local.get $outside) (local.get $errors))"#;

#[test]
fn a52_a_link_that_is_swapped_meanwhile_leads_nowhere_else() {
    const ROUND: i32 = 1000;
    const ROUNDS: u64 = 20;
    let outside = Outside::new();
    let granted = outside.granted();
    fs::write(granted.join("inner/secret"), "inside").unwrap();
    // A folder and a link out, a link in and a link out, a file and a link out.
    symlink("../other", granted.join("folder2")).unwrap();
    fs::create_dir(granted.join("folder")).unwrap();
    fs::write(granted.join("folder/secret"), "inside").unwrap();
    symlink("inner", granted.join("link")).unwrap();
    symlink("../other", granted.join("link2")).unwrap();
    fs::write(granted.join("target"), "inside").unwrap();
    symlink("../secret", granted.join("target2")).unwrap();

    let limits = Limits::default().wall_time(Duration::from_secs(600));
    let guest = Driven::with_limits(Grants::none().read_dir(&granted, "/data"), limits, RACER);
    let (done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut opened = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for name in ["folder", "link", "target"] {
                    let (one, other) = (granted.join(name), granted.join(format!("{name}2")));
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Whatever fails ends the other thread too.
        let done = Done(&done);
        for path in ["folder/secret", "link/secret", "target"] {
            let [_, length] = guest.path(0, path);
            let (mut inside, mut errors, mut rounds) = (0, 0, 0);
            // As many rounds as were promised, and more until both sides were seen.
            eventually("the link to be seen both ways", || {
                let before = swaps.load(Ordering::Relaxed);
                let (seen, out, failed): (i32, i32, i32) =
                    guest.0.run("race", (length, ROUND)).unwrap();
                assert_eq!(out, 0, "{path} led out");
                assert_eq!(seen + failed, ROUND, "{path}");
                (inside, errors, rounds) = (inside + seen, errors + failed, rounds + 1);
                opened += ROUND;
                let raced = swaps.load(Ordering::Relaxed) > before && inside > 0 && errors > 0;
                rounds >= ROUNDS && raced
            });
        }
        drop(done);
    });
    guest.assert_first_worker();
    assert!(opened >= 60_000);
    seen(
        52,
        "60,000 opens through a folder, a link and a file that a thread exchanges with a link out: \
         the inside or an error number, never the outside",
    );
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
