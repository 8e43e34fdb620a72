//! The load: threads that submit orders in every way there is, and settle them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stockade::{Bytes, Map, Pool, RunError, TaskHandle, TaskOptions};
use stockade_tests::{PATIENCE, Random, block_on_for};

use crate::ledger::{Asked, End, Ledger};
use crate::orders::{Kind, Order};

/// What all submitting threads share.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) ledger: &'a Ledger,
    pub(crate) seed: u32,
    pub(crate) tasks: u64,
    /// When to stop even if orders are left.
    pub(crate) until: Option<Instant>,
    pub(crate) next: AtomicU64,
}

/// One way to submit orders and to settle them.
type Way<'a> = fn(&Load<'a>, &mut Random, Range<u64>);

impl<'a> Load<'a> {
    /// Submits until nothing is left, as the submitter with this number.
    pub(crate) fn submit(&self, submitter: u64) {
        let mut random = Random::of_part(self.seed.into(), u64::MAX - submitter);
        loop {
            let (most, way): (u64, Way<'a>) = match random.below(100) {
                0..25 => (32, Self::burst),
                25..45 => (256, Self::ordered_map),
                45..60 => (256, Self::unordered_map),
                60..70 => (24, Self::together),
                70..80 => (32, Self::cancelling),
                80..83 => (4, Self::cancelling_running),
                83..90 => (16, Self::awaited),
                90..97 => (16, Self::dropped),
                _ => (128, Self::abandoned_map),
            };
            let orders = self.take(random.between(1, most));
            if orders.is_empty() {
                return;
            }
            way(self, &mut random, orders);
        }
    }

    /// Takes numbers of orders that nobody else takes; none when it is time to stop.
    fn take(&self, count: u64) -> Range<u64> {
        let late = self.until.is_some_and(|until| until <= Instant::now());
        if late || self.ledger.gave_up() {
            return 0..0;
        }
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first.min(self.tasks)..(first + count).min(self.tasks)
    }

    /// Submits an order; some may be tried again, some go before others.
    fn order(&self, order: Order) -> Option<(Order, TaskHandle<Bytes>)> {
        let mut random = Random::of_part(self.seed.into(), !order.number);
        let retries = if random.per_mille(500) { random.between(1, 3) } else { 0 };
        let priority = if random.per_mille(100) { 1 } else { 0 };
        let options = TaskOptions::default().retries(retries as u32).priority(priority);
        match self.pool.submit_with(order.target(), order.input(), options) {
            Ok(handle) => Some((order, handle)),
            Err(error) => {
                self.ledger.refused(order, &error);
                None
            }
        }
    }

    fn orders(&self, numbers: Range<u64>) -> Vec<(Order, TaskHandle<Bytes>)> {
        numbers.filter_map(|number| self.order(Order::of(self.seed, number))).collect()
    }

    fn burst(&self, _: &mut Random, numbers: Range<u64>) {
        for (order, handle) in self.orders(numbers) {
            self.ledger.settle(order, Asked::Nothing, handle);
        }
    }

    fn together(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let orders = numbers.map(|number| Order { number, kind });
        let inputs = orders.clone().map(Order::input);
        let target = Order { number: 0, kind }.target();
        let handles = self.pool.submit_together::<Bytes, _>(target, inputs);
        for (order, handle) in orders.zip(handles) {
            match handle {
                Ok(handle) => self.ledger.settle(order, Asked::Nothing, handle),
                Err(error) => self.ledger.refused(order, &error),
            }
        }
    }

    /// Takes every other task back, some at once and some after a while.
    fn cancelling(&self, random: &mut Random, numbers: Range<u64>) {
        let mut asked = Vec::new();
        for (order, handle) in self.orders(numbers) {
            if random.per_mille(100) {
                handle.wait(random.millis(0, 2));
            }
            let what = match random.below(4) {
                0 | 1 => Asked::Cancel(handle.cancel()),
                _ => Asked::Nothing,
            };
            asked.push((order, what, handle));
        }
        for (order, what, handle) in asked {
            self.ledger.settle(order, what, handle);
        }
    }

    /// Ends tasks that would never end, and some that would; few are left to their deadline.
    fn cancelling_running(&self, random: &mut Random, numbers: Range<u64>) {
        for number in numbers {
            let kind = random.one_of(&[Kind::Spin, Kind::Mix, Kind::Nap]);
            let Some((order, handle)) = self.order(Order { number, kind }) else { return };
            let mut asked = Asked::Nothing;
            if !random.per_mille(20) {
                handle.wait(random.millis(0, 10));
                handle.cancel_running();
                asked = Asked::CancelRunning;
            }
            self.ledger.settle(order, asked, handle);
        }
    }

