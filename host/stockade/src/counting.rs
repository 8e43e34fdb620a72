//! What `just bench-instructions` counts of the host: the work for each task that no process and no
//! clock takes part in.
//!
//! Only with the feature `counting`, and no part of this crate's interface.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::time::Duration;

use stockade_wire::{ModuleId, TaskId, TaskRange, WorkerId};

use crate::api::pool::Pool;
use stockade_dispatcher::{Action, Dispatcher, EntryKey, Event, Submission};

/// Workers of the dispatcher that is counted.
const WORKERS: usize = 2;

/// Has a dispatcher of two workers schedule so many tasks, of which at most `in_flight` are pending or
/// running at a time, in batches of so many, and returns how many it has resolved. Time stands still.
pub fn dispatch(tasks: u64, in_flight: usize, batch: u32) -> u64 {
    let builder = Pool::builder().max_workers(WORKERS).idle_timeout(None);
    let mut dispatcher = Dispatcher::new(builder.config(false));
    let mut world = World::default();
    let mut submitted = 0;
    while world.resolved < tasks {
        while submitted < tasks && submitted - world.resolved < in_flight as u64 {
            let submission = submission(submitted + 1, batch);
            submitted += u64::from(batch);
            dispatcher.handle_event(Duration::ZERO, Event::Submit(submission));
        }
        world.perform(&mut dispatcher);
        let Some(event) = world.answers.pop_front() else { break };
        dispatcher.handle_event(Duration::ZERO, event);
        world.perform(&mut dispatcher);
    }
    world.resolved
}

fn submission(first: u64, batch: u32) -> Submission {
    Submission {
        tasks: TaskRange::new(TaskId(first), batch).expect("a batch has tasks"),
        entry: EntryKey(0),
        module: ModuleId(0),
        priority: 0,
        task_bytes: 64,
        wall_time: Some(Duration::from_secs(60)),
        retries: 0,
    }
}

/// Workers that start at once and run whatever they are given.
#[derive(Default)]
struct World {
    answers: VecDeque<Event>,
    resolved: u64,
}

impl World {
    fn perform(&mut self, dispatcher: &mut Dispatcher) {
        while let Some(action) = dispatcher.poll_action() {
            match action {
                Action::Spawn(worker) => self.answers.push_back(Event::Ready(worker)),
                Action::Run(worker, _, tasks) => self.answers.push_back(finished(worker, tasks)),
                Action::Resolve(_, tasks, _) => self.resolved += u64::from(tasks.count()),
                _ => {}
            }
        }
    }
}

fn finished(worker: WorkerId, tasks: TaskRange) -> Event {
    Event::Finished { worker, tasks, wall_time: Duration::from_micros(5) * tasks.count() }
}

/// Has callers submit so many tasks, one by one, to a pool whose workers cannot be started.
pub fn submit(tasks: u64) {
    let blueprint = blueprint();
    let pool = Pool::start(blueprint).expect("there are threads");
    let handles: Vec<crate::TaskHandle<crate::Bytes>> = (0..tasks)
        .map(|_| pool.submit("handle", crate::Bytes(vec![7; 64])).expect("it is open"))
        .collect();
    assert_eq!(pool.count_pending_tasks() as u64, tasks);
    std::hint::black_box(&handles);
    // What follows is no part of this.
    std::process::exit(0);
}

fn blueprint() -> crate::api::pool::Blueprint {
    use stockade_wire::*;
    let config = stockade_dispatcher::Config {
        backoff_min: Duration::from_secs(3600),
        backoff_max: Duration::from_secs(3600),
        ..Pool::builder().max_workers(WORKERS).idle_timeout(None).config(false)
    };
    let kind = ExportType::Function { params: Vec::new(), results: vec![ValueType::I32] };
    let description = ModuleDescription {
        exports: vec![Export { name: "handle".into(), kind }],
        imports: vec![Import {
            module: "stockade".into(),
            name: "input_len".into(),
            type_name: String::new(),
        }],
        ..ModuleDescription::default()
    };
    let callables = crate::call::target::Callables::of(&description);
    let module = crate::call::target::ModuleEntry {
        id: ModuleId(0),
        name: "guest".into(),
        callables,
        description,
        source: None,
    };
    let limits = Limits::default();
    crate::api::pool::Blueprint {
        config,
        max_pending_tasks: None,
        when_full: crate::WhenFull::Fail,
        shutdown_grace_period: Duration::from_secs(1),
        metered: false,
        program: "/dev/null".into(),
        setup: Setup {
            worker: WorkerId(0),
            name: "counted".into(),
            engine: limits.engine_settings(),
            limits,
            grants: Grants::none(),
            instances: Instances::PerTask,
            confinement: Confinement::default(),
            modules: 0,
            memories: 0,
            rings: true,
            coredumps: None,
        },
        name: "counted".into(),
        modules: vec![module],
        loadables: Vec::new(),
        preparation: None,
        initializer: None,
        finalizer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_resolved() {
        assert_eq!(dispatch(1_000, 1, 1), 1_000);
        assert_eq!(dispatch(1_000, 100, 1), 1_000);
        assert_eq!(dispatch(1_000, 100, 20), 1_000);
    }
}
