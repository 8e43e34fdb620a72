//! The format of core dumps: [Coredump.md] of the WebAssembly tool conventions.
//!
//! ```text
//! core │ memory │ global │ data │ coremodules, coreinstances, corestack
//! ```
//!
//! An ordinary module whose memory and globals begin as they were, with custom sections that say whose
//! they are. `wasm-encoder` writes every section but one: its section of data copies all segments, and
//! then all once more, in a process whose memory is limited. So only the headers of the data are encoded
//! here, and the memory itself is copied once, into the messages.
//!
//! [Coredump.md]: https://github.com/WebAssembly/tool-conventions/blob/main/Coredump.md

use wasm_encoder::{
    ConstExpr, CoreDumpInstancesSection, CoreDumpModulesSection, CoreDumpSection,
    CoreDumpStackSection, CoreDumpValue, Encode, GlobalSection, GlobalType, MemorySection,
    MemoryType, Module, Section, SectionId,
};

use super::GLOBALS_MAX;

/// Memory is kept or left out in pages; so there are fewer of them than a module may have segments.
const PAGE_BYTES: usize = 64 << 10;

/// What of a page is kept is known to so many bytes.
const GRAIN_BYTES: usize = 256;

/// What the data section takes beyond its segments: its number, its length and their count.
const DATA_HEADER_BYTES_MAX: usize = 1 + 5 + 5;

/// A guest at its trap.
pub(super) struct Dump<'a> {
    /// Its module's name.
    pub(super) module: &'a str,
    /// Function and place in it, innermost first.
    pub(super) frames: Vec<(u32, u32)>,
    pub(super) globals: Vec<Global>,
    pub(super) memory: Option<Memory<'a>>,
}

pub(super) struct Memory<'a> {
    /// Whole pages.
    pub(super) bytes: &'a [u8],
    pub(super) pages_max: Option<u64>,
}

pub(super) struct Global {
    pub(super) ty: GlobalType,
    /// What makes its value.
    pub(super) value: ConstExpr,
}

/// A dump as it will be written.
pub(super) struct Layout<'a> {
    head: Vec<u8>,
    /// Where in the memory, and what stands there.
    segments: Vec<(u32, &'a [u8])>,
    tail: Vec<u8>,
    /// Bytes of the memory's end that did not fit, or for which there was no time.
    pub(super) left_out: u64,
}

impl<'a> Dump<'a> {
    /// Looks for what of the memory is not zero, as far as that fits into `bytes_max` and for as long as
    /// it `may_go_on`.
    pub(super) fn layout(&self, bytes_max: u64, may_go_on: impl Fn() -> bool) -> Layout<'a> {
        let (head, tail) = (self.head(), self.tail());
        let mut layout = Layout { head, segments: Vec::new(), tail, left_out: 0 };
        let Some(memory) = &self.memory else { return layout };
        let around = layout.head.len() + layout.tail.len() + DATA_HEADER_BYTES_MAX;
        let mut room = usize::try_from(bytes_max).unwrap_or(usize::MAX).saturating_sub(around);
        for (number, page) in memory.bytes.chunks(PAGE_BYTES).enumerate() {
            let at = number * PAGE_BYTES;
            let (start, used) = used(page);
            // A memory is shorter than what 32 bits reach.
            let offset = (at + start) as u32;
            let bytes = segment_header(offset, used.len()).len() + used.len();
            if bytes > room || !may_go_on() {
                layout.left_out = (memory.bytes.len() - at) as u64;
                break;
            }
            if !used.is_empty() {
                room -= bytes;
                layout.segments.push((offset, used));
            }
        }
        layout
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Module::new();
        head.section(&CoreDumpSection::new(self.module));
        if let Some(memory) = &self.memory {
            let mut memories = MemorySection::new();
            memories.memory(MemoryType {
                minimum: (memory.bytes.len() / PAGE_BYTES) as u64,
                maximum: memory.pages_max,
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
            head.section(&memories);
        }
        if !self.globals.is_empty() {
            let mut globals = GlobalSection::new();
            for Global { ty, value } in &self.globals {
                globals.global(*ty, value);
            }
            head.section(&globals);
        }
        head.finish()
    }

    fn tail(&self) -> Vec<u8> {
        const NO_VALUES: [CoreDumpValue; 0] = [];
        let mut modules = CoreDumpModulesSection::new();
        modules.module(self.module);
        let mut instances = CoreDumpInstancesSection::new();
        // No more than there may be.
        let globals = (self.globals.len() as u32).min(GLOBALS_MAX);
        instances.instance(0, 0..u32::from(self.memory.is_some()), 0..globals);
        let mut stack = CoreDumpStackSection::new("main");
        for (function, place) in &self.frames {
            // Of the first instance; without locals and operands.
            stack.frame(0, *function, *place, NO_VALUES, NO_VALUES);
        }
        let mut tail = Vec::new();
        modules.append_to(&mut tail);
        instances.append_to(&mut tail);
        stack.append_to(&mut tail);
        tail
    }
}

impl Layout<'_> {
    /// Gives all of it to `out`, in order.
    ///
    /// # Errors
    /// The first of `out`.
    pub(super) fn write<E>(&self, mut out: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        out(&self.head)?;
        if !self.segments.is_empty() {
            let mut count = Vec::new();
            self.segments.len().encode(&mut count);
            let of_segment = |&(offset, bytes): &(u32, &[u8])| {
                segment_header(offset, bytes.len()).len() + bytes.len()
            };
            let bytes = count.len() + self.segments.iter().map(of_segment).sum::<usize>();
            let mut header = vec![SectionId::Data.into()];
            bytes.encode(&mut header);
            header.extend(count);
            out(&header)?;
            for (offset, bytes) in &self.segments {
                out(&segment_header(*offset, bytes.len()))?;
                out(bytes)?;
            }
        }
        out(&self.tail)
    }
}

