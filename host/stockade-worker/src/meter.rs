//! The meter: what an instance may have of memory and tables, what it has, and what it was refused.
//!
//! wasmtime's own limiter counts each memory by itself; this one counts all of an instance's
//! together. Invariant: the count never falls below what the instance really has. Where a growth
//! that was allowed fails afterwards the count stays too high, to the guest's loss alone.

use stockade_module::TABLES_MAX;
use stockade_wire::Limits;
use wasmtime::ResourceLimiter;

/// Counts for one instance.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    memory_limit: u64,
    table_limit: u64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    table_elements: u64,
    refused_bytes: Option<u64>,
}

impl Meter {
    /// Counts anew for an invocation under `limits`; what the instance has, it keeps. Where that is
    /// more than they allow it cannot grow: the task did not take it, so it is not to blame, and
    /// memory cannot be taken from a guest that knows its size.
    pub(crate) fn begin(&mut self, limits: &Limits) {
        self.memory_limit = limits.memory_bytes;
        self.table_limit = limits.table_elements;
        self.memory_peak_bytes = self.memory_bytes;
        self.refused_bytes = None;
    }

    /// The most memory the instance had in this invocation.
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes
    }

    /// How much the instance wanted to have when its last growth was refused.
    pub(crate) fn refused_bytes(&self) -> Option<u64> {
        self.refused_bytes
    }

    /// The limit on memory.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.memory_limit
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.memory_limit {
            self.refused_bytes = Some(total);
            return Ok(false);
        }
        self.memory_bytes = total;
        self.memory_peak_bytes = self.memory_peak_bytes.max(total);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        let allowed = total <= self.table_limit;
        if allowed {
            self.table_elements = total;
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(memory_bytes: u64) -> Meter {
        let mut meter = Meter::default();
        meter.begin(&Limits::default().memory_bytes(memory_bytes).table_elements(10));
        meter
    }

    #[test]
    fn growth_to_the_limit_is_allowed_and_one_byte_more_is_refused() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 100, None).unwrap());
        assert_eq!(meter.refused_bytes(), None);
        assert!(!meter.memory_growing(100, 101, None).unwrap());
        assert_eq!(meter.refused_bytes(), Some(101));
        assert_eq!(meter.memory_peak_bytes(), 100);
    }

    #[test]
    fn two_memories_share_one_limit() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert_eq!(meter.refused_bytes(), Some(120));
    }

    #[test]
    fn tables_share_their_own_limit() {
        let mut meter = meter(0);
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.table_growing(0, 1, None).unwrap());
    }

    #[test]
    fn a_new_invocation_forgets_the_refusal_and_keeps_the_count() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 80, None).unwrap());
        assert!(!meter.memory_growing(80, 200, None).unwrap());
        meter.begin(&Limits::default().memory_bytes(90));
        assert_eq!(meter.refused_bytes(), None);
        assert_eq!(meter.memory_peak_bytes(), 80);
        assert!(!meter.memory_growing(80, 91, None).unwrap());
    }
}
