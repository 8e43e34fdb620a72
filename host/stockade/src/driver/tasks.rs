//! The driver's tasks, by their ids.
//!
//! Ids follow each other, and most tasks end in about the order in which they came. So they are kept
//! in pages of consecutive ids: a task that waits takes no more than a pointer and a little, where a
//! hash table would take four times as much.
//!
//! Invariant: a page that is kept holds a task; so at worst, where one of each page outlives its
//! neighbours, a task takes a page.

use stockade_wire::TaskId;

use crate::entry::TaskEntry;
use crate::ids::IdMap;

/// Ids of a page.
const PAGE_IDS: u64 = 64;

type Entries = Box<[Option<TaskEntry>; PAGE_IDS as usize]>;

struct Page {
    entries: Entries,
    taken: usize,
}

/// Tasks that have not ended.
#[derive(Default)]
pub(super) struct Tasks {
    pages: IdMap<u64, Page>,
    /// Empty, for the next page: where few tasks are under way, one page comes after the other.
    spare: Option<Entries>,
}

impl Tasks {
    pub(super) fn insert(&mut self, entry: TaskEntry) {
        let (number, place) = place(entry.cell.id);
        let spare = &mut self.spare;
        let page = self.pages.entry(number).or_insert_with(|| Page {
            entries: spare.take().unwrap_or_else(|| Box::new([const { None }; PAGE_IDS as usize])),
            taken: 0,
        });
        page.taken += 1;
        page.entries[place] = Some(entry);
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&TaskEntry> {
        let (number, place) = place(id);
        self.pages.get(&number)?.entries[place].as_ref()
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<TaskEntry> {
        let (number, place) = place(id);
        let page = self.pages.get_mut(&number)?;
        let entry = page.entries[place].take()?;
        page.taken -= 1;
        if page.taken == 0 {
            self.spare = self.pages.remove(&number).map(|page| page.entries);
        }
        Some(entry)
    }
}

/// The page of an id, and its place there.
fn place(id: TaskId) -> (u64, usize) {
    (id.0 / PAGE_IDS, (id.0 % PAGE_IDS) as usize)
}
