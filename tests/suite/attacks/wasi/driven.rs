//! A guest that makes the calls its test asks for: every function of WASI as a function of the module,
//! in one instance that keeps its memory and its descriptors from call to call.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use stockade::{Bytes, Grants, Instances, Json, Limits, Pool, RunError, TaskError};
use stockade_tests::{Folder, wat};

/// Every function with its parameters: `i` is 32 bits, `I` is 64. `proc_exit` alone has no result.
pub(super) const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// A module in which every function of WASI is exported under its name, behind one of its own;
/// `body` may call them as `$NAME`.
pub(super) fn module(body: &str) -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (name, params) in FUNCTIONS {
        let types: Vec<_> =
            params.chars().map(|kind| if kind == 'i' { "i32" } else { "i64" }).collect();
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        let ty = format!("(param {}) {result}", types.join(" "));
        let given: String = (0..types.len()).map(|at| format!("(local.get {at})")).collect();
        imports.push_str(&format!(
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} {ty}))"
        ));
        exports.push_str(&format!("(func (export \"{name}\") {ty} (call ${name} {given}))"));
    }
    format!("(module {imports} {exports} {body})")
}

/// Where the driven guest keeps the first path, the second, its io vectors, what a call stores, and
/// what is moved.
const PATHS: [u32; 2] = [1024, 8192];
pub(super) const VECTORS: u32 = 16_384;
pub(super) const STORED: u32 = 20_480;
pub(super) const BUFFER: u32 = 65_536;

/// `path_open`'s flags, and the rights that decide how it opens.
pub(super) const CREATE: i64 = 1;
pub(super) const DIRECTORY: i64 = 2;
pub(super) const EXCLUSIVE: i64 = 4;
pub(super) const TRUNCATE: i64 = 8;
pub(super) const READ: i64 = 2;
pub(super) const WRITE: i64 = 64;

/// The first directory that was granted.
pub(super) const GRANTED: i64 = 3;

/// The guest and its pool of one worker.
#[derive(Debug)]
pub(super) struct Driven(pub(super) Pool);

impl Driven {
    pub(super) fn new(grants: Grants) -> Self {
        Self::with(grants, "")
    }

    /// With `body` in the module too.
    pub(super) fn with(grants: Grants, body: &str) -> Self {
        Self::with_limits(grants, Limits::default(), body)
    }

    /// Under limits of its own, but for memory.
    pub(super) fn with_limits(grants: Grants, limits: Limits, body: &str) -> Self {
        let body = format!(
            r#"(import "stockade" "input_len" (func $input_len (result i32)))
               (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
               (import "stockade" "output_write" (func $output_write (param i32 i32)))
               (memory (export "memory") 64)
               ;; Puts its input, behind the four bytes of an address, at that address.
               (func (export "put") (result i32)
                (call $input_read (i32.const 0) (i32.const 0) (i32.const 4))
                (call $input_read (i32.load (i32.const 0)) (i32.const 4)
                    (i32.sub (call $input_len) (i32.const 4)))
                (i32.const 0))
               ;; Returns the bytes at an address, so many.
               (func (export "get") (result i32)
                (call $input_read (i32.const 0) (i32.const 0) (i32.const 8))
                (call $output_write (i32.load (i32.const 0)) (i32.load (i32.const 4)))
                (i32.const 0))
               {body}"#
        );
        // Imports stand before everything else.
        let (imports, rest) = body.split_at(body.find("(memory").expect("it has one"));
        let module = module(rest).replacen("(module", &format!("(module {imports}"), 1);
        let limits = limits.memory_bytes(512 << 20);
        let pool = wat(&module).instances(Instances::PerWorker).grants(grants).limits(limits);
        Self(pool.build().unwrap())
    }

    /// What the function answers, or how its task failed.
    pub(super) fn call(&self, function: &str, args: &[i64]) -> Result<i32, TaskError> {
        let args = args.iter().fold(Json::new(), |args, number| args.arg(json!(number)));
        match self.0.run::<i32>(function, args) {
            Ok(answer) => Ok(answer),
            Err(RunError::Task(error)) => Err(error),
            Err(refused) => panic!("{function}: {refused:?}"),
        }
    }

    /// The error number that the function answers; 0 is none.
    #[track_caller]
    pub(super) fn errno(&self, function: &str, args: &[i64]) -> i32 {
        match self.call(function, args) {
            Ok(errno) => errno,
            Err(error) => panic!("{function}{args:?}: {error:?}"),
        }
    }

    pub(super) fn put(&self, at: u32, bytes: &[u8]) {
        let input = [&at.to_le_bytes()[..], bytes].concat();
        self.0.run::<Vec<u8>>("put", Bytes(input)).unwrap();
    }

    pub(super) fn get(&self, at: u32, length: u32) -> Vec<u8> {
        self.0.run("get", Bytes([at.to_le_bytes(), length.to_le_bytes()].concat())).unwrap()
    }

    pub(super) fn get_number(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.get(at, 4)[..].try_into().unwrap())
    }

