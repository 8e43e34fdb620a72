//! Counts: checks that sections have at least as many bytes as claimed items.
//!
//! A validator allocates memory for all items that a section claims before it reads the first: 72
//! MB for a million imports, which twenty bytes can claim. Each item takes at least a byte, so a
//! section that claims more is malformed, and is refused before anything is allocated.

use stockade_wire::{Refusal, RefusalKind};
use wasmparser::{Parser, Payload};

use crate::refusal;

/// Checks every section of the binary module `binary`, as far as it can be read.
///
/// # Errors
/// A refusal that names the first section that claims too much.
pub(crate) fn check(binary: &[u8]) -> Result<(), Refusal> {
    // What cannot be read is the validator's to name.
    for payload in Parser::new(0).parse_all(binary).map_while(Result::ok) {
        let (count, range) = match payload {
            Payload::TypeSection(section) => (section.count(), section.range()),
            Payload::ImportSection(section) => (section.count(), section.range()),
            Payload::FunctionSection(section) => (section.count(), section.range()),
            Payload::TableSection(section) => (section.count(), section.range()),
            Payload::MemorySection(section) => (section.count(), section.range()),
            Payload::TagSection(section) => (section.count(), section.range()),
            Payload::GlobalSection(section) => (section.count(), section.range()),
            Payload::ExportSection(section) => (section.count(), section.range()),
            Payload::ElementSection(section) => (section.count(), section.range()),
            Payload::DataSection(section) => (section.count(), section.range()),
            _ => continue,
        };
        let (at, bytes) = (range.start, range.len());
        if count as usize > bytes {
            let message = format!(
                "not a valid module: the section at offset {at:#x} claims {count} items in {bytes} bytes"
            );
            return Err(refusal(RefusalKind::Malformed, &message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module whose section `id` has these bytes.
    fn module(id: u8, section: &[u8]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.push(id);
        module.push(u8::try_from(section.len()).unwrap());
        module.extend(section);
        module
    }

    #[test]
    fn a_section_has_at_least_a_byte_for_every_item_that_it_claims() {
        let functions = |count: u8| module(3, &[&[count][..], &[0; 20]].concat());
        assert_eq!(check(&functions(20)), Ok(()));
        let refused = check(&functions(22)).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Malformed);
        let claims = "the section at offset 0xa claims 22 items in 21 bytes";
        assert!(refused.message.ends_with(claims), "{}", refused.message);
    }

    #[test]
    fn every_section_with_items_is_looked_at() {
        for id in (1..=7).chain([9, 11, 13]) {
            let section = module(id, &[0xff, 0xff, 1]);
            assert!(check(&section).is_err(), "section {id}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_validator() {
        assert_eq!(check(b""), Ok(()));
        assert_eq!(check(b"\0asm"), Ok(()));
        assert_eq!(check(&module(2, &[0x80])), Ok(()));
    }
}
