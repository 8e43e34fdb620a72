//! Deaths of workers by module, and quarantines.
//!
//! Invariant: a module that was quarantined stays so.
//!
//! Deliberately absent: which death counts. The dispatcher decides the module.

use alloc::collections::{BTreeMap, BTreeSet};

use stockade_wire::ModuleId;

/// Deaths held against modules.
#[derive(Debug)]
pub(super) struct Losses {
    in_a_row_max: Option<u32>,
    in_a_row: BTreeMap<ModuleId, u32>,
    quarantined: BTreeSet<ModuleId>,
}

impl Losses {
    /// No losses.
    pub(super) fn new(in_a_row_max: Option<u32>) -> Self {
        Self { in_a_row_max, in_a_row: BTreeMap::new(), quarantined: BTreeSet::new() }
    }

    /// A worker died of a module. Returns whether that quarantines the module.
    pub(super) fn lost(&mut self, module: ModuleId) -> bool {
        let losses = self.in_a_row.entry(module).or_default();
        *losses = losses.saturating_add(1);
        let too_many = self.in_a_row_max.is_some_and(|max| *losses >= max);
        too_many && self.quarantined.insert(module)
    }

    /// A task of a module was finished.
    pub(super) fn finished(&mut self, module: ModuleId) {
        self.in_a_row.remove(&module);
    }

    /// Whether a module's tasks may not start.
    pub(super) fn is_quarantined(&self, module: ModuleId) -> bool {
        self.quarantined.contains(&module)
    }
}
