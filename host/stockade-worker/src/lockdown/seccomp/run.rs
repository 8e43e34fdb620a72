//! What the kernel makes of a filter, for tests.

use seccompiler::{BpfProgram, sock_filter};

/// What a program makes of a call: the classic instructions that the filters are made of, see
/// linux/filter.h.
pub(super) fn run(program: &BpfProgram, number: u32, arguments: [u64; 6]) -> u32 {
    let architecture: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut data = [number.to_le_bytes(), architecture.to_le_bytes(), [0; 4], [0; 4]].concat();
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut at, mut value) = (0, 0_u32);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match code {
            0x20 => {
                let word = &data[k as usize..][..4];
                value = u32::from_le_bytes(word.try_into().unwrap());
            }
            0x54 => value &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(value == k),
            0x25 => at += jump(value > k),
            0x35 => at += jump(value >= k),
            0x45 => at += jump(value & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What filters make of a call together: the kernel takes the strictest.
pub(super) fn allowed(programs: &[&BpfProgram], number: u32, arguments: [u64; 6]) -> bool {
    programs.iter().all(|program| run(program, number, arguments) == libc::SECCOMP_RET_ALLOW)
}
