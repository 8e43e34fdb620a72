//! Whose fault it is that a module was not compiled: its own, or the machine's.

use std::time::Duration;

use stockade_wire::{CompileLimits, Refusal, RefusalKind};

use super::NotCompiled;
use crate::outcome::error::RefusedReason;
use crate::outcome::machine::MachineFault;
use crate::process::conversation::End;

pub(super) fn out_of_turn() -> NotCompiled {
    MachineFault::Process("its compiler sent an unexpected answer".into()).into()
}

/// The wall time ran out: by the module's fault only where its compiler had a processor for most of
/// it. One that waits for a processor, or was stopped, has had little.
pub(super) fn took_too_long(processor_time: Option<Duration>, waited: Duration) -> NotCompiled {
    match processor_time {
        Some(time) if time < waited / 2 => {
            MachineFault::Busy { waited, processor_time: Some(time) }.into()
        }
        _ => beyond("wall_time", format!("compiling it takes longer than {waited:?}")),
    }
}

/// What a compiler's memory has besides what its module's limit is for: the program, and its engine.
const OWN_BYTES: u64 = 512 << 20;

/// The reason for a compiler's end without an answer. `stack_bytes` are what the stacks of its
/// threads may have taken. A limit that its host was started under, and so itself, is none of the
/// module's.
pub(super) fn died(
    end: &End,
    stack_bytes: u64,
    module_bytes: u64,
    limits: &CompileLimits,
) -> NotCompiled {
    match (end.exit.signal(), end.exit.code()) {
        (Some(libc::SIGXCPU), _) => {
            let seconds = limits.cpu_seconds(module_bytes);
            MachineFault::processor_time_below(seconds).map(NotCompiled::from).unwrap_or_else(
                || {
                    let what = format!("compiling it takes more than {seconds} s of a processor");
                    beyond("cpu_time", what)
                },
            )
        }
        (Some(libc::SIGXFSZ), _) => MachineFault::file_below(limits.artefact_bytes)
            .map_or_else(|| artefact_beyond(limits), NotCompiled::from),
        (Some(libc::SIGABRT), _) => {
            let bytes = limits.memory_bytes;
            let beside = OWN_BYTES.saturating_add(stack_bytes);
            let fault = MachineFault::memory_below(bytes.saturating_add(beside));
            fault.map(NotCompiled::from).unwrap_or_else(|| {
                let why = format!(
                    "its compiler aborted, most likely because it needed more than {bytes} bytes \
                     of memory"
                );
                beyond("memory_bytes", why)
            })
        }
        (Some(libc::SIGKILL), _) if !end.by_itself => {
            MachineFault::Process("its compiler closed its socket without an answer".into()).into()
        }
        (Some(signal @ (libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)), _) => {
            let out_of_memory = signal == libc::SIGKILL && end.out_of_memory;
            MachineFault::Killed { signal, out_of_memory }.into()
        }
        (Some(libc::SIGSYS), _) => MachineFault::Process(
            "its compiler made a forbidden system call and was killed for it".into(),
        )
        .into(),
        (Some(signal), _) => {
            let name = crate::outcome::exit::signal_name(signal);
            MachineFault::Process(format!("its compiler was killed by {name}")).into()
        }
        (None, Some(code)) => {
            let why = format!("its compiler exited with code {code} and no answer");
            MachineFault::Process(why).into()
        }
        (None, None) => {
            MachineFault::Process(format!("its compiler has no answer: it {}", end.exit)).into()
        }
    }
}

pub(super) fn artefact_beyond(limits: &CompileLimits) -> NotCompiled {
    let bytes = limits.artefact_bytes;
    beyond("artefact_bytes", format!("its compiled form has more than {bytes} bytes"))
}

/// A refusal by one of the [`CompileLimits`], which is named.
pub(super) fn beyond(limit: &str, what: String) -> NotCompiled {
    RefusedReason::Limit(format!("{what} (the limit `CompileLimits::{limit}`)")).into()
}

pub(super) fn refused(refusal: Refusal) -> NotCompiled {
    let message = refusal.message;
    let reason = match refusal.kind {
        RefusalKind::NotWasm => RefusedReason::NotWasm(message),
        RefusalKind::Malformed => RefusedReason::Malformed(message),
        RefusalKind::Feature | RefusalKind::Component => RefusedReason::Feature(message),
        RefusalKind::FeaturesOff(features) => RefusedReason::FeaturesOff { features, message },
        RefusalKind::Import => RefusedReason::Import(message),
        RefusalKind::Limit => RefusedReason::Limit(message),
        RefusalKind::Snapshot => RefusedReason::Snapshot(message),
        _ => return MachineFault::Process(message).into(),
    };
    reason.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::outcome::machine::MachineError;
    use crate::process::pidfd::Exit;

    fn end(signal: i32, out_of_memory: bool) -> End {
        let exit = Exit::Status(ExitStatus::from_raw(signal));
        End { exit, by_itself: true, out_of_memory }
    }

    fn blamed(signal: i32) -> NotCompiled {
        died(&end(signal, false), 0, 1000, &CompileLimits::default())
    }

    #[test]
    fn a_module_is_blamed_for_its_limits_and_for_no_signal_from_outside() {
        for signal in [libc::SIGXCPU, libc::SIGXFSZ, libc::SIGABRT] {
            let blamed = blamed(signal);
            // Where the tests themselves run under such a limit, that is what is to blame.
            let limited = matches!(
                &blamed,
                NotCompiled::Machine(MachineError { fault: MachineFault::Limit { .. }, .. })
            );
            let refused = matches!(&blamed, NotCompiled::Refused(RefusedReason::Limit(_)));
            assert!(refused || limited, "{signal}: {blamed:?}");
        }
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let NotCompiled::Machine(error) = blamed(signal) else { panic!("{signal}") };
            assert_eq!(error.fault, MachineFault::Killed { signal, out_of_memory: false });
        }
        for signal in [libc::SIGSEGV, libc::SIGSYS, libc::SIGBUS, libc::SIGILL] {
            let NotCompiled::Machine(error) = blamed(signal) else { panic!("{signal}") };
            assert!(matches!(error.fault, MachineFault::Process(_)), "{error:?}");
        }
    }

    #[test]
    fn a_kill_while_memory_ran_out_says_so() {
        let limits = CompileLimits::default();
        let NotCompiled::Machine(error) = died(&end(libc::SIGKILL, true), 0, 1000, &limits) else {
            panic!("it is the machine's fault")
        };
        assert!(error.to_string().contains("memory ran out"), "{error}");
    }

    #[test]
    fn a_module_is_blamed_for_time_only_where_its_compiler_had_a_processor() {
        let after = |seconds: Option<u64>| {
            took_too_long(seconds.map(Duration::from_secs), Duration::from_secs(60))
        };
        for seconds in [0, 7, 29] {
            let NotCompiled::Machine(error) = after(Some(seconds)) else { panic!("{seconds}") };
            let fault = format!("{error}");
            assert!(fault.contains("too busy") && fault.contains("60s"), "{fault}");
        }
        for seconds in [Some(30), Some(60), None] {
            let blamed = after(seconds);
            assert!(matches!(blamed, NotCompiled::Refused(RefusedReason::Limit(_))), "{blamed:?}");
        }
    }
}
