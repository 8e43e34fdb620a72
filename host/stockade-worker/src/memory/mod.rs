//! Guest memory: where it lies, what it holds first, and how it becomes pristine again.
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
//! A page that is not hot was not written: the processor would not have let it be. So a reset asks the
//! kernel for nothing and relies on nothing that the kernel does with pages meanwhile: whether it
//! migrates, merges or swaps them. Tables, globals and everything else of an instance are made anew by
//! the engine for each instance.
//!
//! | where | what it owns |
//! |---|---|
//! | `image` | the image behind an artefact: how it is written and checked |
//! | `pages` | system calls on address space |
//! | `hot` | which pages of a memory may be written, and for how long |
//! | `grown` | which grown pages are written |
//! | `slot` | one memory that is kept from instance to instance |
//! | `fresh` | one memory of one instance, for whatever has no slot |
//!
//! Invariant: what a slot shows to a new instance is the image, then zeros up to its minimum, then
//! nothing that can be accessed.

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

use fresh::FreshMemory;
pub(crate) use image::{Contents, GRANULE_BYTES, Malformed, RUNS_MAX, append};
use image::{Image, Images};
pub(crate) use pages::touch;
use slot::{Slot, SlotMemory};

/// Address space of a 32-bit memory: all that its guest can name, so that generated code checks no
/// bounds.
pub(crate) const RESERVATION_BYTES: u64 = 4 << 30;

/// Address space without access behind a memory, and before it: constant offsets up to this need no
/// check either. The engine's own default.
pub(crate) const GUARD_BYTES: u64 = 32 << 20;

/// The engine asks for a heap of garbage-collected objects through the same interface as for a memory,
/// and says which of the two it wants by nothing but this reservation.
pub(crate) const GC_HEAP_RESERVATION_BYTES: u64 = RESERVATION_BYTES + GRANULE_BYTES;

/// The most memories of one module.
pub(crate) const MEMORIES_MAX: usize = 16;

/// Why a module has no memories here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// Its image is not what a compiler writes.
    #[error(transparent)]
    Image(#[from] Malformed),
    /// There is no address space for it.
    #[error(
        "each of its memories needs {needed} bytes of address space, and the system gives no more: \
         {source}{}",
        limit_in_words(*.limit)
    )]
    AddressSpace {
        /// Bytes for one memory.
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
            " (this process may have {limit} bytes; raise or remove the limit RLIMIT_AS, `ulimit -v`)"
        ),
    }
}

/// The memories of one module, each with its slot where it has an image.
#[derive(Debug)]
pub(crate) struct ModuleMemories(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    minimum_bytes: usize,
    slot: Option<Arc<Slot>>,
}

/// Makes the memories of an engine's instances. The engine says neither whose memory it asks for nor
/// which, so an instance is announced before it is made.
#[derive(Debug)]
pub(crate) struct Memories {
    /// The limit of this process on address space. It is asked for once, since the filter of system
    /// calls does not let it be asked for later.
    limit: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Slots of all modules together.
    slots: usize,
    /// Whose instance is being made, and which of its memories is the next.
    announced: Option<(Arc<ModuleMemories>, usize)>,
}

impl Memories {
    /// No memories yet. To be made before the process is locked down.
    pub(crate) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        Self { limit, state: Mutex::default() }
    }

    /// Says why a memory has no room, with what limits it.
    fn no_address_space(&self, source: io::Error) -> MemoryError {
        MemoryError::AddressSpace { needed: slot::reserved_bytes(), limit: self.limit, source }
    }

    /// Makes room for the memories of a module, whose artefact and image `file` holds.
    ///
    /// # Errors
    /// [`MemoryError`]
    pub(crate) fn add(&self, file: &Arc<File>) -> Result<Arc<ModuleMemories>, MemoryError> {
        let mut entries = Vec::new();
        for contents in Images::read(file)?.0 {
            let minimum_bytes = contents.minimum_bytes;
            let slot = match contents.runs {
                None => None,
                Some(runs) => {
                    let image = Image::new(Arc::clone(file), runs, minimum_bytes);
                    let slot = image.and_then(Slot::new);
                    let slot = slot.map_err(|error| self.no_address_space(error))?;
                    Some(Arc::new(slot))
                }
            };
            entries.push(Entry { minimum_bytes, slot });
        }
        let mut state = self.state();
        state.slots += entries.iter().filter(|entry| entry.slot.is_some()).count();
        Ok(Arc::new(ModuleMemories(entries)))
    }

    /// Gives the next memories that the engine asks for to an instance of the module that `memories`
    /// are of, as long as the answer lives.
    pub(crate) fn announce(&self, memories: &Arc<ModuleMemories>) -> Announced<'_> {
        let mut state = self.state();
        for entry in &memories.0 {
            if let Some(slot) = &entry.slot {
                slot.share_hot_set(state.slots);
            }
        }
        state.announced = Some((Arc::clone(memories), 0));
        Announced(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of the memory that is asked for, if it is one of the announced module's, has a slot,
    /// and no other instance is in that.
    fn next_slot(&self, minimum_bytes: usize) -> Option<SlotOrImage> {
        let mut state = self.state();
        let (memories, next) = state.announced.as_mut()?;
        let entry = memories.0.get(*next)?;
        *next += 1;
        let slot = entry.slot.as_ref().filter(|_| entry.minimum_bytes == minimum_bytes)?;
        Some(match SlotMemory::take(slot) {
            Some(memory) => SlotOrImage::Slot(memory),
            None => SlotOrImage::Image(Arc::clone(slot.image())),
        })
    }
}

enum SlotOrImage {
    Slot(SlotMemory),
    Image(Arc<Image>),
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
            false => match self.next_slot(minimum) {
                Some(SlotOrImage::Slot(memory)) => return Ok(Box::new(memory)),
                Some(SlotOrImage::Image(image)) => Some(image),
                None => None,
            },
        };
        let capacity = reserved.unwrap_or(0).max(minimum);
        let memory = FreshMemory::new(minimum, capacity, guard, image.as_deref());
        match memory {
            Ok(memory) => Ok(Box::new(memory)),
            Err(error) => Err(self.no_address_space(error).to_string()),
        }
    }
}

impl ModuleMemories {
    /// Has writes of a guest in `store`, and of host calls that it makes, go to these memories.
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

    /// Where each memory keeps grown pages without access until the next growth.
    pub(crate) fn windows(&self) -> Vec<Range<usize>> {
        self.0.iter().filter_map(|entry| Some(entry.slot.as_ref()?.window())).collect()
    }
}
