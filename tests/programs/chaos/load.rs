//! The load: threads that submit orders in every way there is, and settle them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stockade::{Bytes, Map, MapAll, Pool, RunError, TaskHandle, TaskOptions};
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
                25..38 => (256, Self::ordered_map),
                38..48 => (256, Self::unordered_map),
                48..53 => (1200, Self::map_of_results),
                53..58 => (1200, Self::map_at_once),
                58..61 => (1200, Self::abandoned_map),
                61..66 => (24, Self::together),
                66..72 => (300, Self::cancelling_together),
                72..80 => (32, Self::cancelling),
                80..84 => (4, Self::cancelling_running),
                84..91 => (16, Self::awaited),
                91..97 => (16, Self::dropped),
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
        let options = options(&mut Random::of_part(self.seed.into(), !order.number));
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
        for (order, handle) in self.orders_together(random, numbers) {
            self.ledger.settle(order, Asked::Nothing, handle);
        }
    }

    fn orders_together(
        &self,
        random: &mut Random,
        numbers: Range<u64>,
    ) -> Vec<(Order, TaskHandle<Bytes>)> {
        let kind = map_kind(random);
        let orders = numbers.map(|number| Order { number, kind });
        let inputs = orders.clone().map(Order::input);
        let target = Order { number: 0, kind }.target();
        let handles = self.pool.submit_together_with(target, inputs, &options(random));
        let accepted = |(order, handle)| match handle {
            Ok(handle) => Some((order, handle)),
            Err(error) => {
                self.ledger.refused(order, &error);
                None
            }
        };
        orders.zip(handles).filter_map(accepted).collect()
    }

    /// Takes some of a batch back, wherever they stand in it, some at once and some after a while.
    fn cancelling_together(&self, random: &mut Random, numbers: Range<u64>) {
        let tasks = self.orders_together(random, numbers);
        let mut asked = vec![Asked::Nothing; tasks.len()];
        for _ in 0..random.between(1, 20) {
            let index = random.below(tasks.len().max(1) as u64) as usize;
            let Some((_, handle)) = tasks.get(index) else { break };
            if random.per_mille(200) {
                handle.wait(random.millis(0, 2));
            }
            if asked[index] == Asked::Nothing {
                asked[index] = Asked::Cancel(handle.cancel());
            }
        }
        for ((order, handle), asked) in tasks.into_iter().zip(asked) {
            self.ledger.settle(order, asked, handle);
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

    /// A map over these orders, which travel as it happens.
    fn map(
        &self,
        random: &mut Random,
        numbers: &Range<u64>,
        kind: Kind,
    ) -> Map<Bytes, impl Iterator<Item = Bytes> + use<>> {
        let inputs = numbers.clone().map(move |number| Order { number, kind }.input());
        let target = Order { number: 0, kind }.target();
        let mut map = self.pool.starmap(target, inputs).timeout(2 * PATIENCE);
        map = map.options(options(random));
        map = match random.below(10) {
            0..4 => map,
            4..7 => map.chunk_size(random.between(1, 32) as usize),
            _ => map.chunk_size(random.between(1, 1024) as usize),
        };
        if random.per_mille(200) {
            map = map.buffer_size(random.between(1, 8) as usize);
        }
        if random.per_mille(200) { map.shared_instance() } else { map }
    }

    fn ordered_map(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let mut map = self.map(random, &numbers, kind);
        let indices = self.settle_map(|| map.next_task(), kind, numbers.start);
        self.demand_in_order(&indices);
        self.demand_all(&indices, &numbers);
    }

    fn unordered_map(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let mut map = self.map(random, &numbers, kind).unordered();
        let indices = self.settle_map(|| map.next_task(), kind, numbers.start);
        self.demand_each_once(indices, &numbers);
    }

    /// All are submitted before the first result is asked for.
    fn map_at_once(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let mut map: MapAll<Bytes> = self.map(random, &numbers, kind).submit_all();
        if random.per_mille(500) {
            let indices = self.settle_map(|| map.next_task(), kind, numbers.start);
            self.demand_in_order(&indices);
            self.demand_all(&indices, &numbers);
        } else {
            map = map.unordered();
            let indices = self.settle_map(|| map.next_task(), kind, numbers.start);
            self.demand_each_once(indices, &numbers);
        }
    }

    /// Nobody asks for anything but the results, so no item ever has a handle.
    fn map_of_results(&self, random: &mut Random, numbers: Range<u64>) {
        let kind = map_kind(random);
        let map = self.map(random, &numbers, kind);
        let mut settled = 0;
        for (number, result) in numbers.clone().zip(map) {
            let order = Order { number, kind };
            match result {
                Ok(bytes) => self.ledger.settle_result(order, Ok(bytes)),
                Err(RunError::Task(error)) => self.ledger.settle_result(order, Err(error)),
                Err(error) => {
                    self.ledger.violation(format!("{order:?} in a map: {error}"));
                    break;
                }
            }
            settled += 1;
        }
        let wanted = numbers.end - numbers.start;
        self.ledger.demand(self.ledger.gave_up() || settled == wanted, || {
            format!("a map of {wanted} items gave {settled} results")
        });
    }

    /// Takes every result of a map; gives the items' indices in the order in which they came.
    fn settle_map(
        &self,
        mut next: impl FnMut() -> Option<(usize, Result<TaskHandle<Bytes>, RunError>)>,
        kind: Kind,
        first: u64,
    ) -> Vec<usize> {
        let mut indices = Vec::new();
        while let Some((index, handle)) = next() {
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

    fn demand_in_order(&self, indices: &[usize]) {
        self.ledger.demand(indices.iter().copied().eq(0..indices.len()), || {
            format!("a map in order gave its items as {indices:?}")
        });
    }

    fn demand_each_once(&self, mut indices: Vec<usize>, numbers: &Range<u64>) {
        indices.sort_unstable();
        self.ledger.demand(indices.iter().copied().eq(0..indices.len()), || {
            format!("a map gave its items, once sorted, as {indices:?}")
        });
        self.demand_all(&indices, numbers);
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
        let mut map = self.map(random, &numbers, Kind::Mix);
        if random.per_mille(300) {
            map = map.unordered();
        }
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

/// Some may be tried again, some go before others.
fn options(random: &mut Random) -> TaskOptions {
    let retries = if random.per_mille(500) { random.between(1, 3) } else { 0 };
    let priority = if random.per_mille(100) { 1 } else { 0 };
    let options = TaskOptions::default().retries(retries as u32).priority(priority);
    // So that the report tells how often it may be tried.
    if retries > 0 { options.label(retries.to_string()) } else { options }
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
