//! What the simulator must have exercised over its seeds, so that it cannot quietly stop doing so.

use std::collections::BTreeSet;

use super::super::{Action, BrokenCause, CancelReason, Event, Hook, Resolution, ShutdownMode};

/// Everything that has to be seen: every event, action and resolution, and the situations that the
/// dispatcher's subtler rules are about.
const EXPECTED: [&str; 121] = [
    "event: submit",
    "event: cancel",
    "event: cancel running",
    "event: spawn so many workers",
    "event: spawn workers as needed",
    "event: prepared",
    "event: preparation failed",
    "event: ready",
    "event: finished",
    "event: taken back",
    "event: handed back",
    "event: withheld",
    "event: stoppable",
    "event: initializer failed",
    "event: finalizer failed",
    "event: closed",
    "event: misbehaved",
    "event: exited",
    "event: ended from outside",
    "event: spawn failed",
    "event: set idle timeout",
    "event: join",
    "event: join given up",
    "event: drain",
    "event: shutdown",
    "event: kill",
    "action: prepare",
    "action: spawn",
    "action: run one",
    "action: run a batch",
    "action: start",
    "action: recall",
    "action: stop",
    "action: close",
    "action: kill",
    "action: resolve",
    "action: quarantine",
    "action: spawned none",
    "action: spawned",
    "action: joined",
    "action: terminated",
    "broken: initializer",
    "broken: finalizer",
    "broken: preparation",
    "broken: workers cannot start",
    "resolution: finished",
    "resolution: deadline passed",
    "resolution: worker lost",
    "resolution: cancelled, asked",
    "resolution: cancelled, shutdown",
    "resolution: cancelled, broken",
    "resolution: cancelled, quarantined",
    "resolution: cancelled running, asked",
    "resolution: cancelled running, shutdown",
    "situation: a recall came too late",
    "situation: a dying worker's last answer counted",
    "situation: a task was retried",
    "situation: a task was queued again untouched",
    "situation: a task stopped being queued again",
    "situation: several tasks were lost together",
    "situation: a status page lied",
    "situation: a worker retired",
    "situation: a worker idled out",
    "situation: a start timed out",
    "situation: a start was ended from outside",
    "situation: starts were ended from outside for too long",
    "situation: a close timed out",
    "situation: a late message of a worker that is gone",
    "situation: a task was handed back to its caller",
    "situation: a task was not handed back in time",
    "situation: a first task was taken back",
    "situation: a caller took back what the pool wanted",
    "situation: a worker ran dry and was given more than a batch",
    "situation: a busy worker was given more",
    "situation: what was left was shared out",
    "situation: nobody waited behind a slow task",
    "situation: an idle worker was given another's tasks",
    "situation: a task went back to the worker that was to hand it back",
    "situation: a revoked task was answered as if it had run",
    "situation: several events were told at once",
    "situation: a worker died with tasks to hand back",
    "situation: a retired worker was given more after all",
    "situation: a hand-back overtook its cancel",
    "situation: a worker ran what was taken back",
    "situation: a task was stopped as its turn came",
    "situation: a stop came too late",
    "situation: a stop was not answered in time",
    "situation: a lost task was ended in the queue",
    "situation: a task overtook others",
    "situation: a task came back behind a higher priority",
    "situation: a module was forgiven",
    "situation: a quarantined module got no more tasks",
    "situation: a quarantined module finished what it ran",
    "situation: a quarantine cost a task its retry",
    "situation: a request was cut short",
    "situation: a caller waited in line",
    "situation: a caller was sent away",
    "situation: a line was sent away",
    "situation: several tasks were cancelled at once",
    "situation: a cancel passed over tasks that had ended",
    "situation: a batch in the queue was cut by a cancel in its middle",
    "situation: what stood behind a cancelled task waited again",
    "situation: a batch was revoked again from an earlier task on",
    "situation: a recall came too late for some",
    "situation: a part of a batch was recalled",
    "situation: a part of a batch was taken back",
    "situation: several tasks were handed back together",
    "situation: a batch was sent with its rest revoked",
    "situation: a part in the middle of a batch was withheld",
    "situation: a window had more batches than it is given",
    "situation: a window had as many batches as it may",
    "situation: several tasks were answered together",
    "situation: tasks of several batches were answered together",
    "situation: some answers followed and others did not",
    "situation: a batch was answered in part",
    "situation: several tasks were lost for good together",
    "situation: a worker died in the middle of a batch",
    "situation: the first task of a batch was suspected",
    "situation: a batch was cut at a window",
    "situation: a batch was cut for a busy worker",
    "situation: a batch went whole beyond what was wanted",
];