/// What of a page is to be kept, and where it begins: nothing where all is zero.
fn used(page: &[u8]) -> (usize, &[u8]) {
    // Compared as a whole, not byte by byte.
    let is_used = |grain: &[u8]| *grain != [0; GRAIN_BYTES][..grain.len()];
    let Some(first) = page.chunks(GRAIN_BYTES).position(is_used) else { return (0, &[]) };
    let behind = page.rchunks(GRAIN_BYTES).position(is_used).unwrap_or(0) * GRAIN_BYTES;
    let start = first * GRAIN_BYTES;
    (start, &page[start..page.len() - behind])
}

/// An active segment of the only memory, up to its bytes.
fn segment_header(offset: u32, bytes: usize) -> Vec<u8> {
    const ACTIVE_IN_MEMORY_0: u32 = 0;
    let mut header = Vec::new();
    ACTIVE_IN_MEMORY_0.encode(&mut header);
    ConstExpr::i32_const(offset.cast_signed()).encode(&mut header);
    bytes.encode(&mut header);
    header
}

#[cfg(test)]
mod tests {
    use wasmparser::{KnownCustom, Parser, Payload, Validator, WasmFeatures};
    use wasmtime::Val;

    use super::super::constant;
    use super::*;

    fn written(dump: &Dump<'_>, bytes_max: u64) -> (Vec<u8>, u64) {
        let layout = dump.layout(bytes_max, || true);
        let mut bytes = Vec::new();
        let mut keep = |part: &[u8]| {
            bytes.extend(part);
            Ok::<(), ()>(())
        };
        layout.write(&mut keep).unwrap();
        Validator::new_with_features(WasmFeatures::default()).validate_all(&bytes).unwrap();
        (bytes, layout.left_out)
    }

    /// The memory that a dump begins with, of so many bytes.
    fn memory_of(dump: &[u8], bytes: usize) -> Vec<u8> {
        let mut memory = vec![0; bytes];
        for payload in Parser::new(0).parse_all(dump) {
            let Payload::DataSection(segments) = payload.unwrap() else { continue };
            for segment in segments {
                let segment = segment.unwrap();
                let wasmparser::DataKind::Active { offset_expr, .. } = segment.kind else {
                    panic!("a passive segment")
                };
                let mut operators = offset_expr.get_operators_reader();
                let wasmparser::Operator::I32Const { value } = operators.read().unwrap() else {
                    panic!("no constant")
                };
                let at = value.cast_unsigned() as usize;
                memory[at..at + segment.data.len()].copy_from_slice(segment.data);
            }
        }
        memory
    }

