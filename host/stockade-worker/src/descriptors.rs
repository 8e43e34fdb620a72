//! A guest's descriptors: data in addition to wasmtime-wasi's, and the calls that are implemented
//! here because of it.
//!
//! ```text
//! path_open, fd_close, fd_renumber ─► wasmtime-wasi ─► noted here
//! fd_read, fd_write, fd_seek, fd_tell ─► a pipe? here : wasmtime-wasi
//! fd_readdir ─► here
//! ```
//!
//! wasmtime-wasi reads and writes every file at a position, which pipes and terminals do not have,
//! and cannot list a directory with a name that is not UTF-8.
//!
//! Invariant: the entry of a descriptor matches wasmtime-wasi's, because only calls here open,
//! close or move one.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, openat};
use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wasmtime_wasi::runtime::in_tokio;
use wiggle::GuestMemory;

use crate::failure::HostTrap;
use crate::guest::GuestState;
use crate::hostcalls::{memory_and_state, slice, slice_mut};
use crate::stdio;

/// Error numbers of `wasi_snapshot_preview1`.
pub(crate) const SUCCESS: i32 = 0;
pub(crate) const BADF: i32 = 8;
const FAULT: i32 = 21;
const IO: i32 = 29;
const OVERFLOW: i32 = 61;
const SPIPE: i32 = 70;

/// The first number that is not a stream's.
const FIRST_GRANTED: u32 = 3;

/// The most bytes of one read from a pipe or write to it.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// Bytes of an entry of a listing before its name, of an `iovec`, and of what is known of a descriptor.
const ENTRY_BYTES: usize = 24;
const IOVEC_BYTES: usize = 8;
const STAT_BYTES: usize = 24;

/// A descriptor that needs more than wasmtime-wasi does for it.
#[derive(Clone, Debug)]
pub(crate) enum Noted {
    Stdin,
    Stdout,
    Stderr,
    Directory(Arc<File>),
    /// A file without positions: a pipe, a terminal.
    Pipe(Arc<File>),
}

/// A guest's open descriptors, except files with positions.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(BTreeMap<u32, Noted>);

impl Descriptors {
    /// Those that a guest begins with, of which `granted` are directories.
    pub(crate) fn new(context: &mut WasiP1Ctx, granted: usize) -> Self {
        let mut noted = BTreeMap::from([(0, Noted::Stdin), (1, Noted::Stdout), (2, Noted::Stderr)]);
        if granted == 0 {
            return Self(noted);
        }
        // The first look has them opened, in this order: the streams, the directories.
        status(context, 0);
        let table = context.ctx().table;
        let directories = (0..).map_while(|place| {
            let descriptor = table.get(&Resource::<Descriptor>::new_borrow(place));
            let beyond = place as usize > granted + FIRST_GRANTED as usize;
            (!beyond).then_some(descriptor.ok())
        });
        let numbers = FIRST_GRANTED..;
        for (number, descriptor) in numbers.zip(directories.flatten()) {
            if let Descriptor::Dir(directory) = descriptor {
                noted.insert(number, Noted::Directory(Arc::clone(&directory.dir)));
            }
        }
        Self(noted)
    }

    /// What is noted of `number`.
    pub(crate) fn get(&self, number: u32) -> Option<&Noted> {
        self.0.get(&number)
    }

    fn pipe(&self, number: u32) -> Option<Arc<File>> {
        match self.0.get(&number) {
            Some(Noted::Pipe(file)) => Some(Arc::clone(file)),
            _ => None,
        }
    }

    fn note(&mut self, number: u32, descriptor: Option<&Descriptor>) {
        let noted = match descriptor {
            Some(Descriptor::Dir(directory)) => Some(Noted::Directory(Arc::clone(&directory.dir))),
            Some(Descriptor::File(file)) if is_pipe(&file.file) => {
                Some(Noted::Pipe(Arc::clone(&file.file)))
            }
            _ => None,
        };
        self.0.remove(&number);
        self.0.extend(noted.map(|noted| (number, noted)));
    }

