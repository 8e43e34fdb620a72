//! Slices: a function over numbers, applied to a whole slice of them, piece by piece.
//!
//! ```text
//! items ─ cut, pack ─► Column ─ a task each ─► driver ─► Inbox ─► Results ─ unpack, in order ─► Vec
//! ```
//!
//! A piece travels as one task: it costs the pool what one item of a map costs.
//!
//! Invariant: either each item has its result, or the caller is told of the first in their order that
//! has none.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use stockade_wire::{Limits, ValueType};

use super::results::Results;
use crate::api::pool::Pool;
use crate::api::submit::MapBatch;
use crate::api::task::TaskResult;
use crate::call::inputs::Inputs;
use crate::call::options::TaskOptions;
use crate::call::payload::{ColumnPayload, Payload};
use crate::outcome::error::{SliceError, SubmitError, TaskError, Undecodable};
use crate::outcome::output::Output;
use crate::state::cell::{Completed, Leftovers};
use crate::state::inbox::Inbox;
use crate::state::semaphore::Patience;
use crate::state::spec::TaskSpec;

/// A number that [`Function::map_slice`](crate::Function::map_slice) takes or returns: `i32`,
/// `u32`, `i64`, `u64`, `f32` or `f64`.
///
/// Sealed: no other type can implement it.
pub trait SliceItem: TaskResult + Copy + sealed::Sealed {
    /// What it is in WebAssembly.
    #[doc(hidden)]
    const TYPE: ValueType;

    /// Items as they travel: end to end, little-endian.
    #[doc(hidden)]
    fn pack(items: &[Self]) -> Vec<u8>;

