//! Runs a program on a kernel that lacks a feature: system calls fail as they do where it is missing.
//!
//! `deny FEATURE PROGRAM ARGUMENT…`, with FEATURE one of `landlock`, `mdwe`, `seccomp`, `pidfd-info` and
//! `threads`, as where a limit on processes is reached.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let feature = arguments.next().context("no feature")?;
    let program = arguments.next().context("no program")?;
    deny(&feature)?;
    Err(Command::new(program).args(arguments).env_clear().exec().into())
}

fn deny(feature: &str) -> Result<()> {
    const PR_SET_MDWE: u64 = 65;
    let with = |argument: u8, value: u64| -> Result<Vec<SeccompRule>> {
        let length = SeccompCmpArgLen::Dword;
        let is = SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?;
        Ok(vec![SeccompRule::new(vec![is])?])
    };
    let control = |option: u64| with(0, option);
    let (rules, error): (BTreeMap<_, _>, _) = match feature {
        "landlock" => ([(libc::SYS_landlock_create_ruleset, Vec::new())].into(), libc::ENOSYS),
        "mdwe" => ([(libc::SYS_prctl, control(PR_SET_MDWE)?)].into(), libc::EINVAL),
        "seccomp" => {
            let by_control = control(libc::PR_SET_SECCOMP.unsigned_abs().into())?;
            let calls = [(libc::SYS_seccomp, Vec::new()), (libc::SYS_prctl, by_control)];
            (calls.into(), libc::EINVAL)
        }
        "pidfd-info" => ([(libc::SYS_ioctl, with(1, libc::PIDFD_GET_INFO)?)].into(), libc::ENOTTY),
        // Whoever clones a process does so by the older call.
        "threads" => ([(libc::SYS_clone3, Vec::new())].into(), libc::EAGAIN),
        _ => bail!("no such feature: {feature}"),
    };
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
