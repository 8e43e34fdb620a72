//! The meter: an instance's limits on memory and tables, its usage, and its refused growth.
//!
//! wasmtime's own limiter counts each memory by itself; this one counts all of an instance's
//! together. Invariant: the count never falls below what the instance really has. If an allowed
//! growth fails afterwards, the count stays too high, which harms only the guest.

use stockade_module::{MEMORIES_MAX, TABLES_MAX};
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
    /// Whether it has grown since.
    has_coped: bool,
}

impl Meter {
    /// Restarts for an invocation under `limits`; the instance keeps its memory. If it has more
    /// than they allow, it cannot grow: earlier tasks took it, and a guest's memory cannot shrink.
    pub(crate) fn begin(&mut self, limits: &Limits) {
        self.memory_limit = limits.memory_bytes;
        self.table_limit = limits.table_elements;
        self.memory_peak_bytes = self.memory_bytes;
        (self.refused_bytes, self.has_coped) = (None, false);
    }

    /// Forgets what the instance was refused, for another call of the same invocation.
    pub(crate) fn forget_refusal(&mut self) {
        (self.refused_bytes, self.has_coped) = (None, false);
    }

    /// The most memory the instance had in this invocation.
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes
    }

    /// The size that the instance wanted when its last growth was refused.
    pub(crate) fn refused_bytes(&self) -> Option<u64> {
        self.refused_bytes
    }

    /// As [`refused_bytes`](Self::refused_bytes), if the instance has not grown since.
    pub(crate) fn last_refused_bytes(&self) -> Option<u64> {
        self.refused_bytes.filter(|_| !self.has_coped)
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
            (self.refused_bytes, self.has_coped) = (Some(total), false);
            return Ok(false);
        }
        // A growth of 0 only reads the size.
        self.has_coped |= desired > current;
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
        MEMORIES_MAX
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
    fn a_growth_after_a_refusal_shows_that_the_guest_gets_by() {
        let mut meter = meter(100);
        assert!(meter.memory_growing(0, 10, None).unwrap());
        for (current, desired, last) in
            [(10, 101, Some(101)), (10, 10, Some(101)), (10, 20, None), (20, 102, Some(102))]
        {
            meter.memory_growing(current, desired, None).unwrap();
            assert_eq!(meter.last_refused_bytes(), last, "{desired}");
        }
        assert!(meter.memory_growing(20, 30, None).unwrap());
        assert_eq!((meter.last_refused_bytes(), meter.refused_bytes()), (None, Some(102)));
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
