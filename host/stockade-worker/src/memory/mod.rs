//! Guest memory: its addresses, its initial content, and its reset.
//!
//! ```text
//! compiler: module ─► image: what active data segments make of its memories, behind the artefact
//!                  └► code without those segments
//! worker, one slot for each memory of a module:
//!   guard │ image and zeros, private, READ-ONLY      │ no access: not grown yet      │ guard
//!         └ first write: fault ─► page writable, hot └ memory.grow ─► zero, writable alike
//! instance ends: hot pages are copied back from the image, grown pages are zeroed or dropped
//! ```
//!
//! A page that is not hot was not written, since it is write-protected. So a reset does not depend
//! on the kernel's information about pages: the kernel may migrate, merge or swap them. The engine
//! makes tables, globals and everything else of an instance anew.
//!
//! | where | what it owns |
//! |---|---|
//! | `image` | the image behind an artefact: how it is written and checked |
//! | `pages` | system calls on address space |
//! | `arena` | all address space for memories |
//! | `hot` | which pages of a memory may be written, and for how long |
//! | `grown` | which grown pages are written |
//! | `slot` | one memory that is kept from instance to instance |
//! | `fresh` | one memory of one instance, if it has no slot |
//!
//! Invariant: a new instance finds in a slot the image, then zeros up to its minimum, then
//! inaccessible pages.

mod arena;
mod fresh;
mod grown;
mod hot;
mod image;
mod pages;
mod slot;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::unix::StoreExt;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, Store};

use arena::Arena;
use fresh::FreshMemory;
pub(crate) use image::{Contents, GRANULE_BYTES, Malformed, RUNS_MAX, append};
use image::{Image, Images, Read};
pub(crate) use pages::touch;
pub(crate) use slot::WINDOW_BYTES;
use slot::{MemorySlot, SlotMemory};

use crate::lockdown::Space;

/// Address space of a 32-bit memory: all that its guest can name, so that generated code checks no
/// bounds.
pub(crate) const RESERVATION_BYTES: u64 = 4 << 30;

/// Address space without access behind a memory, and before it: constant offsets up to this need no
/// check either. The engine's own default.
pub(crate) const GUARD_BYTES: u64 = 32 << 20;

/// The engine asks for a heap of garbage-collected objects through the same interface as for a memory,
/// and only this reservation tells the two apart.
pub(crate) const GC_HEAP_RESERVATION_BYTES: u64 = RESERVATION_BYTES - GRANULE_BYTES;

/// Why a module has no memories here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// Its image is not what a compiler writes.
    #[error(transparent)]
    Image(#[from] Malformed),
    /// The system does not map it.
    #[error("its memory cannot be mapped: {0}")]
    Map(#[from] io::Error),
    /// It has more memories than there are places for.
    #[error("it has more memories than this worker has places for")]
    NoPlace,
    /// There is no address space for memories at all.
    #[error(
        "the memories of its modules need {needed} bytes of address space, but the system \
         refuses: {source}{}",
        limit_in_words(*.limit)
    )]
    AddressSpace {
        /// Bytes for all of them.
        needed: usize,
        /// The limit of this process.
        limit: Option<u64>,
        /// The system's words.
        source: io::Error,
    },
}

fn limit_in_words(limit: Option<u64>) -> String {
    match limit {
        None => String::new(),
        Some(limit) => format!(
            " (this process may have {limit} bytes; raise or remove the limit RLIMIT_AS, `ulimit \
             -v`)"
        ),
    }
}

/// The memories of one module, each with its slot where it has an image.
#[derive(Debug)]
pub(crate) struct ModuleMemories(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    minimum_bytes: usize,
    slot: Option<Arc<MemorySlot>>,
}

/// Creates the memories of an engine's instances. The engine does not tell which memory of which
/// instance it needs, so an instance is announced before it is made.
#[derive(Debug)]
pub(crate) struct Memories {
    arena: Arc<Arena>,
    state: Mutex<MemoriesState>,
}

#[derive(Debug, Default)]
struct MemoriesState {
    /// Where slots of all modules keep what was grown. As many as there are slots, and empty for those
    /// that keep nothing.
    windows: Vec<Range<usize>>,
    /// Whose instance is being made, and which of its memories is the next.
    announced: Option<(Arc<ModuleMemories>, usize)>,
    /// Whether a memory of no announced instance is lent a place: for tests of the engine alone.
    lends_to_all: bool,
}

impl Memories {
    /// Reserves address space for so many memories.
    ///
    /// # Errors
    /// [`MemoryError::AddressSpace`]
    pub(crate) fn new(memories: usize) -> Result<Self, MemoryError> {
        let arena = Arena::new(memories).map_err(|source| {
            let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
            MemoryError::AddressSpace { needed: Arena::bytes(memories), limit, source }
        })?;
        Ok(Self { arena, state: Mutex::default() })
    }

