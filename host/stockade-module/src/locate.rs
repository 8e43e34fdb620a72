//! Source lines of code offsets, from the module's DWARF.
//!
//! ```text
//! CodePlace ─► the function's body in the module ─► address in the code section ─► DWARF ─► SourcePlace
//! ```
//!
//! Places are relative to functions, because a module's snapshot has the same functions elsewhere.
//!
//! Invariant: the answer for an offset is bounded, for any module.
//!
//! Deliberately absent: limits on time and memory. Hostile DWARF can cost any amount of both, so it
//! is parsed in a compiler process, under the kernel's limits.

use std::fmt::Write;

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use stockade_wire::{
    CodePlace, FILE_NAME_BYTES_MAX, INLINED_MAX, LOCATED_FRAMES_MAX, Refusal, RefusalKind,
    SourcePlace,
};
use wasmparser::{Parser, Payload, TypeRef};

use crate::{Bounded, refusal};

/// The prefix of DWARF sections' names.
const DEBUG_SECTION: &str = ".debug_";

/// What is needed of a module: where its functions are, and its DWARF.
#[derive(Default)]
struct Layout<'a> {
    imported_functions: u32,
    /// Where the contents of the code section begin.
    code_at: usize,
    /// Where each body begins, and how long it is.
    bodies: Vec<(usize, usize)>,
    sections: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Layout<'a> {
    fn read(binary: &'a [u8]) -> wasmparser::Result<Self> {
        let mut layout = Self::default();
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                            layout.imported_functions += 1;
                        }
                    }
                }
                Payload::CodeSectionStart { range, .. } => layout.code_at = range.start,
                Payload::CodeSectionEntry(body) => {
                    let range = body.range();
                    layout.bodies.push((range.start, range.len()));
                }
                Payload::CustomSection(section) if is_debug_section(section.name()) => {
                    layout.sections.push((section.name(), section.data()));
                }
                _ => {}
            }
        }
        Ok(layout)
    }

    /// The address of `place` as DWARF has it; `None` where there is no such place.
    fn address(&self, place: CodePlace) -> Option<u64> {
        let body = place.function.checked_sub(self.imported_functions)?;
        let (start, bytes) = *self.bodies.get(body as usize)?;
        let offset = usize::try_from(place.offset).ok().filter(|offset| *offset < bytes)?;
        Some((start + offset).checked_sub(self.code_at)? as u64)
    }

    fn section(&self, id: SectionId) -> EndianSlice<'a, LittleEndian> {
        let found = self.sections.iter().find(|(name, _)| *name == id.name());
        EndianSlice::new(found.map_or(&[], |(_, data)| data), LittleEndian)
    }
}

/// Whether a custom section of this name holds DWARF.
pub(crate) fn is_debug_section(name: &str) -> bool {
    name.starts_with(DEBUG_SECTION)
}

/// Returns for each of `places` in the binary module `binary` the inlined functions, innermost
/// first; none if the module has no information. `readable` demangles names.
///
/// # Errors
/// If it is not a module, its DWARF cannot be read at all, or there are too many places.
pub fn locate(
    binary: &[u8],
    places: &[CodePlace],
    readable: impl Fn(&str) -> String,
) -> Result<Vec<Vec<SourcePlace>>, Refusal> {
    if places.len() > LOCATED_FRAMES_MAX {
        let message = format!(
            "{} places at once, but at most {LOCATED_FRAMES_MAX} are allowed",
            places.len()
        );
        return Err(refusal(RefusalKind::Limit, &message));
    }
    let malformed = |what: &str, error: &dyn std::fmt::Display| {
        refusal(RefusalKind::Malformed, &format!("{what}: {error}"))
    };
    let layout = Layout::read(binary).map_err(|error| malformed("not a valid module", &error))?;
    let dwarf = Dwarf::load(|id| Ok::<_, addr2line::gimli::Error>(layout.section(id)));
    let context = dwarf.and_then(Context::from_dwarf);
    let context = context.map_err(|error| malformed("its DWARF cannot be read", &error))?;
    let of_place = |place: &CodePlace| {
        let address = layout.address(*place);
        address.map(|address| at(&context, address, &readable)).unwrap_or_default()
    };
    Ok(places.iter().map(of_place).collect())
}

