//! The worker program: see the library of the same name.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    stockade_worker::run_if_worker();
    let _ = writeln!(
        std::io::stderr(),
        "stockade-worker runs WebAssembly for a Stockade pool, which starts it and speaks to it \
         over a socket; there is nothing to do by hand. See `stockade --help`."
    );
    ExitCode::from(2)
}
