//! One call of an exported function, from its input to its status.
//!
//! ```text
//! input, codec ──► Arguments ──► the function ──► forms ──► output ──► Success
//!                      │                            │ Err ──► Failure ─► Error
//!                      └── not its arguments ────────────────► Failure ─► BadArguments
//! ```
//! A panic bypasses all of this: the hook reports it to the host, and the guest traps.

use crate::arguments::Arguments;
use crate::failure::{self, Failure};
use crate::host;
use std::io::Write as _;
use std::sync::Once;
use stockade_abi::{Codec, Status};

/// The part of an export that the macros generate: decode, call, write.
type Body = fn(&mut Arguments<'_>) -> Result<(), Failure>;

/// Runs the function whose parameters have these `names`, and returns its status.
pub fn run(names: &'static [&'static str], body: Body) -> i32 {
    install_panic_hook();
    let status = guard(|| match serve(names, body) {
        Ok(()) => Status::Success,
        Err(failure) => failure.report(),
    });
    flush();
    status as i32
}

/// Lets out a last line without a line feed: a library has no `main` after which std would do it.
fn flush() {
    // Ignored: output that the pool does not take is not a failure of the task.
    let _ = std::io::stdout().flush();
}

fn serve(names: &'static [&'static str], body: Body) -> Result<(), Failure> {
    let codec = host::codec().ok_or_else(|| {
        Failure::bad_arguments("the input has a codec that this guest's SDK does not know")
    })?;
    let input = if codec == Codec::Raw { Vec::new() } else { host::input() };
    body(&mut Arguments::new(names, codec, &input)?)
}

/// Once an instance: a snapshot taken after the initializer has the hook already.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        #[cfg(target_arch = "wasm32")]
        // In place of std's: the record says all that would go to stderr, and says it once.
        std::panic::set_hook(Box::new(|panic| {
            failure::report_panic(panic);
            flush();
        }));
        #[cfg(not(target_arch = "wasm32"))]
        {
            // Besides std's: it also serves the tests that do not run a task.
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                failure::report_panic(panic);
                previous(panic);
            }));
        }
    });
}

/// In wasm a panic ends in a trap, which no caller in the guest sees.
#[cfg(target_arch = "wasm32")]
fn guard(call: impl FnOnce() -> Status) -> Status {
    call()
}

/// Elsewhere an unwinding panic must not cross `extern "C"`; `Error` stands in for the trap.
#[cfg(not(target_arch = "wasm32"))]
fn guard(call: impl FnOnce() -> Status) -> Status {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or(Status::Error)
}
