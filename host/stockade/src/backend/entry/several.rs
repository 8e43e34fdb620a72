//! Tasks that have handles and travel together, as the driver holds them.

use std::sync::Arc;

use stockade_wire::descriptor::SendError;
use stockade_wire::{HostMessage, HostPort, PageSlot, StatusPage, TaskId, TaskRange, WorkerId};

use super::{Ending, TaskEntry};
use crate::backend::payload_files::Loan;
use crate::base::sync::Wakers;
use crate::call::inputs::Inputs;
use crate::state::cell::Sent;
use stockade_dispatcher::Moment;

/// Tasks of one function whose numbers follow each other.
#[derive(Debug)]
pub(crate) struct Several {
    pub(super) first: TaskId,
    submitted: Moment,
    /// None once a task has ended.
    tasks: Box<[Option<TaskEntry>]>,
    left: usize,
}

impl Several {
    /// The entries of tasks whose numbers follow each other from `first` on.
    pub(crate) fn new(first: TaskId, tasks: Vec<TaskEntry>) -> Self {
        let left = tasks.len();
        let submitted = tasks.first().map(|one| one.cell.submitted()).unwrap_or_default();
        Self { first, submitted, tasks: tasks.into_iter().map(Some).collect(), left }
    }

    pub(super) fn submitted(&self) -> Moment {
        self.submitted
    }

    pub(super) fn has_ended(&self) -> bool {
        self.left == 0
    }

    pub(super) fn is_of(&self, task: TaskId) -> bool {
        self.index_of(task).is_some_and(|index| index < self.tasks.len())
    }

    fn index_of(&self, task: TaskId) -> Option<usize> {
        usize::try_from(task.0.checked_sub(self.first.0)?).ok()
    }

    pub(super) fn get(&self, task: TaskId) -> Option<&TaskEntry> {
        self.tasks.get(self.index_of(task)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, task: TaskId) -> Option<&mut TaskEntry> {
        let index = self.index_of(task)?;
        self.tasks.get_mut(index)?.as_mut()
    }

    pub(super) fn claim(
        &mut self,
        tasks: TaskRange,
        worker: WorkerId,
        page: &Arc<StatusPage>,
        slot: u8,
    ) -> u32 {
        let claimed = tasks.iter().take_while(|task| {
            let sent = sent(tasks, *task, page, slot);
            self.get_mut(*task).is_some_and(|one| one.claim(worker, sent))
        });
        u32::try_from(claimed.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn send(
        &mut self,
        tasks: TaskRange,
        slot: u8,
        loan: Option<&Loan>,
        port: &mut HostPort,
    ) -> Result<(), SendError> {
        if tasks.count() == 1 {
            let one = self.get_mut(tasks.first());
            return one.map_or(Ok(()), |one| one.send(slot, loan, port));
        }
        let Some(spec) = tasks.iter().find_map(|task| self.get(task)) else { return Ok(()) };
        let spec = spec.cell.spec.clone();
        let mut inputs = Inputs::default();
        for payload in tasks.iter().filter_map(|task| self.get(task)?.payload()) {
            inputs.copy(payload, tasks.count() as usize);
        }
        inputs.fill_up(tasks.count());
        let (invocation, lengths) = inputs.into_calls(spec.function);
        port.send(&HostMessage::Run(spec.run(tasks, invocation, lengths, slot)), &[])
    }

    pub(super) fn returned(&mut self, tasks: TaskRange, worker: WorkerId) {
        for task in tasks.iter() {
            if let Some(one) = self.get_mut(task) {
                one.returned(worker);
            }
        }
    }

    pub(super) fn lost(&mut self, tasks: TaskRange, worker: WorkerId) {
        for task in tasks.iter() {
            if let Some(one) = self.get_mut(task) {
                one.lost(worker);
            }
        }
    }

    pub(super) fn requeue(&mut self, tasks: TaskRange, worker: WorkerId) {
        let of_worker = |one: &&TaskEntry| one.worker() == Some(worker);
        for one in tasks.iter().filter_map(|task| self.get(task)).filter(of_worker) {
            one.cell.requeue();
        }
    }

    pub(super) fn resolve(
        &mut self,
        tasks: TaskRange,
        ending: Ending<'_>,
        wakers: &mut Wakers,
    ) -> bool {
        let mut are_first = true;
        for task in tasks.iter() {
            let place = self.index_of(task).and_then(|index| self.tasks.get_mut(index));
            if let Some(mut one) = place.and_then(Option::take) {
                self.left -= 1;
                are_first &= one.resolve(ending, wakers);
            }
        }
        are_first
    }

    pub(super) fn refuse(self) {
        self.tasks.into_iter().flatten().for_each(TaskEntry::refuse);
    }
}

/// Where a task of a batch stands, which was offered in this slot.
pub(super) fn sent(batch: TaskRange, task: TaskId, page: &Arc<StatusPage>, slot: u8) -> Sent {
    let index = batch.index_of(task).unwrap_or_default();
    Sent { page: page.clone(), place: PageSlot { slot, first: batch.first(), index } }
}
