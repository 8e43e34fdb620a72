//! Escapes: native code in a worker, called as functions of a module.
//!
//! ```text
//! MODULE ─► the real compiler ─► artefact ─► planted: its functions are machine code now
//! Escapee ─► a task each ─► the real worker, locked down ─► that code
//! ```
//!
//! An escapee can make any system call and read, write and call any address: all that an attacker
//! can do after an escape from WebAssembly. Memory that it maps stays from one task to the next,
//! because the process does.
//!
//! Deliberately absent: other architectures, whose machine code this is not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stockade::{Lockdown, Pool, PoolBuilder, RunError, TaskError, WorkerProgram};

use crate::{name_for_a_pool, wat_file};

/// The module whose functions are replaced, in this order.
const MODULE: &str = include_str!("../fixtures/escape.wat");

/// Machine code for each function. On entry the engine has put the two contexts into rdi and rsi,
/// the first four arguments into rdx, rcx, r8 and r9, and the others onto the stack, which the callee
/// pops; every register may be changed, and the result is in rax.
const CODE: [&[u8]; 6] = [
    // system_call: mov rax, rdx; mov rdi, rcx; mov rsi, r8; mov rdx, r9; mov r10, [rsp+8];
    // mov r8, [rsp+16]; mov r9, [rsp+24]; syscall; ret 32
    &[
        0x48, 0x89, 0xd0, 0x48, 0x89, 0xcf, 0x4c, 0x89, 0xc6, 0x4c, 0x89, 0xca, 0x4c, 0x8b, 0x54,
        0x24, 0x08, 0x4c, 0x8b, 0x44, 0x24, 0x10, 0x4c, 0x8b, 0x4c, 0x24, 0x18, 0x0f, 0x05, 0xc2,
        0x20, 0x00,
    ],
    // peek: mov rax, [rdx]; ret
    &[0x48, 0x8b, 0x02, 0xc3],
    // poke: mov [rdx], rcx; mov rax, rcx; ret
    &[0x48, 0x89, 0x0a, 0x48, 0x89, 0xc8, 0xc3],
    // old_call: mov eax, edx; mov ebx, ecx; mov ecx, r8d; mov edx, r9d; int 0x80; cdqe; ret
    &[0x89, 0xd0, 0x89, 0xcb, 0x44, 0x89, 0xc1, 0x44, 0x89, 0xca, 0xcd, 0x80, 0x48, 0x98, 0xc3],
    // call: call rdx; ret
    &[0xff, 0xd2, 0xc3],
    // fork: mov eax, 57; syscall; test rax, rax; jz +1; ret; xor edi, edi; mov eax, 231; syscall
    &[
        0xb8, 57, 0, 0, 0, 0x0f, 0x05, 0x48, 0x85, 0xc0, 0x74, 0x01, 0xc3, 0x31, 0xff, 0xb8, 231,
        0, 0, 0, 0x0f, 0x05,
    ],
];

/// `mov eax, 7; ret`: code to be written somewhere and called.
pub const SEVEN: [u8; 6] = [0xb8, 7, 0, 0, 0, 0xc3];

/// What has become of an act of native code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was done, and this came of it.
    Done(i64),
    /// The kernel refused it with this error number.
    Refused(i32),
    /// The process died of it, by this signal.
    Killed(i32),
    /// The process ended, with this code.
    Exited(i32),
}

/// A process that makes system calls for a test, and runs code.
pub trait Native {
    /// Makes a system call.
    fn system_call(&self, number: i64, arguments: &[i64]) -> Act;

    /// Makes a system call of 32-bit programs.
    fn old_call(&self, number: i64) -> Act;

    /// Forks; the child ends at once.
    fn fork(&self) -> Act;

    /// Calls code at an address.
    fn call(&self, address: i64) -> Act;

    /// Writes bytes, at most a page of them, into memory of its own; answers where. What was written
    /// before is gone.
    fn write(&self, bytes: &[u8]) -> i64;

    /// The same at an address.
    fn write_to(&self, address: i64, bytes: &[u8]) -> i64;

    /// Maps a page privately.
    fn map(&self, protection: i32, flags: i32, file: i64) -> Act {
        let flags = i64::from(flags | libc::MAP_PRIVATE);
        self.system_call(libc::SYS_mmap, &[0, 4096, i64::from(protection), flags, file, 0])
    }
}

/// A pool of one worker whose code has broken out.
#[derive(Debug)]
pub struct Escapee {
    pool: Pool,
    /// Some writable memory of it.
    memory: i64,
}

