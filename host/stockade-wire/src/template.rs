//! Messages between the host and a template: the process that a pool's workers are cloned from.
//!
//! ```text
//! host                                  template
//!   │── Setup + host's pidfd ──────────►│  engine, locks itself down
//!   │── Load + artefact … ─────────────►│  all modules mapped
//!   │◄────────────────── Ready | Failed │
//!   │── Start + a worker's socket ─────►│  clones itself: the clone is a worker of that socket
//!   │◄──── Started + pidfd | NotStarted │
//! ```
//!
//! A clone is the host's child, not the template's. Its descriptor is made together with it, because a
//! number may be another process's by the time it is heard. What it is told on its socket and what it
//! answers is the same as for any worker, but that no modules are sent: they are there.

use crate::codec::{Decode, Encode};
use crate::{Load, Setup};

/// What the host says to a template.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum TemplateRequest {
    /// First of all: what every worker is set up with but for its number and name, with the
    /// descriptor of the host's process.
    Setup(Setup),
    /// A module, with the descriptor of its sealed artefact.
    Load(Load),
    /// Clone a worker, with the descriptor of its socket.
    Start {
        /// How it is called in process lists from its beginning.
        name: String,
    },
}

/// What a template says to its host. Hostile until checked: it has read artefacts.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum TemplateReply {
    /// Everything is mapped and locked down.
    Ready,
    /// There can be no template, and why.
    Failed(String),
    /// A worker was cloned, with the descriptor of its process.
    Started,
    /// The system refused a process.
    NotStarted(String),
}
