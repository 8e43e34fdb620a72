//! Isolation: no task sees another's state, and none reaches what was not granted.

use std::path::Path;

use stockade::{Grants, Instances, Pool, RunError, TaskError};
use stockade_tests::{Folder, guest_pool, int, numbers, tasks};

fn count(pool: &Pool) -> i32 {
    let bytes: Vec<u8> = pool.run("count", int(0)).unwrap();
    i32::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn every_task_begins_with_the_same_state() {
    let pool = numbers().build().unwrap();
    for _ in 0..20 {
        assert_eq!(pool.run::<i32>("next", ()).unwrap(), 1);
    }
    // Also after one that trapped half-way.
    assert!(pool.run::<()>("next_then_trap", ()).is_err());
    assert_eq!(pool.run::<i32>("next", ()).unwrap(), 1);
    assert_eq!(pool.run::<i32>("grow", (1,)).unwrap(), 1);
    assert_eq!(pool.run::<i32>("grow", (1,)).unwrap(), 1);
}

#[test]
fn an_instance_per_worker_keeps_its_state_until_it_traps() {
    let pool = tasks().instances(Instances::PerWorker).build().unwrap();
    assert_eq!([count(&pool), count(&pool), count(&pool)], [1, 2, 3]);
    assert!(pool.run::<()>("count_then_trap", int(0)).is_err());
    assert_eq!([count(&pool), count(&pool)], [1, 2]);
    // An error that the task returned is no trap.
    assert!(pool.run::<()>("fail", int(0)).is_err());
    assert_eq!(count(&pool), 3);
    assert_eq!(pool.workers()[0].id.0, 1, "the worker was replaced");
}

#[test]
fn an_instance_per_worker_ends_with_its_worker() {
    let pool = tasks().instances(Instances::PerWorker).max_tasks_per_worker(2).build().unwrap();
    let counts: Vec<_> = (0..6).map(|_| count(&pool)).collect();
    assert_eq!(counts, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn modules_of_one_pool_do_not_share_state() {
    let pool = numbers()
        .module_as("other", stockade_tests::wat_file(include_str!("../fixtures/numbers.wat")))
        .instances(Instances::PerWorker)
        .build()
        .unwrap();
    for expected in 1..=3 {
        assert_eq!(pool.run::<i32>(("test", "next"), ()).unwrap(), expected);
        assert_eq!(pool.run::<i32>(("other", "next"), ()).unwrap(), expected);
    }
}

#[test]
fn no_file_is_there_unless_granted() {
    let pool = guest_pool("probe").build().unwrap();
    for path in ["/", ".", "/etc/passwd", "/proc/self/environ", "../../etc/passwd", ""] {
        let read = pool.run::<String>("read", (path,));
        assert!(matches!(read, Err(RunError::Task(TaskError::Guest(_)))), "{path}: {read:?}");
        assert!(pool.run::<Vec<String>>("list", (path,)).is_err(), "{path}");
    }
}

/// A granted folder with a file and a folder in it, next to something that was not granted.
struct Grounds {
    folder: Folder,
}

impl Grounds {
    fn new() -> Self {
        let folder = Folder::new();
        folder.file("secret", "not yours");
        std::fs::create_dir_all(folder.path().join("granted/inner")).unwrap();
        folder.file("granted/file", "yours");
        Self { folder }
    }

    fn granted(&self) -> std::path::PathBuf {
        self.folder.path().join("granted")
    }

    fn read_only(&self) -> Pool {
        let grants = Grants::none().read_dir(self.granted(), "/data");
        guest_pool("probe").grants(grants).build().unwrap()
    }

    fn writable(&self) -> Pool {
        let grants = Grants::none().write_dir(self.granted(), "/data");
        guest_pool("probe").grants(grants).build().unwrap()
    }

    /// Nothing but what was there at first is there, and unchanged.
    #[track_caller]
    fn assert_untouched(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(self.folder.path()), ["granted", "secret"]);
        assert_eq!(names(&self.granted()), ["file", "inner"]);
        assert_eq!(std::fs::read(self.granted().join("file")).unwrap(), b"yours");
        assert_eq!(std::fs::read(self.folder.path().join("secret")).unwrap(), b"not yours");
    }
}

fn change(pool: &Pool, what: &str, path: &str, other: &str) -> Result<(), RunError> {
    pool.run::<()>("change", (what, path, other))
}

#[test]
fn a_read_only_grant_can_be_read_and_not_changed() {
    let grounds = Grounds::new();
    let pool = grounds.read_only();
    assert_eq!(pool.run::<String>("read", ("/data/file",)).unwrap(), "yours");
    let names: Vec<String> = pool.run("list", ("/data",)).unwrap();
    assert_eq!(names, ["file", "inner"]);
    for (what, path) in
        [("create", "/data/new"), ("append", "/data/file"), ("remove", "/data/file")]
    {
        assert!(change(&pool, what, path, "mine").is_err(), "{what} {path}");
        grounds.assert_untouched();
    }
}

#[test]
fn a_writable_grant_can_be_changed() {
    let grounds = Grounds::new();
    let pool = grounds.writable();
    change(&pool, "create", "/data/new", "").unwrap();
    change(&pool, "append", "/data/file", " and mine").unwrap();
    change(&pool, "mkdir", "/data/more", "").unwrap();
    change(&pool, "rename", "/data/new", "/data/more/new").unwrap();
    assert_eq!(pool.run::<String>("read", ("/data/file",)).unwrap(), "yours and mine");
    assert!(grounds.granted().join("more/new").exists());
    change(&pool, "remove", "/data/more/new", "").unwrap();
    change(&pool, "rmdir", "/data/more", "").unwrap();
    change(&pool, "truncate", "/data/file", "").unwrap();
    assert_eq!(std::fs::read(grounds.granted().join("file")).unwrap(), b"");
}

#[test]
fn two_grants_are_two_places() {
    let (one, two) = (Folder::new(), Folder::new());
    one.file("file", "one");
    two.file("file", "two");
    let grants = Grants::none().read_dir(one.path(), "/one").write_dir(two.path(), "/two");
    let pool = guest_pool("probe").grants(grants).build().unwrap();
    assert_eq!(pool.run::<String>("read", ("/one/file",)).unwrap(), "one");
    assert_eq!(pool.run::<String>("read", ("/two/file",)).unwrap(), "two");
    assert!(change(&pool, "remove", "/one/file", "").is_err());
    assert!(change(&pool, "rename", "/one/file", "/two/taken").is_err());
    assert!(change(&pool, "rename", "/two/file", "/one/put").is_err());
    change(&pool, "remove", "/two/file", "").unwrap();
}
