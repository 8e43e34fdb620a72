//! Ctrl-C: the first ends a map in order, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use crate::exit::Exit;

/// Tells of the first Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupts {
    receiver: Receiver<()>,
    signals: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Interrupts {
    /// From now on.
    pub(crate) fn watch() -> io::Result<Self> {
        let armed = Arc::new(AtomicBool::new(false));
        // In this order: the first signal finds the flag unset and sets it, the second ends the
        // process in the handler itself, whatever the other threads are stuck in.
        let code = i32::from(Exit::Interrupted.code());
        flag::register_conditional_shutdown(SIGINT, code, armed.clone())?;
        flag::register(SIGINT, armed)?;
        let mut signals = Signals::new([SIGINT])?;
        let handle = signals.handle();
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let thread =
            std::thread::Builder::new().name("stockade-signals".into()).spawn(move || {
                for _ in signals.forever() {
                    // Full where one has been told already.
                    let _ = sender.try_send(());
                }
            })?;
        Ok(Self { receiver, signals: handle, thread: Some(thread) })
    }

    /// Where the first is told.
    pub(crate) fn receiver(&self) -> Receiver<()> {
        self.receiver.clone()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but this; had it panicked, that is on stderr.
            let _ = thread.join();
        }
    }
}