    /// Appends what has travelled.
    #[doc(hidden)]
    fn unpack(bytes: &[u8], items: &mut Vec<Self>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! items {
    ($($type:ident: $of:ident),*) => {$(
        impl sealed::Sealed for $type {}

        impl SliceItem for $type {
            const TYPE: ValueType = ValueType::$of;

            fn pack(items: &[Self]) -> Vec<u8> {
                // As one copy, which an iterator over bytes is not.
                let mut bytes = vec![0; size_of_val(items)];
                for (to, item) in bytes.as_chunks_mut().0.iter_mut().zip(items) {
                    *to = item.to_le_bytes();
                }
                bytes
            }

            fn unpack(bytes: &[u8], items: &mut Vec<Self>) {
                let (numbers, _) = bytes.as_chunks();
                items.extend(numbers.iter().map(|number| Self::from_le_bytes(*number)));
            }
        }
    )*};
}

items!(i32: I32, u32: I32, i64: I64, u64: I64, f32: F32, f64: F64);

/// How long a piece is meant to take: far more than its message and its instance cost, and little
/// besides any limit on time.
const PIECE_TIME: Duration = Duration::from_millis(2);

/// The most bytes of the items of a piece, and of its results: what stays in a processor's cache.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// Items of a piece of a deterministic task: it must not depend on how fast the machine is.
const DETERMINISTIC_ITEMS: usize = 4096;

/// Towards the end pieces become no smaller than this for that alone.
const LAST_ITEMS: usize = 1024;

/// Pieces under way for each worker: one that runs, and one that it has when that is done. A worker has
/// as many files for long inputs.
const PIECES_EACH: usize = 2;

/// How many items the next piece takes.
#[derive(Debug)]
struct Sizes {
    workers: usize,
    most: usize,
    is_fixed: bool,
    /// How long an item took of late, in nanoseconds; `None` while unknown.
    pace_nanos: Option<u128>,
}

impl Sizes {
    fn new(workers: usize, limits: &Limits, item_bytes: usize, result_bytes: usize) -> Self {
        let travelling = PIECE_BYTES_MAX / item_bytes.max(result_bytes);
        let allowed = limits.output_bytes / result_bytes as u64;
        let most = travelling.min(usize::try_from(allowed).unwrap_or(usize::MAX)).max(1);
        Self { workers, most, is_fixed: limits.deterministic.is_some(), pace_nanos: None }
    }

    /// A piece of so many items took so long, or so its worker says.
    fn note(&mut self, items: usize, time: Duration) {
        self.pace_nanos = Some((time.as_nanos() / items.max(1) as u128).max(1));
    }

    fn under_way_max(&self) -> usize {
        let each = if self.pace_nanos.is_none() && !self.is_fixed { 1 } else { PIECES_EACH };
        self.workers.max(1) * each
    }

    /// How many the next takes, where so many are left.
    fn next(&self, left: usize) -> usize {
        let wanted = match self.pace_nanos {
            _ if self.is_fixed => DETERMINISTIC_ITEMS,
            None => 1,
            Some(nanos) => {
                let fitting = usize::try_from(PIECE_TIME.as_nanos() / nanos).unwrap_or(usize::MAX);
                let share = left.div_ceil(PIECES_EACH * self.workers.max(1));
                fitting.min(share.max(LAST_ITEMS))
            }
        };
        wanted.min(self.most).min(left).max(1)
    }
}

/// Applies the function of `spec` to every item.
pub(crate) fn map_slice<A: SliceItem, T: SliceItem>(
    pool: &Pool,
    spec: &Arc<TaskSpec>,
    options: &TaskOptions,
    items: &[A],
) -> Result<Vec<T>, SliceError> {
    pool.core.check_column(spec, A::TYPE, T::TYPE)?;
    let mut results = Results::<T>::ordered(pool.core.link.clone());
    let sizes = Sizes::new(pool.max_workers(), &spec.limits, size_of::<A>(), size_of::<T>());
    let mut slice = Slice { pool, spec, options, items, sizes, cut: 0, pieces: VecDeque::new() };
    let mut gathered = Vec::with_capacity(items.len());
    while gathered.len() < items.len() {
        slice.fill(&mut results)?;
        match results.next_item() {
            Some(ended) => slice.take(ended, &mut gathered)?,
            // Some piece is under way, and none is refused after it was submitted.
            None => return Err(SubmitError::Closed.into()),
        }
    }
    Ok(gathered)
}

/// A slice of which some is cut into pieces that are under way.
struct Slice<'a, A> {
    pool: &'a Pool,
    spec: &'a Arc<TaskSpec>,
    options: &'a TaskOptions,
    items: &'a [A],
    sizes: Sizes,
    /// How many items are cut off.
    cut: usize,
    /// The pieces that are under way, in order.
    pieces: VecDeque<Range<usize>>,
}

impl<A: SliceItem> Slice<'_, A> {
    /// Submits pieces until enough are under way, or the pool is full.
    fn fill<T: SliceItem>(&mut self, results: &mut Results<T>) -> Result<(), SubmitError> {
        let core = &self.pool.core;
        while self.cut < self.items.len() && results.len() < self.sizes.under_way_max() {
            let is_alone = results.is_empty();
            let patience = if is_alone { core.patience(self.options) } else { Patience::None };
            let permit = match core.permit(patience) {
                Ok(permit) => permit,
                Err(SubmitError::Full { .. }) if !is_alone => break,
                Err(error) => return Err(error),
            };
            core.check_column(self.spec, A::TYPE, T::TYPE)?;
            let end = self.cut + self.sizes.next(self.items.len() - self.cut);
            let piece = self.cut..end;
            let index = results.given() + results.len();
            let batch = MapBatch {
                may_grow: false,
                inbox: Arc::<Inbox>::clone(results.inbox()),
                spec: self.spec.clone(),
                inputs: Inputs::one(self.payload::<T>(piece.clone())),
                index,
                share: None,
                permit,
            };
            results.submitted(core.enqueue_batch(batch, self.options)?, index);
            self.cut = end;
            self.pieces.push_back(piece);
        }
        Ok(())
    }