    fn awaited(&self, _: &mut Random, numbers: Range<u64>) {
        for (order, mut handle) in self.orders(numbers) {
            if block_on_for(&mut handle, PATIENCE).is_none() {
                self.ledger.violation(format!("{order:?} was awaited for {PATIENCE:?}"));
            }
            self.ledger.settle(order, Asked::Nothing, handle);
        }
    }

    /// Nobody waits for these.
    fn dropped(&self, random: &mut Random, numbers: Range<u64>) {
        let kept = self.orders(numbers);
        let dropped = kept.len() as u64;
        if random.per_mille(500) {
            // Until one of them has ended, so that not all are dropped in the queue.
            if let Some((_, handle)) = kept.first() {
                handle.wait(PATIENCE);
            }
        }
        drop(kept);
        self.ledger.count(End::Abandoned, dropped);
    }

    fn ordered_map(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let inputs = numbers.clone().map(|number| Order { number, kind }.input());
        let target = Order { number: 0, kind }.target();
        let map = self.pool.starmap::<Bytes, _, _>(target, inputs);
        let map = map.chunk_size(random.between(1, 32) as usize).timeout(2 * PATIENCE);
        let indices = self.settle_map(map, kind, numbers.start);
        let expected = 0..indices.len();
        self.ledger.demand(indices.iter().copied().eq(expected), || {
            format!("a map in order gave its items as {indices:?}")
        });
        self.demand_all(&indices, &numbers);
    }

    fn unordered_map(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let inputs = numbers.clone().map(|number| Order { number, kind }.input());
        let target = Order { number: 0, kind }.target();
        let map = self.pool.starmap::<Bytes, _, _>(target, inputs).unordered();
        let map = map.chunk_size(random.between(1, 32) as usize).timeout(2 * PATIENCE);
        let mut indices = self.settle_map(map, kind, numbers.start);
        indices.sort_unstable();
        indices.dedup();
        self.demand_all(&indices, &numbers);
    }

    /// Takes every result of a map; gives the items' indices in the order in which they came.
    fn settle_map<I: Iterator<Item = Bytes>>(
        &self,
        mut map: Map<Bytes, I>,
        kind: Kind,
        first: u64,
    ) -> Vec<usize> {
        let mut indices = Vec::new();
        while let Some((index, handle)) = map.next_task() {
            let order = Order { number: first + index as u64, kind };
            match handle {
                Ok(handle) => self.ledger.settle(order, Asked::Nothing, handle),
                Err(RunError::Submit(error)) => {
                    self.ledger.refused(order, &error);
                    break;
                }
                Err(error) => {
                    self.ledger.violation(format!("{order:?} in a map: {error}"));
                    break;
                }
            }
            indices.push(index);
        }
        indices
    }

    fn demand_all(&self, indices: &[usize], numbers: &Range<u64>) {
        let wanted = numbers.end - numbers.start;
        self.ledger.demand(self.ledger.gave_up() || indices.len() as u64 == wanted, || {
            format!("a map of {wanted} items gave {}", indices.len())
        });
    }

    /// Drops a map in its middle, which cancels what it has queued.
    fn abandoned_map(&self, random: &mut Random, numbers: Range<u64>) {
        let wanted = random.below(numbers.end - numbers.start + 1);
        let orders = numbers.clone().map(|number| Order { number, kind: Kind::Mix });
        let map = self.pool.starmap::<Bytes, _, _>("mix", orders.map(Order::input));
        let mut map = map.chunk_size(random.between(1, 32) as usize).timeout(2 * PATIENCE);
        for _ in 0..wanted {
            match map.next_task() {
                Some((index, Ok(handle))) => {
                    let order = Order { number: numbers.start + index as u64, kind: Kind::Mix };
                    self.ledger.settle(order, Asked::Nothing, handle);
                }
                Some((index, Err(error))) => {
                    self.ledger.violation(format!("item {index} of {numbers:?}: {error}"));
                    break;
                }
                None => self.ledger.violation(format!("a map of {numbers:?} ended early")),
            }
        }
        self.ledger.count(End::Abandoned, numbers.end - numbers.start - wanted);
    }
}

/// What all items of one map are.
fn map_kind(random: &mut Random) -> Kind {
    match random.below(100) {
        0..4 => Kind::Emit,
        4..8 => Kind::Fail,
        8..10 => Kind::Trap,
        10 => Kind::Nap,
        _ => Kind::Mix,
    }
}