    /// So many places, which are lent to whatever memory is asked for, without an announcement. Its
    /// instances have no images.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn for_anything(memories: usize) -> Result<Self, MemoryError> {
        let own = Self::new(memories)?;
        (0..memories).try_for_each(|_| own.add_lent())?;
        own.state().lends_to_all = true;
        Ok(own)
    }

    /// Has one place more for memories that have no slot, or whose slot is taken.
    ///
    /// # Errors
    /// [`MemoryError::NoPlace`]
    pub(crate) fn add_lent(&self) -> Result<(), MemoryError> {
        if self.arena.add_lent() { Ok(()) } else { Err(MemoryError::NoPlace) }
    }

    /// Makes room for the memories of a module, whose artefact and image `file` holds.
    ///
    /// # Errors
    /// [`MemoryError`]
    pub(crate) fn add(&self, file: &Arc<File>) -> Result<Arc<ModuleMemories>, MemoryError> {
        let mut entries = Vec::new();
        for Read { minimum_bytes, runs } in Images::read(file)?.0 {
            let slot = match runs {
                None => {
                    self.add_lent()?;
                    None
                }
                Some(runs) => {
                    let image = Image::new(Arc::clone(file), runs, minimum_bytes)?;
                    Some(Arc::new(self.slot(image)?))
                }
            };
            entries.push(Entry { minimum_bytes, slot });
        }
        Ok(Arc::new(ModuleMemories(entries)))
    }

    fn slot(&self, image: Image) -> Result<MemorySlot, MemoryError> {
        let place = self.arena.take().ok_or(MemoryError::NoPlace)?;
        let windows = &mut self.state().windows;
        let slot = MemorySlot::new(place, image, windows.len() < Space::WINDOWS_MAX)?;
        windows.push(slot.window());
        Ok(slot)
    }

    /// Where all memories are, as far as modules were added.
    pub(crate) fn space(&self) -> Space {
        let mut windows = self.state().windows.clone();
        windows.retain(|window| !window.is_empty());
        Space { memories: self.arena.addresses(), windows }
    }

    /// Gives the next memories that the engine asks for to an instance of the module that `memories`
    /// are of, as long as the answer lives.
    pub(crate) fn announce(&self, memories: &Arc<ModuleMemories>) -> Announced<'_> {
        let mut state = self.state();
        for entry in &memories.0 {
            if let Some(slot) = &entry.slot {
                slot.share_hot_set(state.windows.len());
            }
        }
        state.announced = Some((Arc::clone(memories), 0));
        Announced(self)
    }

    fn state(&self) -> MutexGuard<'_, MemoriesState> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of the memory that is asked for, if it is one of the announced module's, has a slot,
    /// and no other instance is in that.
    ///
    /// # Errors
    /// If nobody was announced, or another module.
    fn next_slot(&self, minimum_bytes: usize) -> Result<SlotOrImage, &'static str> {
        let mut state = self.state();
        if state.lends_to_all {
            return Ok(SlotOrImage::Neither);
        }
        let (memories, next) = state.announced.as_mut().ok_or("a memory of no instance")?;
        let entry = memories.0.get(*next).ok_or("a memory more than its module has")?;
        *next += 1;
        if entry.minimum_bytes != minimum_bytes {
            return Err("a memory of another module");
        }
        let Some(slot) = &entry.slot else { return Ok(SlotOrImage::Neither) };
        Ok(match SlotMemory::take(slot) {
            Some(memory) => SlotOrImage::Slot(memory),
            None => SlotOrImage::Image(Arc::clone(slot.image())),
        })
    }
}

enum SlotOrImage {
    Slot(SlotMemory),
    Image(Arc<Image>),
    Neither,
}

/// An instance that is being made.
#[derive(Debug)]
pub(crate) struct Announced<'a>(&'a Memories);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.state().announced = None;
    }
}

// SAFETY: each memory that is returned is page aligned, as long as it says, has its reservation and
// guards without access behind it, and never moves. It holds zeros, or its image where the engine was
// left no segment to write there.
#[allow(unsafe_code)]
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let is_heap = reserved == usize::try_from(GC_HEAP_RESERVATION_BYTES).ok();
        let image = match is_heap {
            true => None,
            false => match self.next_slot(minimum)? {
                SlotOrImage::Slot(memory) => return Ok(Box::new(memory)),
                SlotOrImage::Image(image) => Some(image),
                SlotOrImage::Neither => None,
            },
        };
        let capacity = reserved.unwrap_or(0).max(minimum);
        if capacity > RESERVATION_BYTES as usize || guard > GUARD_BYTES as usize {
            return Err("a memory that is longer than its place".into());
        }
        let place = self.arena.lend().ok_or_else(|| MemoryError::NoPlace.to_string())?;
        match FreshMemory::new(place, minimum, capacity, image.as_deref()) {
            Ok(memory) => Ok(Box::new(memory)),
            Err(error) => Err(MemoryError::Map(error).to_string()),
        }
    }
}

impl ModuleMemories {
    /// Lets write faults of a guest in `store`, and of its host calls, be handled by these
    /// memories.
    ///
    /// A write of the host while no guest is on the stack would end the process, and one by the kernel
    /// fails; see [`touch`].
    #[allow(unsafe_code)]
    pub(crate) fn watch<T: 'static>(self: &Arc<Self>, store: &mut Store<T>) {
        let memories = Arc::clone(self);
        // SAFETY: the handler must be async-signal-safe: it reads and writes atomics, makes one or two
        // system calls, and takes no lock and no memory.
        unsafe {
            store.set_signal_handler(move |signal, info, _| {
                // SAFETY: the engine passes on what the kernel gave its handler.
                signal == libc::SIGSEGV && memories.admit_write((*info).si_addr().addr())
            });
        }
    }

    /// Makes the page at an address writable, if it is of one of these memories and was not.
    fn admit_write(&self, address: usize) -> bool {
        let mut slots = self.0.iter().filter_map(|entry| entry.slot.as_ref());
        slots.any(|slot| slot.admit_write(address))
    }

    /// Prepares grown memory at `addresses` for something that is mapped over it until the call ends, and
    /// leaves writable pages then.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn admit_grown(&self, addresses: &Range<usize>) -> io::Result<()> {
        let mut slots = self.0.iter().filter_map(|entry| entry.slot.as_ref());
        slots.try_for_each(|slot| slot.admit_grown_at(addresses))
    }
}