    /// Puts the path where the first or the second is kept; returns where and how long.
    pub(super) fn path(&self, which: usize, path: &str) -> [i64; 2] {
        self.put(PATHS[which], path.as_bytes());
        [i64::from(PATHS[which]), path.len() as i64]
    }

    /// Opens `path` below the descriptor `at`; the new descriptor, or the error number.
    #[track_caller]
    pub(super) fn open(&self, at: i64, path: &str, flags: i64, rights: i64) -> Result<i64, i32> {
        const FOLLOW: i64 = 1;
        let [start, length] = self.path(0, path);
        let stored = i64::from(STORED);
        let args = [at, FOLLOW, start, length, flags, rights, 0, 0, stored];
        match self.errno("path_open", &args) {
            0 => Ok(i64::from(self.get_number(STORED))),
            errno => Err(errno),
        }
    }

    /// One io vector of `length` bytes at [`BUFFER`]; returns where it is and how many there are.
    pub(super) fn vector(&self, length: u32) -> [i64; 2] {
        self.put(VECTORS, &[BUFFER.to_le_bytes(), length.to_le_bytes()].concat());
        [i64::from(VECTORS), 1]
    }

    /// Reads up to 64 KiB from the descriptor's position.
    pub(super) fn read(&self, descriptor: i64) -> Result<Vec<u8>, i32> {
        let [vectors, count] = self.vector(65_536);
        match self.errno("fd_read", &[descriptor, vectors, count, i64::from(STORED)]) {
            0 => Ok(self.get(BUFFER, self.get_number(STORED))),
            errno => Err(errno),
        }
    }

    /// Writes at the descriptor's position; how many bytes went.
    pub(super) fn write(&self, descriptor: i64, bytes: &[u8]) -> Result<u32, i32> {
        self.put(BUFFER, bytes);
        let [vectors, count] = self.vector(bytes.len() as u32);
        match self.errno("fd_write", &[descriptor, vectors, count, i64::from(STORED)]) {
            0 => Ok(self.get_number(STORED)),
            errno => Err(errno),
        }
    }

    #[track_caller]
    pub(super) fn assert_first_worker(&self) {
        super::assert_first_worker(&self.0);
    }
}

/// A folder of which a part is granted: `granted`, next to a file and a folder that are not.
pub(super) struct Outside {
    pub(super) folder: Folder,
    before: BTreeMap<PathBuf, Found>,
}

/// What stands at a path: kind and time of the last change, and a file's bytes or a link's target.
#[derive(Debug, PartialEq)]
struct Found {
    mode: u32,
    changed: (i64, i64),
    links: u64,
    contents: Vec<u8>,
}

impl Outside {
    pub(super) fn new() -> Self {
        let folder = Folder::new();
        fs::create_dir_all(folder.path().join("granted/inner")).unwrap();
        fs::create_dir_all(folder.path().join("other")).unwrap();
        folder.file("secret", "not yours");
        folder.file("other/secret", "not yours");
        folder.file("granted/file", "yours");
        folder.file("granted/inner/file", "yours too");
        let mut new = Self { folder, before: BTreeMap::new() };
        new.remember();
        new
    }

    pub(super) fn granted(&self) -> PathBuf {
        self.folder.path().join("granted")
    }

    /// Takes what is there now for what must stay.
    pub(super) fn remember(&mut self) {
        self.before.clear();
        look(self.folder.path(), &mut self.before);
    }

    /// Nothing at all has changed since.
    #[track_caller]
    pub(super) fn assert_unchanged(&self, after: &str) {
        self.compare(after, |_| true);
    }

    /// Nothing has changed outside what is granted.
    #[track_caller]
    pub(super) fn assert_outside_unchanged(&self, after: &str) {
        let granted = self.granted();
        self.compare(after, |path| !path.starts_with(&granted));
    }

    #[track_caller]
    fn compare(&self, after: &str, counts: impl Fn(&Path) -> bool) {
        let mut now = BTreeMap::new();
        look(self.folder.path(), &mut now);
        now.retain(|path, _| counts(path));
        let before: BTreeMap<_, _> = self.before.iter().filter(|(path, _)| counts(path)).collect();
        assert_eq!(before, now.iter().collect::<BTreeMap<_, _>>(), "after {after}");
    }
}

fn look(folder: &Path, found: &mut BTreeMap<PathBuf, Found>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let contents = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        let (mode, links) = (metadata.mode(), metadata.nlink());
        found.insert(path.clone(), Found { mode, changed, links, contents });
        if metadata.is_dir() {
            look(&path, found);
        }
    }
}
