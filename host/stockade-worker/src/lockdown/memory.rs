//! Memory that was writable never becomes executable: the kernel's own rule for a whole process.
#![allow(unsafe_code)]

use std::io;

use stockade_wire::Level;

use super::Found;

/// Of linux/prctl.h, where the C library's crate does not have them.
pub(super) const PR_SET_MDWE: libc::c_int = 65;
pub(super) const PR_GET_MDWE: libc::c_int = 66;
const REFUSE_EXEC_GAIN: libc::c_ulong = 1;

/// Refuses execution to memory that could be written, for good. Linux 6.3 and later.
pub(super) fn refuse_to_gain_execution() -> Result<(), String> {
    // SAFETY: a system call on plain numbers. Code that is mapped already stays as it is.
    let set = unsafe { libc::prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0_u64, 0_u64, 0_u64) };
    if set < 0 { Err(io::Error::last_os_error().to_string()) } else { Ok(()) }
}

pub(super) fn found() -> Found {
    // SAFETY: asks for flags.
    let flags = unsafe { libc::prctl(PR_GET_MDWE, 0_u64, 0_u64, 0_u64, 0_u64) };
    if libc::c_ulong::try_from(flags).is_ok_and(|flags| flags & REFUSE_EXEC_GAIN != 0) {
        (Level::Full, "writable memory never becomes executable".into())
    } else {
        (Level::None, "memory may become executable as far as the filter allows".into())
    }
}