    fn renumber(&mut self, from: u32, to: u32) {
        if from != to {
            self.0.remove(&to);
            let noted = self.0.remove(&from);
            self.0.extend(noted.map(|noted| (to, noted)));
        }
    }
}

/// Whether a file has no places.
fn is_pipe(file: &File) -> bool {
    rustix::fs::seek(file, SeekFrom::Current(0)) == Err(Errno::SPIPE)
}

/// The error number that a look at `number` gives: none where it is open.
pub(crate) fn status(context: &mut WasiP1Ctx, number: u32) -> i32 {
    let mut bytes = [0; STAT_BYTES];
    let mut memory = GuestMemory::Unshared(&mut bytes);
    in_tokio(wasi::fd_fdstat_get(context, &mut memory, number.cast_signed(), 0)).unwrap_or(BADF)
}

/// Puts ours in the place of wasmtime-wasi's.
///
/// # Errors
/// If the linker does not allow that.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    add_opening(linker)?;
    add_places(linker)?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, GuestState>, fd: i32, iovecs: i32, count: i32, written: i32| {
            let fuel = caller.as_context_mut().hostcall_fuel();
            let (memory, state) = memory_and_state(&mut caller)?;
            if let Some(pipe) = state.descriptors().pipe(fd.cast_unsigned()) {
                let numbers = [iovecs, count, written].map(i32::cast_unsigned);
                return Ok(in_bounds(write_pipe(&pipe, memory, numbers)));
            }
            let context = state.wasi();
            context.set_hostcall_fuel(fuel);
            let mut memory = GuestMemory::Unshared(memory);
            in_tokio(wasi::fd_write(context, &mut memory, fd, iovecs, count, written))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_readdir",
        |mut caller: Caller<'_, GuestState>,
         fd: i32,
         buffer: u32,
         length: u32,
         cookie: u64,
         used: u32| {
            let (memory, state) = memory_and_state(&mut caller)?;
            let Some(Noted::Directory(directory)) = state.descriptors().get(fd.cast_unsigned())
            else {
                return Ok(BADF);
            };
            let directory = Arc::clone(directory);
            wasmtime::Result::Ok(in_bounds(list(
                &directory,
                memory,
                (buffer, length),
                cookie,
                used,
            )))
        },
    )?;
    Ok(())
}

const MODULE: &str = "wasi_snapshot_preview1";

/// What opens, closes and moves descriptors.
fn add_opening(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "path_open",
        |mut caller: Caller<'_, GuestState>,
         directory: i32,
         lookup: i32,
         path: i32,
         length: i32,
         flags: i32,
         rights: i64,
         inherited: i64,
         options: i32,
         opened: i32| {
            let fuel = caller.as_context_mut().hostcall_fuel();
            let (memory, state) = memory_and_state(&mut caller)?;
            let (context, descriptors) = state.wasi_and_descriptors();
            context.set_hostcall_fuel(fuel);
            // A table gives the place that was freed last to whatever comes next.
            let table = context.ctx().table;
            let place = table.push(()).and_then(|probe| {
                let place = probe.rep();
                table.delete(probe).map(|()| place)
            });
            let mut guest = GuestMemory::Unshared(memory);
            let errno = in_tokio(wasi::path_open(
                context, &mut guest, directory, lookup, path, length, flags, rights, inherited,
                options, opened,
            ))?;
            let number =
                slice(memory, opened.cast_unsigned(), 4).ok().and_then(<[u8]>::first_chunk);
            if let (SUCCESS, Some(number), Ok(place)) = (errno, number, place) {
                let place = Resource::<Descriptor>::new_borrow(place);
                descriptors.note(u32::from_le_bytes(*number), context.ctx().table.get(&place).ok());
            }
            wasmtime::Result::Ok(errno)
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |mut caller: Caller<'_, GuestState>, fd: i32| {
        // It touches no memory, and yet wants one, as wasmtime-wasi does.
        let (memory, state) = memory_and_state(&mut caller)?;
        let (context, descriptors) = state.wasi_and_descriptors();
        let errno = in_tokio(wasi::fd_close(context, &mut GuestMemory::Unshared(memory), fd))?;
        if errno == SUCCESS {
            descriptors.note(fd.cast_unsigned(), None);
        }
        wasmtime::Result::Ok(errno)
    })?;
    linker.func_wrap(
        MODULE,
        "fd_renumber",
        |mut caller: Caller<'_, GuestState>, from: i32, to: i32| {
            let (memory, state) = memory_and_state(&mut caller)?;
            let (context, descriptors) = state.wasi_and_descriptors();
            let mut memory = GuestMemory::Unshared(memory);
            let errno = in_tokio(wasi::fd_renumber(context, &mut memory, from, to))?;
            if errno == SUCCESS {
                descriptors.renumber(from.cast_unsigned(), to.cast_unsigned());
            }
            wasmtime::Result::Ok(errno)
        },
    )?;
    Ok(())
}

