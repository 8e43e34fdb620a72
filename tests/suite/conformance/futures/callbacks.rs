//! Callbacks of one handle.

use std::sync::mpsc::{Receiver, Sender, channel};

use stockade::TaskHandle;
use stockade_tests::{PATIENCE, numbers};

use super::{add, occupied};

/// A callback that says its name and whether its task is done.
fn says<T: stockade::TaskResult + 'static>(
    said: &Sender<(&'static str, bool)>,
    name: &'static str,
) -> impl FnOnce(TaskHandle<T>) + Send + use<T> {
    let said = said.clone();
    move |task| said.send((name, task.is_done())).unwrap()
}

/// What is said until nobody is left who could say more.
fn heard(
    said: Sender<(&'static str, bool)>,
    heard: &Receiver<(&'static str, bool)>,
) -> Vec<String> {
    drop(said);
    let mut names = Vec::new();
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok((name, done)) => {
                assert!(done, "{name} was called too early");
                names.push(name.to_string());
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return names,
            Err(timeout) => panic!("a callback was neither run nor dropped: {timeout}"),
        }
    }
}

#[test]
fn f16_callbacks_are_kept_in_their_order_without_the_removed_one() {
    let (gate, _pool, running) = occupied();
    let (said, hear) = channel();
    let ids: Vec<_> = ["first", "second", "third", "fourth"]
        .into_iter()
        .map(|name| running.on_done(says(&said, name)))
        .collect();
    assert!(running.remove_callback(ids[1]));
    assert!(!running.remove_callback(ids[1]), "it is gone");
    gate.open();
    assert_eq!(heard(said, &hear), ["first", "third", "fourth"]);
}

#[test]
fn f17_callbacks_added_before_the_end_run_once_each_with_the_task() {
    let (gate, _pool, running) = occupied();
    let (said, hear) = channel();
    let (told, ids) = channel();
    for _ in 0..4 {
        running.on_done(says(&said, "the same"));
    }
    running.on_done(move |task| told.send((task.task_id(), task.result().unwrap())).unwrap());
    gate.open();
    assert_eq!(heard(said, &hear), ["the same"; 4]);
    let (id, result) = ids.recv_timeout(PATIENCE).unwrap();
    assert_eq!((id, result), (running.task_id(), running.result().unwrap()));
}

#[test]
fn f18_callbacks_added_after_the_end_run_at_once() {
    let pool = numbers().build().unwrap();
    let handle = add(&pool, 1, 2);
    handle.wait(None);
    let (said, hear) = channel();
    let late = handle.on_done(says(&said, "late"));
    assert_eq!(heard(said, &hear), ["late"]);
    assert!(!handle.remove_callback(late), "it has run");
    // Even after the pool's end.
    assert!(pool.shutdown());
    let (said, hear) = channel();
    handle.on_done(says(&said, "later"));
    assert_eq!(heard(said, &hear), ["later"]);
}

#[test]
fn f19_removed_callbacks_never_run() {
    let (gate, _pool, running) = occupied();
    let (said, hear) = channel();
    let removed: Vec<_> = (0..3).map(|_| running.on_done(says(&said, "removed"))).collect();
    running.on_done(says(&said, "kept"));
    // Upstream removes by equality, we one by one: two of the same are told apart.
    assert!(removed.into_iter().all(|id| running.remove_callback(id)));
    gate.open();
    assert_eq!(heard(said, &hear), ["kept"]);
}