/// What `context` says of an address, up to where it is malformed.
fn at(
    context: &Context<EndianSlice<'_, LittleEndian>>,
    address: u64,
    readable: impl Fn(&str) -> String,
) -> Vec<SourcePlace> {
    let mut places = Vec::new();
    let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return places };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let location = frame.location.as_ref();
        // Zero stands for none.
        let counted = |number: Option<u32>| number.filter(|number| *number > 0);
        places.push(SourcePlace {
            function: name.map(|name| readable(&name)),
            file: location.and_then(|location| location.file).map(file),
            line: counted(location.and_then(|location| location.line)),
            column: counted(location.and_then(|location| location.column)),
        });
        if places.len() == INLINED_MAX {
            break;
        }
    }
    places
}

fn file(name: &str) -> String {
    let mut bounded = Bounded::new(FILE_NAME_BYTES_MAX);
    // Fails where it is too long, which is how it is cut short.
    let _ = bounded.write_str(name);
    bounded.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See `located.c` next to it. `share` is the first function and `percent` the second.
    const LOCATED: &[u8] = include_bytes!("../../../tests/fixtures/located.wasm");

    fn located(binary: &[u8], function: u32, offset: u32) -> Vec<SourcePlace> {
        let place = CodePlace { function, offset };
        locate(binary, &[place], str::to_owned).unwrap().pop().unwrap()
    }

    /// The offset of the division in the first function.
    fn division() -> u32 {
        let mut found = None;
        for payload in Parser::new(0).parse_all(LOCATED) {
            if let Ok(Payload::CodeSectionEntry(body)) = payload
                && found.is_none()
            {
                let start = body.range().start;
                for operator in body.get_operators_reader().unwrap().into_iter_with_offsets() {
                    if let (wasmparser::Operator::I32DivS, at) = operator.unwrap() {
                        found = Some((at - start) as u32);
                    }
                }
            }
        }
        found.unwrap()
    }

    #[test]
    fn a_place_is_its_line_and_those_it_was_inlined_into() {
        let places = located(LOCATED, 0, division());
        let shown: Vec<_> = places
            .iter()
            .map(|place| {
                let file = place.file.as_deref().unwrap().to_owned();
                (place.function.as_deref().unwrap(), file, place.line, place.column)
            })
            .collect();
        let file = || "/guest/located.c".to_owned();
        assert_eq!(
            shown,
            [("ratio", file(), Some(11), Some(18)), ("share", file(), Some(15), Some(12))]
        );
    }

    #[test]
    fn places_that_are_not_there_have_no_source() {
        for (function, offset) in [(0, 10_000), (3, 0), (u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(located(LOCATED, function, offset), []);
        }
        let bare = wat::parse_str("(module (func unreachable))").unwrap();
        assert_eq!(located(&bare, 0, 1), []);
    }

    #[test]
    fn imported_functions_come_first() {
        let source = r#"(module (import "a" "f" (func)) (func unreachable))"#;
        let binary = wat::parse_str(source).unwrap();
        let layout = Layout::read(&binary).unwrap();
        let address = |function| layout.address(CodePlace { function, offset: 1 });
        assert_eq!(address(0), None);
        // Behind the number of bodies, and the length of the first.
        assert_eq!(address(1), Some(3));
    }

    #[test]
    fn damaged_debug_information_costs_no_more_than_itself() {
        let section = |payload| match payload {
            Payload::CustomSection(section) if is_debug_section(section.name()) => {
                Some(section.data_offset()..section.data_offset() + section.data().len())
            }
            _ => None,
        };
        let sections: Vec<_> = Parser::new(0)
            .parse_all(LOCATED)
            .filter_map(|payload| section(payload.unwrap()))
            .collect();
        let place = CodePlace { function: 0, offset: division() };
        for at in sections.into_iter().flatten() {
            for damage in [0x00, 0x7f, 0xff] {
                let mut damaged = LOCATED.to_vec();
                damaged[at] = damage;
                // Whatever is said, it is bounded.
                if let Ok(places) = locate(&damaged, &[place], str::to_owned) {
                    assert!(places[0].len() <= INLINED_MAX);
                }
            }
        }
    }

    #[test]
    fn too_many_places_are_refused_and_as_many_as_may_be_are_not() {
        let ask = |count| {
            locate(LOCATED, &vec![CodePlace { function: 0, offset: 0 }; count], str::to_owned)
        };
        assert_eq!(ask(LOCATED_FRAMES_MAX).unwrap().len(), LOCATED_FRAMES_MAX);
        assert_eq!(ask(LOCATED_FRAMES_MAX + 1).unwrap_err().kind, RefusalKind::Limit);
    }
}
