//! A module before it is compiled: its bytes, sealed or only hashed. The compiled bytes are always
//! the hashed ones.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use stockade_wire::descriptor;

use super::blame::beyond;
use super::{MAKE_FILE, NotCompiled, READ};
use crate::outcome::machine::{self, MachineError};

/// The BLAKE3 hash of a module's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleHash(pub(crate) [u8; 32]);

/// A module before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    /// Their hash.
    pub(crate) hash: ModuleHash,
    /// Whether it may be text.
    pub(crate) text: bool,
    wasm: Arc<Wasm>,
}

/// Where a module's bytes are.
#[derive(Debug)]
struct Wasm {
    /// In a file that others may change, until they are needed. None where they were sealed at once.
    found: Option<File>,
    sealed: OnceLock<File>,
}

impl Source {
    /// The module that is `bytes`.
    ///
    /// # Errors
    /// If there are more than `bytes_max`, or the system has no memory file of so many.
    pub(crate) fn from_bytes(
        name: String,
        bytes: &[u8],
        text: bool,
        bytes_max: u64,
    ) -> Result<Self, NotCompiled> {
        let mut filling = Filling::sealed(bytes_max)?;
        filling.add(bytes)?;
        filling.finish(name, text)
    }

    /// Its bytes, in a sealed memory file. Blocks while they are read, the first time, where only their
    /// hash was taken before.
    ///
    /// # Errors
    /// If the system has no memory file of so many, or they have changed since.
    pub(crate) fn sealed(&self) -> Result<&File, NotCompiled> {
        if let (None, Some(found)) = (self.wasm.sealed.get(), &self.wasm.found) {
            let again = self.read_again(found)?;
            // Another thread may have done the same.
            let _ = self.wasm.sealed.set(again);
        }
        self.wasm.sealed.get().ok_or_else(|| changed("it was not read"))
    }

    fn read_again(&self, found: &File) -> Result<File, NotCompiled> {
        let mut filling = Filling::sealed(u64::MAX)?;
        let mut buffer = vec![0; PIECE_BYTES];
        while filling.bytes() <= self.bytes {
            let read = match found.read_at(&mut buffer, filling.bytes()) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(NotCompiled::Machine(MachineError::of(READ, &error))),
            };
            filling.add(&buffer[..read])?;
        }
        let again = filling.finish(self.name.clone(), self.text)?;
        let sealed = Arc::into_inner(again.wasm).and_then(|wasm| wasm.sealed.into_inner());
        sealed.filter(|_| again.hash == self.hash).ok_or_else(|| changed("its file has changed"))
    }
}

fn changed(why: &str) -> NotCompiled {
    NotCompiled::Machine(MachineError::of(READ, &io::Error::other(why)))
}

/// How much of a file is read at a time: it stays in a processor's cache until it is written.
pub(crate) const PIECE_BYTES: usize = 128 << 10;

/// A module that is being read: each piece is hashed as it comes, and written to a memory file where the
/// bytes are needed, so the hash is that of the file, whatever becomes of where the pieces came from.
#[derive(Debug)]
pub(crate) struct Filling {
    wasm: Option<File>,
    hasher: blake3::Hasher,
    bytes_max: u64,
}

impl Filling {
    /// Keeps the bytes.
    ///
    /// # Errors
    /// If the system has no memory file.
    pub(crate) fn sealed(bytes_max: u64) -> Result<Self, NotCompiled> {
        let wasm = descriptor::memory_file("stockade-module").map_err(no_memory_file)?;
        Ok(Self { wasm: Some(wasm), ..Self::hashed(bytes_max) })
    }

    /// Keeps nothing but their hash.
    pub(crate) fn hashed(bytes_max: u64) -> Self {
        Self { wasm: None, hasher: blake3::Hasher::new(), bytes_max }
    }

    fn bytes(&self) -> u64 {
        self.hasher.count()
    }