/// What was seen, by those who look.
pub(super) enum Coverage {
    Seen(BTreeSet<&'static str>),
    /// Looking costs a sixth of the time, and the first seeds have seen it all.
    Blind,
}

impl Coverage {
    pub(super) fn see(&mut self, what: &'static str) {
        if let Self::Seen(seen) = self {
            seen.insert(what);
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.see(name_of_event(event));
    }

    pub(super) fn action(&mut self, action: &Action) {
        self.see(name_of_action(action));
        if let Action::Resolve(_, _, resolution) = *action {
            self.see(name_of_resolution(resolution));
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        if let (Self::Seen(seen), Self::Seen(others)) = (self, other) {
            seen.extend(others);
        }
    }

    /// Panics unless everything was seen, and nothing that nobody expects.
    pub(super) fn check(&self) {
        let Self::Seen(seen) = self else { return };
        let expected = BTreeSet::from(EXPECTED);
        let missing: Vec<_> = expected.difference(seen).collect();
        assert!(missing.is_empty(), "never exercised: {missing:?}");
        let unlisted: Vec<_> = seen.difference(&expected).collect();
        assert!(unlisted.is_empty(), "exercised but not listed: {unlisted:?}");
    }
}

fn name_of_event(event: &Event) -> &'static str {
    match event {
        Event::Submit(_) => "event: submit",
        Event::Cancel(_) => "event: cancel",
        Event::CancelRunning(_) => "event: cancel running",
        Event::SpawnWorkers { count: Some(_), .. } => "event: spawn so many workers",
        Event::SpawnWorkers { count: None, .. } => "event: spawn workers as needed",
        Event::Prepared => "event: prepared",
        Event::PreparationFailed => "event: preparation failed",
        Event::Ready(_) => "event: ready",
        Event::Finished { .. } => "event: finished",
        Event::TakenBack { .. } => "event: taken back",
        Event::HandedBack { .. } => "event: handed back",
        Event::Withheld { .. } => "event: withheld",
        Event::Stoppable { .. } => "event: stoppable",
        Event::HookFailed { hook: Hook::Initializer, .. } => "event: initializer failed",
        Event::HookFailed { hook: Hook::Finalizer, .. } => "event: finalizer failed",
        Event::Closed(_) => "event: closed",
        Event::Misbehaved(_) => "event: misbehaved",
        Event::Exited { .. } => "event: exited",
        Event::EndedFromOutside(_) => "event: ended from outside",
        Event::SpawnFailed(_) => "event: spawn failed",
        Event::SetIdleTimeout(_) => "event: set idle timeout",
        Event::Join => "event: join",
        Event::JoinGivenUp => "event: join given up",
        Event::Shutdown(ShutdownMode::Drain) => "event: drain",
        Event::Shutdown(ShutdownMode::Cancel) => "event: shutdown",
        Event::Shutdown(ShutdownMode::Kill) => "event: kill",
    }
}

fn name_of_action(action: &Action) -> &'static str {
    match action {
        Action::Prepare => "action: prepare",
        Action::Spawn(_) => "action: spawn",
        Action::Run(_, _, tasks) if tasks.count() == 1 => "action: run one",
        Action::Run(..) => "action: run a batch",
        Action::Start(..) => "action: start",
        Action::Recall(..) => "action: recall",
        Action::Stop(..) => "action: stop",
        Action::Close(_) => "action: close",
        Action::Kill(_) => "action: kill",
        Action::Resolve(..) => "action: resolve",
        Action::Broken(BrokenCause::Initializer) => "broken: initializer",
        Action::Broken(BrokenCause::Finalizer) => "broken: finalizer",
        Action::Broken(BrokenCause::Preparation) => "broken: preparation",
        Action::Broken(BrokenCause::WorkersCannotStart) => "broken: workers cannot start",
        Action::Quarantine(_) => "action: quarantine",
        Action::Spawned(_, 0) => "action: spawned none",
        Action::Spawned(..) => "action: spawned",
        Action::Joined => "action: joined",
        Action::Terminated => "action: terminated",
    }
}

fn name_of_resolution(resolution: Resolution) -> &'static str {
    use CancelReason::{Asked, Broken, Quarantined, Shutdown};
    match resolution {
        Resolution::Finished => "resolution: finished",
        Resolution::DeadlinePassed => "resolution: deadline passed",
        Resolution::WorkerLost => "resolution: worker lost",
        Resolution::Cancelled(Asked) => "resolution: cancelled, asked",
        Resolution::Cancelled(Shutdown) => "resolution: cancelled, shutdown",
        Resolution::Cancelled(Broken) => "resolution: cancelled, broken",
        Resolution::Cancelled(Quarantined) => "resolution: cancelled, quarantined",
        Resolution::CancelledRunning(Asked) => "resolution: cancelled running, asked",
        Resolution::CancelledRunning(Shutdown) => "resolution: cancelled running, shutdown",
        Resolution::CancelledRunning(Broken) => "resolution: cancelled running, broken",
        Resolution::CancelledRunning(Quarantined) => "resolution: cancelled running, quarantined",
    }
}
