//! Native code in a process that has a role and runs no guest: a template, a compiler. A debugger
//! injects it, as an exploited bug in their parsers would.
//!
//! ```text
//! process, locked down, waits for a message ◄── Traced: stops it, puts code into it, lets it run that
//! ```
//!
//! The calls are the process's own, under its own filter and its own other layers.
//!
//! Invariant: one thread traces a process from its [`Traced::seize`] to its end, as the kernel demands.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::ptr;

use crate::escape::{Act, Native};

/// `int3`, after which the tracer has the process again.
const TRAP: u8 = 0xcc;
/// `syscall`
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];
/// `int 0x80`
const OLD_CALL: [u8; 2] = [0xcd, 0x80];
/// `call rdx`
const CALL: [u8; 2] = [0xff, 0xd2];
/// `jmp .`
const SPIN: [u8; 2] = [0xeb, 0xfe];

/// Bytes below the stack pointer that code may still use, and more.
const STACK_BYTES: u64 = 64 << 10;

/// A process that is traced. Dropping it lets it go on where it was.
#[derive(Debug)]
pub struct Traced {
    pid: libc::pid_t,
    before: libc::user_regs_struct,
    /// Some writable memory of it.
    memory: i64,
    is_over: Cell<bool>,
}

impl Traced {
    /// Stops the process of that number, which waits in a system call.
    ///
    /// # Panics
    /// If it may not be traced.
    pub fn seize(pid: u32) -> Self {
        let pid = libc::pid_t::try_from(pid).expect("a process number");
        ask(libc::PTRACE_SEIZE, pid, 0, 0).expect("a process that may be traced");
        ask(libc::PTRACE_INTERRUPT, pid, 0, 0).expect("a process that runs");
        let status = wait(pid);
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        let before = registers(pid);
        let mut traced = Self { pid, before, memory: 0, is_over: Cell::new(false) };
        let Act::Done(memory) =
            traced.map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS, -1)
        else {
            panic!("private memory may always be mapped")
        };
        traced.memory = memory;
        traced
    }

    /// Lets it go in a loop that never ends.
    pub fn spin(self) {
        self.prepare(&SPIN, |_| {});
        ask(libc::PTRACE_DETACH, self.pid, 0, 0).expect("a process that is stopped");
        self.is_over.set(true);
    }

    /// Where its code goes: the beginning of a page that it is executing from.
    fn place(&self) -> u64 {
        self.before.rip & !4095
    }

    fn prepare(&self, code: &[u8], set: impl FnOnce(&mut libc::user_regs_struct)) {
        let mut bytes = code.to_vec();
        bytes.push(TRAP);
        poke(self.pid, self.place(), &bytes);
        let mut registers = self.before;
        registers.rip = self.place();
        registers.rsp = (registers.rsp - STACK_BYTES) & !15;
        // Not a system call to be begun anew.
        registers.orig_rax = u64::MAX;
        set(&mut registers);
        let registers = (&raw const registers) as usize;
        ask(libc::PTRACE_SETREGS, self.pid, 0, registers).expect("a process that is stopped");
    }

    /// Has it run code; the result is what it leaves in rax.
    fn run(&self, code: &[u8], set: impl FnOnce(&mut libc::user_regs_struct)) -> Act {
        assert!(!self.is_over.get(), "it has ended");
        self.prepare(code, set);
        let mut signal = 0;
        loop {
            ask(libc::PTRACE_CONT, self.pid, 0, signal).expect("a process that is stopped");
            let status = wait(self.pid);
            if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP {
                return match registers(self.pid).rax.cast_signed() {
                    result @ -4095..=-1 => Act::Refused(-result as i32),
                    result => Act::Done(result),
                };
            }
            if libc::WIFSTOPPED(status) {
                // What else is signalled to it is its own to die of.
                signal = libc::WSTOPSIG(status) as usize;
                continue;
            }
            self.is_over.set(true);
            return match libc::WIFSIGNALED(status) {
                true => Act::Killed(libc::WTERMSIG(status)),
                false => Act::Exited(libc::WEXITSTATUS(status)),
            };
        }
    }
}

impl Native for Traced {
    fn system_call(&self, number: i64, arguments: &[i64]) -> Act {
        let mut all = [0_u64; 6];
        for (place, argument) in all.iter_mut().zip(arguments) {
            *place = argument.cast_unsigned();
        }
        self.run(&SYSTEM_CALL, |registers| {
            registers.rax = number.cast_unsigned();
            [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ] = all;
        })
    }

    fn old_call(&self, number: i64) -> Act {
        self.run(&OLD_CALL, |registers| registers.rax = number.cast_unsigned())
    }

    fn fork(&self) -> Act {
        self.system_call(libc::SYS_fork, &[])
    }

    fn call(&self, address: i64) -> Act {
        self.run(&CALL, |registers| registers.rdx = address.cast_unsigned())
    }

    fn write(&self, bytes: &[u8]) -> i64 {
        self.write_to(self.memory, bytes)
    }

    fn write_to(&self, address: i64, bytes: &[u8]) -> i64 {
        poke(self.pid, address.cast_unsigned(), bytes);
        address
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.is_over.get() {
            let before = (&raw const self.before) as usize;
            let _ = ask(libc::PTRACE_SETREGS, self.pid, 0, before);
            let _ = ask(libc::PTRACE_DETACH, self.pid, 0, 0);
        }
    }
}

fn ask(request: libc::c_uint, pid: libc::pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: what requests with structures read or write is named by callers here and alive; all others
    // take plain numbers, and change the traced process alone.
    let done = unsafe { libc::ptrace(request, pid, address, data) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn registers(pid: libc::pid_t) -> libc::user_regs_struct {
    // SAFETY: a structure of plain numbers, which outlives the call that writes it.
    unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        let at = (&raw mut registers) as usize;
        ask(libc::PTRACE_GETREGS, pid, 0, at).expect("a process that is stopped");
        registers
    }
}

fn wait(pid: libc::pid_t) -> libc::c_int {
    let mut status = 0;
    // SAFETY: `status` outlives the call, which writes one integer to it.
    let waited = unsafe { libc::waitpid(pid, ptr::from_mut(&mut status), libc::__WALL) };
    assert_eq!(waited, pid, "{}", io::Error::last_os_error());
    status
}

/// Writes bytes into a traced process, code included; what stands behind them up to the end of a word is
/// lost.
fn poke(pid: libc::pid_t, address: u64, bytes: &[u8]) {
    for (word, at) in bytes.chunks(8).zip((address..).step_by(8)) {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        let word = usize::from_le_bytes(whole);
        let at = usize::try_from(at).expect("an address");
        ask(libc::PTRACE_POKEDATA, pid, at, word).expect("memory of it");
    }
}
