//! Why a pool's lockdown is not as required, or not known.

use stockade_wire::LayerReport;

use crate::outcome::machine::MachineError;

/// Why a pool's lockdown is not as required, or cannot be determined.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LockdownError {
    /// A required layer is not fully on.
    #[error(
        "a {role} would run without the required layer `{}` in full: {}; `stockade doctor` lists \
         every layer of this machine",
        missing.layer, missing.reason
    )]
    Missing {
        /// Which process.
        role: &'static str,
        /// The first such layer.
        missing: LayerReport,
    },
    /// The process could not be started, or did not answer.
    #[error("cannot ask a {role} for its lockdown: {}", source.fault)]
    Unreachable {
        /// Which process.
        role: &'static str,
        /// Why.
        source: MachineError,
    },
    /// It could not set itself up.
    #[error("a {role} could not set itself up: {why}")]
    SetUp {
        /// Which process.
        role: &'static str,
        /// Why.
        why: String,
    },
}

impl LockdownError {
    /// The next step, as a sentence without a final stop; `None` if the text says it.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => None,
            Self::Unreachable { source, .. } => Some(source.next_step()),
            Self::SetUp { .. } => {
                Some("the system refuses what it names: see to that, or give another machine a try")
            }
        }
    }
}

crate::base::shown::debug_as_text!(LockdownError, LockdownError::next_step);
