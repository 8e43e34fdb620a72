//! A map's inbox in every order of its driver, its worker and its consumer: `just shuttle`.

use std::sync::Arc;

use shuttle::sync::mpsc;
use stockade_wire::{PageSlot, StatusPage};

use super::*;
use crate::backend::event_loop::EventLoop;
use crate::base::sync::model::{StreamPoller, Time, check, pause};
use crate::base::sync::{thread, wake};
use crate::outcome::output::Output;
use crate::outcome::report::{Status, Summary};
use crate::state::callbacks::Callbacks;
use crate::state::link::Link;
use crate::state::shared::Shared;

const BATCH_TASKS: u32 = 3;

fn batch() -> TaskRange {
    TaskRange::new(TaskId(7), BATCH_TASKS).unwrap()
}

fn place(index: u32) -> PageSlot {
    PageSlot { slot: 0, first: batch().first(), index }
}

fn event_loop() -> Arc<EventLoop> {
    Arc::new(EventLoop::new(None, Arc::new(Shared::new(None, None))))
}

fn spec(event_loop: &Arc<EventLoop>) -> Arc<TaskSpec> {
    let shared = Arc::new(Shared::new(None, None));
    let link = Link::new(event_loop.clone(), Callbacks::new("model".into()), shared);
    Arc::new(TaskSpec::of_a_test(Arc::new(link)))
}

fn items(index: u32, spec: &Arc<TaskSpec>) -> EndedItems {
    let report = Summary::blank(Status::Completed, Duration::ZERO);
    let end = End::new(Completed::new(Ok(Output::Exited(0)), report), None);
    let item = EndedItem { index: index as usize, task: place(index).task(), end };
    EndedItems {
        spec: spec.clone(),
        submitted: 0,
        items: [item].into(),
        codec: Codec::Raw,
        outputs: Vec::new(),
    }
}

/// The driver offers and claims a batch, a worker runs it, and each result is put into the inbox.
fn drive(inbox: &Arc<Inbox>, event_loop: &Arc<EventLoop>) -> (bool, thread::JoinHandle<u32>) {
    let page = Arc::new(StatusPage::create().unwrap());
    page.offer(0, batch());
    let sent = Sent { page: page.clone(), place: place(0) };
    let claimed = inbox.claim(batch(), 0, WorkerId(1), sent).is_some();
    let (inbox, event_loop) = (inbox.clone(), event_loop.clone());
    let worker = thread::spawn(move || {
        let spec = spec(&event_loop);
        let mut started = 0;
        while claimed && started < BATCH_TASKS && page.start(place(started)) {
            pause();
            inbox.push(items(started, &spec)).into_iter().for_each(wake);
            event_loop.done(inbox.awaited());
            started += 1;
        }
        started
    });
    (claimed, worker)
}

#[test]
fn every_item_that_ends_is_taken_once_and_in_order() {
    check(Time::Stands, || {
        let (inbox, event_loop) = (Arc::<Inbox>::default(), event_loop());
        let (claimed, worker) = drive(&inbox, &event_loop);
        assert!(claimed);
        let mut taken = VecDeque::new();
        while taken.len() < BATCH_TASKS as usize {
            assert!(inbox.wait(&*event_loop, None));
            taken.append(&mut inbox.take_all());
        }
        assert!(
            taken
                .iter()
                .flat_map(|group: &EndedItems| &group.items)
                .map(|item| item.index)
                .eq(0..BATCH_TASKS as usize)
        );
        assert_eq!(worker.join().unwrap(), BATCH_TASKS);
        assert!(!inbox.has_news());
    });
}

/// A map is dropped while its batch is on its way to a worker, or runs there.
#[test]
fn no_item_starts_once_a_map_is_cancelled() {
    check(Time::Stands, || {
        let (inbox, event_loop) = (Arc::<Inbox>::default(), event_loop());
        let (cancelled, is_cancelled) = mpsc::channel();
        let consumer = {
            let inbox = inbox.clone();
            thread::spawn(move || {
                inbox.cancel();
                let _ = cancelled.send(());
            })
        };
        let (claimed, worker) = drive(&inbox, &event_loop);
        if is_cancelled.try_recv().is_ok() {
            // It was cancelled before this moment: what starts from here on does so in vain.
            let page = Arc::new(StatusPage::create().unwrap());
            page.offer(0, batch());
            let sent = Sent { page, place: place(0) };
            assert!(inbox.claim(batch(), 0, WorkerId(2), sent).is_none());
        }
        consumer.join().unwrap();
        let started = worker.join().unwrap();
        assert!(claimed || started == 0, "a batch that was not claimed has started");
        assert!(!inbox.has_news(), "nobody takes what has ended");
    });
}

#[cfg(feature = "stream")]
#[test]
fn who_polls_is_woken_for_every_item() {
    check(Time::Stands, || {
        let (inbox, event_loop) = (Arc::<Inbox>::default(), event_loop());
        let (_, worker) = drive(&inbox, &event_loop);
        let mut taken = VecDeque::new();
        while taken.len() < BATCH_TASKS as usize {
            // Handed on after a look, as a stream may be: only the last who has looked listens.
            let (former, latter) =
                (Arc::new(StreamPoller::default()), Arc::new(StreamPoller::default()));
            if !inbox.poll(&former.waker()) && !inbox.poll(&latter.waker()) {
                latter.wait();
            }
            taken.append(&mut inbox.take_all());
        }
        worker.join().unwrap();
    });
}
