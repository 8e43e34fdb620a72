//! Bombs: modules that are small to send and expensive to compile or run.
//!
//! [`Binary`] writes a module section by section, because the text format is too slow for a million
//! items. Every bomb is valid, imports nothing, and exports `f`, which takes and returns an `i32`,
//! so that whatever is compiled can be run.

use wasm_encoder::{CustomSection, Encode, Module, RawSection};

pub use wasm_encoder::SectionId as Section;

/// The types of a bomb's functions: only `f`'s.
const F_TYPES: &[u8] = &[1, 0x60, 1, I32, 1, I32];
/// The export of function 0 as `f`.
const F_EXPORT: &[u8] = &[1, 1, b'f', 0, 0];

const I32: u8 = 0x7f;
const NOTHING: u8 = 0x40;

const BLOCK: u8 = 0x02;
const LOOP: u8 = 0x03;
const IF: u8 = 0x04;
const ELSE: u8 = 0x05;
const END: u8 = 0x0b;
const BR_IF: u8 = 0x0d;
const BR_TABLE: u8 = 0x0e;
const CALL: u8 = 0x10;
const DROP: u8 = 0x1a;
const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const I32_CONST: u8 = 0x41;
const I32_ADD: u8 = 0x6a;
const I32_MUL: u8 = 0x6c;

/// A module in the making, in the binary format.
#[derive(Clone, Debug)]
pub struct Binary(Module);

impl Binary {
    /// A module without sections.
    pub fn new() -> Self {
        Self(Module::new())
    }

    /// Adds a section; they have an order, which nobody checks here.
    #[must_use]
    pub fn section(mut self, section: Section, body: impl AsRef<[u8]>) -> Self {
        self.0.section(&RawSection { id: section.into(), data: body.as_ref() });
        self
    }

    /// Adds a custom section.
    #[must_use]
    pub fn custom(mut self, section: &str, contents: &[u8]) -> Self {
        self.0.section(&CustomSection { name: section.into(), data: contents.into() });
        self
    }

    /// Its bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.0.finish()
    }

    /// A module of these functions, all of `f`'s type, and a page of memory.
    fn of_functions(bodies: &[Vec<u8>]) -> Self {
        let types = vec![0; bodies.len()];
        Self::new()
            .section(Section::Type, F_TYPES)
            .section(Section::Function, [leb(bodies.len()), types].concat())
            .section(Section::Memory, [1, 0, 1])
            .section(Section::Export, F_EXPORT)
            .section(Section::Code, functions(bodies))
    }
}

impl Default for Binary {
    fn default() -> Self {
        Self::new()
    }
}

/// A number as the format writes lengths and indices.
pub fn leb(number: usize) -> Vec<u8> {
    encoded(&number)
}

/// A name: its length, then itself.
pub fn name(text: &str) -> Vec<u8> {
    encoded(text)
}