impl Escapee {
    /// One that is confined as `lockdown` says.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn confined(lockdown: Lockdown) -> Self {
        Self::of(Self::builder().lockdown(lockdown))
    }

    /// What escapees are built from.
    pub fn builder() -> PoolBuilder {
        Pool::single()
            .name(name_for_a_pool())
            .module_as("escape", wat_file(MODULE))
            .worker_program(WorkerProgram::Path(planter()))
    }

    /// One of that pool.
    ///
    /// # Panics
    /// If it cannot be built, or has no memory.
    pub fn of(builder: PoolBuilder) -> Self {
        let pool = builder.build().expect("a pool");
        let mut escapee = Self { pool, memory: 0 };
        let wanted = libc::PROT_READ | libc::PROT_WRITE;
        let Act::Done(memory) = escapee.map(wanted, libc::MAP_ANONYMOUS, -1) else {
            panic!("private memory may always be mapped")
        };
        escapee.memory = memory;
        escapee
    }

    /// Its pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The process that it is in.
    ///
    /// # Panics
    /// If there is none.
    pub fn pid(&self) -> u32 {
        self.pool.workers().first().expect("a worker").pid
    }

    /// Reads a word at an address.
    pub fn peek(&self, address: i64) -> Act {
        self.act("peek", (address,))
    }

    fn act(&self, function: &str, arguments: impl stockade::Arguments) -> Act {
        match self.pool.run::<i64>(function, arguments) {
            // Only functions that make system calls answer so; addresses are positive.
            Ok(result @ -4095..=-1) => Act::Refused(-result as i32),
            Ok(result) => Act::Done(result),
            Err(RunError::Task(TaskError::WorkerLost(exit))) => match (exit.signal, exit.code) {
                (Some(signal), _) => Act::Killed(signal),
                (None, code) => Act::Exited(code.unwrap_or_default()),
            },
            Err(other) => panic!("{function}: {other:?}"),
        }
    }
}

impl Native for Escapee {
    fn system_call(&self, number: i64, arguments: &[i64]) -> Act {
        let mut all = [number, 0, 0, 0, 0, 0, 0];
        all[1..=arguments.len()].copy_from_slice(arguments);
        let [number, a, b, c, d, e, f] = all;
        self.act("system_call", (number, a, b, c, d, e, f))
    }

    fn old_call(&self, number: i64) -> Act {
        self.act("old_call", (number, 0_i64, 0_i64, 0_i64))
    }

    fn fork(&self) -> Act {
        self.act("fork", ())
    }

    fn call(&self, address: i64) -> Act {
        self.act("call", (address,))
    }

    fn write(&self, bytes: &[u8]) -> i64 {
        self.write_to(self.memory, bytes)
    }

    fn write_to(&self, address: i64, bytes: &[u8]) -> i64 {
        assert!(bytes.len() < 4096, "a page");
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(8) + 8, 0);
        for (word, at) in padded.chunks_exact(8).zip((address..).step_by(8)) {
            let word = i64::from_le_bytes(word.try_into().expect("eight bytes"));
            let written = self.pool.run::<i64>("poke", (at, word)).expect("writable memory");
            assert_eq!(written, word);
        }
        address
    }
}

/// The program that plants.
fn planter() -> PathBuf {
    crate::program_beside("planter")
}

/// Where in an artefact which code goes: offsets in the file. `None` where its functions are not
/// found, or one is shorter than its code.
pub fn planted(artefact: &[u8]) -> Option<Vec<(u64, &'static [u8])>> {
    let functions = functions(artefact)?;
    let place = |(index, code): (usize, &&'static [u8])| {
        let (offset, length) = functions.get(&format!("wasm[0]::function[{index}]"))?;
        (*length >= code.len() as u64).then_some((*offset, *code))
    };
    CODE.iter().enumerate().map(place).collect()
}

/// Functions of an ELF file of 64 bits: where in the file each begins, and how long it is. Numbers of
/// the System V ABI.
fn functions(elf: &[u8]) -> Option<BTreeMap<String, (u64, u64)>> {
    const SYMBOLS: u32 = 2;
    let word = |at: u64| Some(u64::from_le_bytes(slice(elf, at, 8)?.try_into().ok()?));
    let number = |at: u64| Some(u32::from_le_bytes(slice(elf, at, 4)?.try_into().ok()?));
    let half = |at: u64| Some(u16::from_le_bytes(slice(elf, at, 2)?.try_into().ok()?));
    let section = |index: u64| Some(word(0x28)? + index * 64);
    let mut found = BTreeMap::new();
    for index in 0..u64::from(half(0x3c)?) {
        let symbols = section(index)?;
        if number(symbols + 4)? != SYMBOLS {
            continue;
        }
        let names = word(section(number(symbols + 0x28)?.into())? + 0x18)?;
        let (start, length) = (word(symbols + 0x18)?, word(symbols + 0x20)?);
        for symbol in (start..start + length).step_by(24) {
            let name = names + u64::from(number(symbol)?);
            let name = elf.get(usize::try_from(name).ok()?..)?.split(|byte| *byte == 0).next()?;
            let within = section(half(symbol + 6)?.into())?;
            let Some(text) = word(within + 0x18) else { continue };
            let offset = text.checked_add(word(symbol + 8)?)?;
            found.insert(String::from_utf8_lossy(name).into_owned(), (offset, word(symbol + 16)?));
        }
    }
    Some(found)
}

fn slice(bytes: &[u8], at: u64, length: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(length)?)
}
