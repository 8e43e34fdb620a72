//! The driver's tasks, by their ids.
//!
//! Ids follow each other, and most tasks end in about the order in which they came. So they are kept
//! in pages of consecutive ids: a task that waits takes no more than a pointer and a little, where a
//! hash table would take four times as much.
//!
//! Invariant: a page that is kept holds a task; so at worst, where one of each page outlives its
//! neighbours, a task takes a page.

use stockade_wire::TaskId;

use crate::ids::IdMap;

/// Ids of a page.
const PAGE_IDS: u64 = 64;

type Entries<E> = Box<[Option<E>; PAGE_IDS as usize]>;

struct Page<E> {
    entries: Entries<E>,
    taken: usize,
}

/// Tasks that have not ended.
pub(super) struct Tasks<E> {
    pages: IdMap<u64, Page<E>>,
    /// Empty, for the next page: where few tasks are under way, one page comes after the other.
    spare: Option<Entries<E>>,
}

impl<E> Default for Tasks<E> {
    fn default() -> Self {
        Self { pages: IdMap::default(), spare: None }
    }
}

impl<E> Tasks<E> {
    /// Adds the task of an id that is never used again.
    pub(super) fn insert(&mut self, id: TaskId, entry: E) {
        let (number, place) = place(id);
        let spare = &mut self.spare;
        let page = self.pages.entry(number).or_insert_with(|| Page {
            entries: spare.take().unwrap_or_else(|| Box::new([const { None }; PAGE_IDS as usize])),
            taken: 0,
        });
        page.taken += 1;
        page.entries[place] = Some(entry);
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&E> {
        let (number, place) = place(id);
        self.pages.get(&number)?.entries[place].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut E> {
        let (number, place) = place(id);
        self.pages.get_mut(&number)?.entries[place].as_mut()
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<E> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_found_until_it_is_removed_and_no_page_is_kept_without_one() {
        let mut tasks = Tasks::default();
        let ids = || (1..=1000).chain([u64::MAX, 1 << 40]);
        ids().for_each(|id| tasks.insert(TaskId(id), id));
        assert_eq!(tasks.pages.len(), 16 + 2);
        // Every third first, then what is left: no page is emptied at once.
        for id in ids().filter(|id| id % 3 == 0).chain(ids().filter(|id| id % 3 > 0)) {
            assert_eq!(tasks.get(TaskId(id)), Some(&id));
            assert_eq!(tasks.remove(TaskId(id)), Some(id));
            assert_eq!(tasks.get(TaskId(id)), None);
            assert_eq!(tasks.remove(TaskId(id)), None);
        }
        assert!(tasks.pages.is_empty());
    }
}