    fn dump(bytes: &[u8]) -> Dump<'_> {
        let memory = Some(Memory { bytes, pages_max: Some(9) });
        Dump { module: "m", frames: vec![(300, 7), (1, u32::MAX)], globals: Vec::new(), memory }
    }

    #[test]
    fn every_kind_of_value_is_one_of_a_valid_module() {
        let values = [
            Val::I32(i32::MIN),
            Val::I32(-1),
            Val::I32(63),
            Val::I32(64),
            Val::I64(i64::MIN),
            Val::I64(i64::MAX),
            Val::F32(0x7fc0_0001),
            Val::F64(1),
            Val::V128(u128::MAX.into()),
            Val::FuncRef(None),
            Val::ExternRef(None),
        ];
        let globals = values.iter().map(|value| {
            let (val_type, value) = constant(value);
            Global { ty: GlobalType { val_type, mutable: true, shared: false }, value }
        });
        let globals = globals.collect();
        let dump = Dump { module: "m", frames: Vec::new(), globals, memory: None };
        let (bytes, left_out) = written(&dump, 0);
        assert_eq!(left_out, 0);
        let mut payloads = Parser::new(0).parse_all(&bytes).map(Result::unwrap);
        let globals = payloads.find_map(|payload| match payload {
            Payload::GlobalSection(globals) => Some(globals),
            _ => None,
        });
        let shown = globals.unwrap().into_iter().map(|global| {
            let mut operators = global.unwrap().init_expr.get_operators_reader();
            format!("{:?}", operators.read().unwrap())
        });
        let shown: Vec<_> = shown.collect();
        for (number, value) in [(0, "-2147483648"), (1, "-1"), (2, "63"), (3, "64")] {
            assert_eq!(shown[number], format!("I32Const {{ value: {value} }}"));
        }
        assert_eq!(shown[4], format!("I64Const {{ value: {} }}", i64::MIN));
    }

    #[test]
    fn a_dump_says_whose_memory_it_is_and_which_functions_ran() {
        let (bytes, _) = written(&dump(&[0; 2 * PAGE_BYTES]), 1 << 20);
        let mut seen = Vec::new();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::CoreDump(core) => seen.push(core.name.to_owned()),
                    KnownCustom::CoreDumpModules(all) => seen.push(all.modules.join(" ")),
                    KnownCustom::CoreDumpInstances(all) => {
                        let instance = &all.instances[0];
                        seen.push(format!("{:?}{:?}", instance.memories, instance.globals));
                    }
                    KnownCustom::CoreDumpStack(stack) => {
                        let frame = |frame: &wasmparser::CoreDumpStackFrame| {
                            (frame.instanceidx, frame.funcidx, frame.codeoffset)
                        };
                        let frames: Vec<_> = stack.frames.iter().map(frame).collect();
                        seen.push(format!("{} {frames:?}", stack.name));
                    }
                    _ => panic!("another section"),
                },
                Payload::MemorySection(memories) => {
                    let memory = memories.into_iter().next().unwrap().unwrap();
                    seen.push(format!("{} to {:?}", memory.initial, memory.maximum));
                }
                _ => {}
            }
        }
        let stack = format!("main {:?}", [(0, 300, 7), (0, 1, u32::MAX)]);
        assert_eq!(seen, ["m", "2 to Some(9)", "m", "[0][]", &stack]);
    }

    #[test]
    fn memory_comes_back_byte_for_byte_and_zeros_take_no_room() {
        let mut memory = vec![0; 5 * PAGE_BYTES];
        for (at, byte) in [(0, 1), (255, 2), (PAGE_BYTES - 1, 3), (PAGE_BYTES, 4)] {
            memory[at] = byte;
        }
        memory[3 * PAGE_BYTES + 1000..][..300].fill(5);
        let (bytes, left_out) = written(&dump(&memory), 1 << 30);
        assert_eq!((memory_of(&bytes, memory.len()), left_out), (memory, 0));
        assert!(bytes.len() < PAGE_BYTES + 2000, "{}", bytes.len());
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let memory = vec![7; 4 * PAGE_BYTES];
        let (whole, _) = written(&dump(&memory), u64::MAX);
        let needed = whole.len() as u64;
        for (bytes_max, pages) in [(needed + 10, 4), (needed - 10, 3), (150_000, 2), (0, 0)] {
            let (bytes, left_out) = written(&dump(&memory), bytes_max);
            assert_eq!(left_out, ((4 - pages) * PAGE_BYTES) as u64, "{bytes_max}");
            let kept = memory_of(&bytes, memory.len());
            assert_eq!(kept[..pages * PAGE_BYTES], memory[..pages * PAGE_BYTES]);
            assert!(kept[pages * PAGE_BYTES..].iter().all(|byte| *byte == 0));
            assert!(bytes_max == 0 || bytes.len() as u64 <= bytes_max, "{}", bytes.len());
        }
    }

    #[test]
    fn what_there_is_no_time_for_is_left_out() {
        let memory = vec![7; 4 * PAGE_BYTES];
        let looks = std::cell::Cell::new(0);
        let may_go_on = || looks.replace(looks.get() + 1) < 3;
        let layout = dump(&memory).layout(u64::MAX, may_go_on);
        assert_eq!((layout.segments.len(), layout.left_out), (3, PAGE_BYTES as u64));
    }
}