fn encoded(value: &(impl Encode + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

/// The code section of `bodies`.
fn functions(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut section = leb(bodies.len());
    for body in bodies {
        section.extend(leb(body.len()));
        section.extend_from_slice(body);
    }
    section
}

/// A function's body so far: `count` locals of type `i32`, and no code.
fn body(count: usize) -> Vec<u8> {
    match count {
        0 => vec![0],
        _ => [vec![1], leb(count), vec![I32]].concat(),
    }
}

fn get(code: &mut Vec<u8>, local: usize) {
    code.push(LOCAL_GET);
    code.extend(leb(local));
}

fn set(code: &mut Vec<u8>, local: usize) {
    code.push(LOCAL_SET);
    code.extend(leb(local));
}

/// One function of many locals, each of which is alive around a loop. A function may have 50,000,
/// its parameter among them.
pub fn locals(count: usize) -> Vec<u8> {
    let mut code = body(count);
    code.extend([LOOP, NOTHING]);
    for local in 1..count {
        get(&mut code, local);
        get(&mut code, local * 7919 % count + 1);
        code.push(I32_ADD);
        set(&mut code, local);
    }
    get(&mut code, 0);
    code.extend([BR_IF, 0, END]);
    get(&mut code, 1);
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// One function that forks and joins again and again, changing one of many locals each time.
pub fn diamonds(count: usize, locals: usize) -> Vec<u8> {
    let mut code = body(locals);
    for number in 0..count {
        let (one, other) = (number % locals + 1, number * 31 % locals + 1);
        get(&mut code, one);
        code.extend([IF, NOTHING]);
        get(&mut code, other);
        code.extend([I32_CONST, 1, I32_ADD]);
        set(&mut code, one);
        code.push(ELSE);
        get(&mut code, one);
        code.extend([I32_CONST, 2, I32_MUL]);
        set(&mut code, other);
        code.push(END);
    }
    get(&mut code, 1);
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// One function of loops in loops, which change 300 locals.
pub fn loops(depth: usize) -> Vec<u8> {
    const LOCALS: usize = 300;
    let mut code = body(LOCALS);
    for level in 0..depth {
        code.extend([LOOP, NOTHING]);
        get(&mut code, level % LOCALS + 1);
        code.extend([I32_CONST, 1, I32_ADD]);
        set(&mut code, level * 7 % LOCALS + 1);
    }
    for level in 0..depth {
        get(&mut code, level % LOCALS + 1);
        code.extend([BR_IF, 0, END]);
    }
    get(&mut code, 1);
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// Two functions, one of which takes 1000 numbers and returns them, and the other calls it again and
/// again: two bytes for every call, and thousands in machine code.
pub fn calls(count: usize) -> Vec<u8> {
    const PARAMETERS: usize = 1000;
    let thousand = [leb(PARAMETERS), vec![I32; PARAMETERS]].concat();
    let types = [&[2][..], &F_TYPES[1..], &[0x60], &thousand, &thousand].concat();
    let mut caller = body(0);
    for _ in 0..PARAMETERS {
        get(&mut caller, 0);
    }
    caller.extend([CALL, 1].repeat(count));
    caller.extend([DROP].repeat(PARAMETERS - 1));
    caller.push(END);
    let mut called = body(0);
    for parameter in 0..PARAMETERS {
        get(&mut called, parameter);
    }
    called.push(END);
    Binary::new()
        .section(Section::Type, types)
        .section(Section::Function, [2, 0, 1])
        .section(Section::Export, F_EXPORT)
        .section(Section::Code, functions(&[caller, called]))
        .bytes()
}

/// Very many functions that return what they are given.
pub fn many_functions(count: usize) -> Vec<u8> {
    Binary::of_functions(&vec![vec![0, LOCAL_GET, 0, END]; count]).bytes()
}

/// Functions whose references are all taken, so that each instance keeps a record of each, and
/// globals, of which it keeps every one.
pub fn records(functions_referred_to: usize, globals: usize) -> Vec<u8> {
    let count = functions_referred_to;
    let indices: Vec<u8> = (0..count).flat_map(leb).collect();
    // A declaration: nothing is put into any table.
    let elements = [&[1, 3, 0][..], &leb(count), &indices].concat();
    let global = [I32, 1, I32_CONST, 0, END];
    Binary::new()
        .section(Section::Type, F_TYPES)
        .section(Section::Function, [leb(count.max(1)), vec![0; count.max(1)]].concat())
        .section(Section::Global, [leb(globals), global.repeat(globals)].concat())
        .section(Section::Export, F_EXPORT)
        .section(Section::Element, elements)
        .section(Section::Code, functions(&vec![vec![0, LOCAL_GET, 0, END]; count.max(1)]))
        .bytes()
}

/// One function of blocks in blocks.
pub fn nesting(depth: usize) -> Vec<u8> {
    let mut code = body(0);
    code.extend([BLOCK, NOTHING].repeat(depth));
    get(&mut code, 0);
    code.extend([BR_IF, 5]);
    code.extend([END].repeat(depth));
    get(&mut code, 0);
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// One function of conditions in conditions, each of which gives a number: seconds of work, and
/// gigabytes of it.
pub fn ifs(depth: usize) -> Vec<u8> {
    let mut code = body(0);
    code.extend([LOCAL_GET, 0, IF, I32].repeat(depth));
    get(&mut code, 0);
    code.extend([ELSE, LOCAL_GET, 0, END].repeat(depth));
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// One function of 1000 blocks and a jump to any of them by a table of so many entries.
pub fn br_table(targets: usize) -> Vec<u8> {
    const BLOCKS: usize = 1000;
    let mut code = body(0);
    code.extend([BLOCK, NOTHING].repeat(BLOCKS));
    get(&mut code, 0);
    code.push(BR_TABLE);
    code.extend(leb(targets));
    for target in 0..targets {
        code.extend(leb(target % BLOCKS));
    }
    code.push(0);
    code.extend([END].repeat(BLOCKS));
    get(&mut code, 0);
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// One function without a branch.
pub fn straight(steps: usize) -> Vec<u8> {
    let mut code = body(0);
    get(&mut code, 0);
    code.extend([LOCAL_GET, 0, I32_ADD, I32_CONST, 3, I32_MUL].repeat(steps));
    code.push(END);
    Binary::of_functions(&[code]).bytes()
}

/// Very many pieces of data of one byte each, to be put into memory one after the other.
pub fn data_segments(count: usize) -> Vec<u8> {
    let piece = [0, I32_CONST, 0, END, 1, b'a'];
    let data = [leb(count), piece.repeat(count)].concat();
    Binary::of_functions(&[vec![0, LOCAL_GET, 0, END]]).section(Section::Data, data).bytes()
}

/// A memory of so many pages, with one byte of data in its first page and one in its last.
pub fn sparse_data(pages: usize) -> Vec<u8> {
    let last = ((pages << 16) - 1) as u32 as i32;
    let data =
        [&[2, 0, I32_CONST, 0, END, 1, b'a', 0, I32_CONST][..], &encoded(&last), &[END, 1, b'b']];
    Binary::new()
        .section(Section::Type, F_TYPES)
        .section(Section::Function, [1, 0])
        .section(Section::Memory, [vec![1, 0], leb(pages)].concat())
        .section(Section::Export, F_EXPORT)
        // Loads the byte at its argument.
        .section(Section::Code, functions(&[vec![0, LOCAL_GET, 0, 0x2d, 0, 0, END]]))
        .section(Section::Data, data.concat())
        .bytes()
}

/// Names for very many functions, of which there is one.
pub fn name_section(entries: usize) -> Vec<u8> {
    let mut map = leb(entries);
    for entry in 0..entries {
        map.extend(leb(entry));
        map.extend([1, b'x']);
    }
    let names = [vec![1], leb(map.len()), map].concat();
    Binary::of_functions(&[vec![0, LOCAL_GET, 0, END]]).custom("name", &names).bytes()
}

/// A function exported twice: as `f`, and under a name of so many bytes.
pub fn long_export(bytes: usize) -> Vec<u8> {
    let long = name(&"x".repeat(bytes));
    let exports = [&[2][..], &F_EXPORT[1..], &long, &[0, 0]].concat();
    Binary::new()
        .section(Section::Type, F_TYPES)
        .section(Section::Function, [1, 0])
        .section(Section::Export, exports)
        .section(Section::Code, functions(&[vec![0, LOCAL_GET, 0, END]]))
        .bytes()
}