/// Calls that need positions.
fn add_places(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |mut caller: Caller<'_, GuestState>, fd: i32, offset: i64, whence: i32, place: i32| {
            let (memory, state) = memory_and_state(&mut caller)?;
            if state.descriptors().pipe(fd.cast_unsigned()).is_some() {
                return Ok(SPIPE);
            }
            let mut memory = GuestMemory::Unshared(memory);
            in_tokio(wasi::fd_seek(state.wasi(), &mut memory, fd, offset, whence, place))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_tell",
        |mut caller: Caller<'_, GuestState>, fd: i32, place: i32| {
            let (memory, state) = memory_and_state(&mut caller)?;
            if state.descriptors().pipe(fd.cast_unsigned()).is_some() {
                return Ok(SPIPE);
            }
            let mut memory = GuestMemory::Unshared(memory);
            wasi::fd_tell(state.wasi(), &mut memory, fd, place)
        },
    )?;
    Ok(())
}

/// Reads from a pipe into the first non-empty buffer of `[iovecs, count]`, and stores the length at
/// the third number. `None` if `number` is not a pipe.
pub(crate) fn read_pipe(
    state: &mut GuestState,
    memory: &mut [u8],
    number: u32,
    [iovecs, count, stored]: [u32; 3],
) -> Option<i32> {
    let pipe = state.descriptors().pipe(number)?;
    let mut read = || {
        let (pointer, length) = place(memory, iovecs, count)?;
        // What is read is gone, so it must be clear before where all of it goes.
        store(memory, stored, 0)?;
        let to = slice_mut(memory, pointer, length)?;
        // Not by the kernel into the guest's memory, whose pages may be protected.
        let mut buffer = vec![0; to.len().min(PIECE_BYTES_MAX)];
        match stdio::read(&pipe, &mut buffer) {
            Ok(bytes) => {
                to[..bytes].copy_from_slice(&buffer[..bytes]);
                store(memory, stored, bytes)
            }
            Err(error) => Ok(number_of(error)),
        }
    };
    Some(in_bounds(read()))
}

fn write_pipe(
    pipe: &File,
    memory: &mut [u8],
    [iovecs, count, stored]: [u32; 3],
) -> Result<i32, HostTrap> {
    let (pointer, length) = place(memory, iovecs, count)?;
    store(memory, stored, 0)?;
    let bytes = slice(memory, pointer, length)?;
    match stdio::write(pipe, &bytes[..bytes.len().min(PIECE_BYTES_MAX)]) {
        Ok(bytes) => store(memory, stored, bytes),
        Err(error) => Ok(number_of(error)),
    }
}

/// A place that is not in the guest's memory is an error number.
fn in_bounds(answer: Result<i32, HostTrap>) -> i32 {
    answer.unwrap_or(FAULT)
}