    fn payload<T: SliceItem>(&self, piece: Range<usize>) -> Payload {
        let count = piece.len();
        Payload::Column(Box::new(ColumnPayload {
            item: A::TYPE,
            // As many as fit into some hundred KiB.
            count: count as u32,
            result_bytes: (count * size_of::<T>()) as u64,
            input: A::pack(self.items.get(piece).unwrap_or_default()),
        }))
    }

    /// Takes what the first of the pieces under way has come to.
    fn take<T: SliceItem>(
        &mut self,
        (mut completed, leftovers): (Completed, Option<Leftovers>),
        gathered: &mut Vec<T>,
    ) -> Result<(), SliceError> {
        let piece = self.pieces.pop_front().unwrap_or_default();
        let failed = leftovers.and_then(|leftovers| leftovers.item);
        let result = match mem::replace(&mut completed.result, Ok(Output::InPlace)) {
            // The driver has compared their length with that of the items.
            Ok(Output::Encoded { bytes, .. }) => {
                T::unpack(&bytes, gathered);
                Ok(())
            }
            // It accepts nothing else of a column.
            Ok(_) => Err(TaskError::Decode(Undecodable::of_another_type("no column of results"))),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.sizes.note(piece.len(), completed.report.wall_time),
            Err(error) => {
                return Err(match failed {
                    Some(item) => SliceError::Item { index: piece.start + item as usize, error },
                    None => SliceError::Piece { items: piece, error },
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(limits: &Limits, pace_nanos: Option<u128>) -> Sizes {
        Sizes { pace_nanos, ..Sizes::new(2, limits, 8, 8) }
    }

    #[test]
    fn a_piece_takes_about_its_time_and_no_more_than_can_travel() {
        let limits = Limits::default();
        let next = |pace| sizes(&limits, pace).next(1_000_000);
        assert_eq!(next(None), 1, "nobody knows how long an item takes");
        assert_eq!(next(Some(1_000)), 2_000);
        assert_eq!(next(Some(10)), PIECE_BYTES_MAX / 8);
        assert_eq!(next(Some(10_000_000)), 1);
    }

    #[test]
    fn pieces_become_smaller_towards_the_end() {
        let sizes = sizes(&Limits::default(), Some(10));
        let pieces = [100_000, 40_000, 4_000, 1_000, 1].map(|left| sizes.next(left));
        assert_eq!(pieces, [25_000, 10_000, 1_024, 1_000, 1]);
    }

    #[test]
    fn a_piece_has_no_more_results_than_the_limit_on_output_allows() {
        let next = |bytes| sizes(&Limits::default().output_bytes(bytes), Some(1)).next(1_000_000);
        assert_eq!([next(800), next(807), next(8), next(7), next(0)], [100, 100, 1, 1, 1]);
    }

    #[test]
    fn pieces_of_deterministic_tasks_do_not_depend_on_time() {
        let limits = Limits::default().deterministic(7);
        for pace in [None, Some(1), Some(1_000_000)] {
            assert_eq!(sizes(&limits, pace).next(1_000_000), DETERMINISTIC_ITEMS);
        }
        assert_eq!(sizes(&limits, None).next(10), 10);
    }

    #[test]
    fn what_a_worker_says_of_its_time_is_no_reason_to_fall() {
        let mut sizes = sizes(&Limits::default(), None);
        for time in [Duration::ZERO, Duration::MAX] {
            sizes.note(1, time);
            assert!((1..=PIECE_BYTES_MAX / 8).contains(&sizes.next(usize::MAX)));
        }
    }

    #[test]
    fn numbers_travel_bit_by_bit() {
        fn back<N: SliceItem>(items: &[N]) -> Vec<N> {
            let mut back = Vec::new();
            N::unpack(&N::pack(items), &mut back);
            back
        }
        assert_eq!(back(&[i32::MIN, -1, 0]), [i32::MIN, -1, 0]);
        assert_eq!(back(&[u64::MAX, 1]), [u64::MAX, 1]);
        let payload = f64::from_bits(0x7ff4_dead_beef_0001);
        assert_eq!(back(&[payload])[0].to_bits(), payload.to_bits());
    }
}
