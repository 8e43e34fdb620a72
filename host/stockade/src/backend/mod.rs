//! The backend: the event loop with its driver, which performs what the dispatcher decides, and what
//! the driver owns.
//!
//! ```text
//! EventLoop ─► Driver ─► Entry, WorkerProcess, Supervisor
//!     ▲ Request                                    │
//!     └────────────────────────────────────────────┘ by `RequestQueue`
//! ```

pub(crate) mod driver;
pub(crate) mod entry;
pub(crate) mod event_loop;
pub(crate) mod failure_causes;
pub(crate) mod ids;
pub(crate) mod own_thread;
pub(crate) mod payload_files;
pub(crate) mod poller;
pub(crate) mod request;
pub(crate) mod spare;
pub(crate) mod supervisor;
pub(crate) mod worker;