    /// # Errors
    /// As [`Source::from_bytes`].
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), NotCompiled> {
        let bytes = self.bytes().saturating_add(piece.len() as u64);
        if bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(beyond("module_bytes", format!("it has more than {bytes_max} bytes")));
        }
        if let Some(wasm) = &mut self.wasm {
            machine::check_file_bytes(MAKE_FILE, bytes).map_err(NotCompiled::Machine)?;
            wasm.write_all(piece).map_err(no_memory_file)?;
        }
        self.hasher.update(piece);
        Ok(())
    }

    /// The module whose bytes were kept.
    ///
    /// # Errors
    /// If the system does not seal its file.
    pub(crate) fn finish(self, name: String, text: bool) -> Result<Source, NotCompiled> {
        self.wasm.as_ref().map_or(Ok(()), descriptor::seal).map_err(no_memory_file)?;
        Ok(self.source(name, text, None))
    }

    /// The module whose bytes are those of `found`, an ordinary file.
    pub(crate) fn finish_in(self, found: File, name: String, text: bool) -> Source {
        self.source(name, text, Some(found))
    }

    fn source(self, name: String, text: bool, found: Option<File>) -> Source {
        let (bytes, hash) = (self.bytes(), ModuleHash(*self.hasher.finalize().as_bytes()));
        let sealed = self.wasm.map_or_else(OnceLock::new, OnceLock::from);
        Source { name, bytes, hash, text, wasm: Arc::new(Wasm { found, sealed }) }
    }
}

pub(super) fn no_memory_file(error: io::Error) -> NotCompiled {
    NotCompiled::Machine(MachineError::of(MAKE_FILE, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::error::RefusedReason;

    fn held(source: &Source) -> Vec<u8> {
        stockade_wire::SealedBytes::of(source.sealed().unwrap()).unwrap().to_vec()
    }

    /// A module in a file of its own, of which only the hash is there.
    fn found(bytes: &[u8]) -> (File, Source) {
        let file = descriptor::memory_file("test").unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut filling = Filling::hashed(u64::MAX);
        bytes.chunks(70_001).for_each(|piece| filling.add(piece).unwrap());
        let source = filling.finish_in(file.try_clone().unwrap(), "test".into(), false);
        (file, source)
    }

    #[test]
    fn a_source_has_the_hash_of_what_is_in_its_file() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let whole = Source::from_bytes("test".into(), &bytes, false, 300_000).unwrap();
        let mut filling = Filling::sealed(300_000).unwrap();
        // From memory that changes after each piece.
        for piece in bytes.chunks(70_001) {
            let mut lent = piece.to_vec();
            filling.add(&lent).unwrap();
            lent.fill(0);
        }
        let pieces = filling.finish("test".into(), false).unwrap();
        for source in [whole, pieces, found(&bytes).1] {
            assert!(held(&source) == bytes && source.bytes == 300_000);
            assert_eq!(source.hash, ModuleHash(*blake3::hash(&bytes).as_bytes()));
        }
        let empty = Source::from_bytes("test".into(), &[], false, 0).unwrap();
        assert_eq!(empty.hash, ModuleHash(*blake3::hash(&[]).as_bytes()));
        assert_eq!(held(&empty), held(&found(&[]).1));
    }

    #[test]
    fn a_file_that_changed_since_it_was_hashed_is_never_used() {
        let bytes = vec![7; 300_000];
        let changes: [fn(&File); 4] = [
            |file| file.write_all_at(&[8], 299_999).unwrap(),
            |file| file.set_len(299_999).unwrap(),
            |file| file.set_len(300_001).unwrap(),
            |file| file.set_len(0).unwrap(),
        ];
        for change in changes {
            let (file, source) = found(&bytes);
            change(&file);
            let NotCompiled::Machine(error) = source.sealed().unwrap_err() else { panic!() };
            assert!(error.to_string().contains("has changed"), "{error}");
        }
        // What is sealed once stays, for clones too.
        let (file, source) = found(&bytes);
        let clone = source.clone();
        assert!(held(&source) == bytes);
        file.set_len(0).unwrap();
        assert!(held(&clone) == bytes);
    }

    #[test]
    fn a_module_may_be_as_large_as_allowed_and_no_larger_in_pieces_too() {
        for mut filling in [Filling::hashed(10), Filling::sealed(10).unwrap()] {
            filling.add(&[0; 4]).unwrap();
            let refused = filling.add(&[0; 7]);
            assert!(matches!(refused, Err(NotCompiled::Refused(RefusedReason::Limit(_)))));
            filling.add(&[0; 6]).unwrap();
            assert!(filling.add(&[0]).is_err());
            assert_eq!(filling.finish("test".into(), false).unwrap().bytes, 10);
        }
    }
}