/// The first place that is not empty, or an empty one.
fn place(memory: &[u8], iovecs: u32, count: u32) -> Result<(u32, u32), HostTrap> {
    let bytes = (count as usize).saturating_mul(IOVEC_BYTES);
    let list = slice(memory, iovecs, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    let number = |iovec: &[u8], at: usize| {
        iovec[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let places = list.chunks_exact(IOVEC_BYTES).map(|iovec| (number(iovec, 0), number(iovec, 4)));
    Ok(places.into_iter().find(|(_, length)| *length > 0).unwrap_or_default())
}

fn store(memory: &mut [u8], pointer: u32, bytes: usize) -> Result<i32, HostTrap> {
    let Ok(number) = u32::try_from(bytes) else { return Ok(OVERFLOW) };
    slice_mut(memory, pointer, 4)?.copy_from_slice(&number.to_le_bytes());
    Ok(SUCCESS)
}

/// The number that a guest knows the system's error by. Those that a pipe or a directory has.
fn number_of(error: Errno) -> i32 {
    const NUMBERS: [(Errno, i32); 9] = [
        (Errno::ACCESS, 2),
        (Errno::BADF, BADF),
        (Errno::INVAL, 28),
        (Errno::ISDIR, 31),
        (Errno::MFILE, 33),
        (Errno::NOENT, 44),
        (Errno::NOMEM, 48),
        (Errno::NOTDIR, 54),
        (Errno::PIPE, 64),
    ];
    NUMBERS.iter().find(|(known, _)| *known == error).map_or(IO, |(_, number)| *number)
}

/// Lists a directory from the entry `cookie` on, up to the buffer's length. Names that are not
/// UTF-8 are skipped: the guest could not open them.
fn list(
    directory: &File,
    memory: &mut [u8],
    (buffer, length): (u32, u32),
    cookie: u64,
    used: u32,
) -> Result<i32, HostTrap> {
    let to = slice_mut(memory, buffer, length)?;
    let filled = match fill(directory, to, cookie) {
        Ok(filled) => filled,
        Err(error) => return Ok(number_of(error)),
    };
    store(memory, used, filled)
}

/// How much of `to` it filled: all of it where there is more.
fn fill(directory: &File, to: &mut [u8], cookie: u64) -> rustix::io::Result<usize> {
    let device = rustix::fs::fstat(directory)?;
    let own = hash(device.st_dev, device.st_ino);
    // What is noted may be open for looking names up alone.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut listing = Dir::new(openat(directory, c".", flags, Mode::empty())?)?;
    let entries = std::iter::from_fn(|| listing.read()).filter_map(|entry| match entry {
        Ok(entry) => {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || name.to_str().is_err() {
                return None;
            }
            let inode = hash(device.st_dev, entry.ino());
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => {
                    let known = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
                    known.map_or(FileType::Unknown, |known| FileType::from_raw_mode(known.st_mode))
                }
                kind => kind,
            };
            Some(Ok((inode, kind, name.to_bytes().to_vec())))
        }
        Err(error) => Some(Err(error)),
    });
    // What wasmtime-wasi says of the folder above is this one's.
    let first = [b".".to_vec(), b"..".to_vec()].map(|name| Ok((own, FileType::Directory, name)));
    let skipped = usize::try_from(cookie).unwrap_or(usize::MAX);
    let mut filled = 0;
    for (entry, next) in first.into_iter().chain(entries).zip(1_u64..).skip(skipped) {
        let (inode, kind, name) = entry?;
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&next.to_le_bytes());
        bytes[8..16].copy_from_slice(&inode.to_le_bytes());
        // No file system has names that are longer than a few hundred bytes.
        bytes[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        bytes[20] = kind_number(kind);
        for piece in [&bytes[..], &name] {
            let room = &mut to[filled..];
            let fits = piece.len().min(room.len());
            room[..fits].copy_from_slice(&piece[..fits]);
            filled += fits;
        }
        if filled == to.len() {
            break;
        }
    }
    Ok(filled)
}

/// What wasmtime-wasi makes of a file's identity, as its number for guests.
fn hash(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

fn kind_number(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Symlink => 7,
        _ => 0,
    }
}

/// What a guest's number stands for on the host, where it can be waited for.
#[derive(Clone, Debug)]
pub(crate) enum Waitable {
    Stream(Arc<OwnedFd>),
    File(Arc<File>),
}

impl AsFd for Waitable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(descriptor) => descriptor.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }
}
