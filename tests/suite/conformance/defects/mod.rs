//! The defects that were reproduced in asyncpal, numbered as they were found: each test shows that
//! the same cannot happen here.

mod cancels;
mod counters;
mod ends;
mod maps;
mod values;
mod workers;

use std::sync::mpsc;
use std::thread;

use stockade_tests::PATIENCE;

/// Runs `call` on a thread of its own and gives what it returns; fails where it hangs.
#[track_caller]
fn comes_back<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let caller = thread::spawn(move || {
        let _ = done.send(call());
    });
    let result = wait.recv_timeout(PATIENCE);
    let result = result.unwrap_or_else(|_| panic!("waited in vain for: {what}"));
    caller.join().unwrap();
    result
}
