//! Naming the system call that the filter refused: for those who change the worker, and in tests.
//!
//! The kernel signals a refused call here instead of ending the process at once. The call itself is
//! refused all the same.
#![allow(unsafe_code)]

use std::{io, mem, ptr};

use syscalls::Sysno;

/// Where the kernel writes the number of the call: behind three numbers, padding and an address, see
/// `_sigsys` in asm-generic/siginfo.h.
const NUMBER_OFFSET: usize = 24;

/// Installs the handler.
///
/// # Errors
/// The kernel's words.
pub(super) fn prepare() -> Result<(), String> {
    // SAFETY: an action is plain data; the handler is of the type that `SA_SIGINFO` calls for and
    // makes async-signal-safe calls only.
    let installed = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = tell as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut())
    };
    if installed < 0 { Err(io::Error::last_os_error().to_string()) } else { Ok(()) }
}

extern "C" fn tell(_: libc::c_int, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the kernel hands over the information of a SIGSYS, which holds the number there.
    let number: i32 = unsafe { info.cast::<u8>().add(NUMBER_OFFSET).cast::<i32>().read() };
    let name =
        usize::try_from(number).ok().and_then(Sysno::new).map_or("unknown", |call| call.name());
    let mut digits = [0; 12];
    for text in
        ["stockade-worker: forbidden system call ", name, " (", decimal(number, &mut digits), ")\n"]
    {
        // SAFETY: writes bytes that live on. Nobody is left to tell where it fails.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    // While this handler runs the signal is blocked, so that the next refused call ends the process
    // as the first would have without it. No list has this one.
    // SAFETY: a system call without arguments that matter.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// `number` in digits, without allocating.
fn decimal(number: i32, digits: &mut [u8; 12]) -> &str {
    let mut rest = number.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    std::str::from_utf8(&digits[at..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 7, 257, i32::MAX, i32::MIN, -1] {
            assert_eq!(decimal(number, &mut [0; 12]), number.to_string());
        }
    }
}
