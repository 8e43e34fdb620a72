//! Which of the three streams were closed when this process began.
//!
//! The standard library opens `/dev/null` in their places before `main`, after which a closed stream
//! cannot be told from a redirection to it. So this looks earlier, as the program is loaded.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each of the three that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Whether the stream of this number was closed.
pub(super) fn at_start(number: u8) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << number) != 0
}

/// Runs before `main`, on the only thread there is. It makes three system calls and writes one word, and
/// needs nothing that would have to be set up before.
extern "C" fn look() {
    for number in 0..3 {
        // SAFETY: F_GETFD takes a number, which may be that of no descriptor, and touches no memory.
        #[expect(unsafe_code, reason = "no safe call asks about a number that may not be open")]
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags == -1 {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "functions that run before `main` are listed in this section")]
#[used]
// SAFETY: the section holds pointers to functions of the C calling convention, which this is one of; its
// arguments are ignored.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
