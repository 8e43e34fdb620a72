//! Trust: checks owner and permissions of the cache's files.
//!
//! Every check is of an open descriptor, so that what was checked is what is then used; a path may
//! name something else a moment later.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};

use crate::outcome::cache_error::Distrust;

/// Opens a file without blocking: no link, no pipe without a writer, no terminal.
pub(super) const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a directory that is no link.
pub(super) const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is known of an open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    kind: FileType,
    owner: u32,
    mode: u32,
    names: u64,
    pub(super) bytes: u64,
}

impl Facts {
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            // Its width differs between architectures.
            #[allow(clippy::unnecessary_cast)]
            names: stat.st_nlink as u64,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    /// A directory of `user` that no other user may enter.
    pub(super) fn check_directory(&self, user: u32) -> Result<(), Distrust> {
        self.check(FileType::Directory, user, 0o077)
    }

    /// A directory of `user`, or of root, in which no other user may replace a file.
    pub(super) fn check_parent(&self, user: u32) -> Result<(), Distrust> {
        let owner = if self.owner == 0 { 0 } else { user };
        self.check(FileType::Directory, owner, 0o022)
    }

    /// A regular file of `user` that no other user may open.
    pub(super) fn check_file(&self, user: u32) -> Result<(), Distrust> {
        self.check(FileType::RegularFile, user, 0o077)
    }

    /// As [`check_file`](Self::check_file), and known by no second name: one that is linked from
    /// elsewhere could be written from there. One without any was replaced just now.
    pub(super) fn check_entry(&self, user: u32) -> Result<(), Distrust> {
        self.check_file(user)?;
        if self.names <= 1 { Ok(()) } else { Err(Distrust::Names(self.names)) }
    }

    fn check(&self, kind: FileType, user: u32, forbidden: u32) -> Result<(), Distrust> {
        if self.kind != kind {
            return Err(Distrust::Kind);
        }
        if self.owner != user {
            return Err(Distrust::Owner { found: self.owner, needed: user });
        }
        if self.mode & forbidden != 0 {
            return Err(Distrust::Mode { found: self.mode, forbidden });
        }
        Ok(())
    }
}

/// Whose files are trusted: the user this process acts as.
pub(super) fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: Facts =
        Facts { kind: FileType::Directory, owner: 7, mode: 0o700, names: 3, bytes: 0 };
    const FILE: Facts =
        Facts { kind: FileType::RegularFile, owner: 7, mode: 0o600, names: 1, bytes: 9 };

    #[test]
    fn what_is_ours_alone_is_trusted() {
        assert_eq!(DIRECTORY.check_directory(7), Ok(()));
        assert_eq!(FILE.check_entry(7), Ok(()));
        assert_eq!(Facts { names: 2, ..FILE }.check_file(7), Ok(()));
        assert_eq!(Facts { mode: 0o400, ..FILE }.check_entry(7), Ok(()));
    }

    #[test]
    fn every_bit_for_others_costs_the_trust() {
        for bit in 0..6 {
            let mode = 0o700 | 1 << bit;
            let why = Err(Distrust::Mode { found: mode, forbidden: 0o077 });
            assert_eq!(Facts { mode, ..DIRECTORY }.check_directory(7), why);
            assert_eq!(Facts { mode, ..FILE }.check_entry(7), why);
        }
    }

    #[test]
    fn a_parent_may_be_read_by_all_and_written_by_its_owner_alone() {
        assert_eq!(Facts { mode: 0o755, ..DIRECTORY }.check_parent(7), Ok(()));
        assert_eq!(Facts { owner: 0, ..DIRECTORY }.check_parent(7), Ok(()));
        for mode in [0o720, 0o702, 0o1777] {
            let distrust = Facts { mode, ..DIRECTORY }.check_parent(7);
            assert_eq!(distrust, Err(Distrust::Mode { found: mode, forbidden: 0o022 }));
        }
    }

    #[test]
    fn what_belongs_to_another_is_not_trusted_not_even_by_the_administrator() {
        for (owner, user) in [(8, 7), (0, 7), (7, 0)] {
            let why = Err(Distrust::Owner { found: owner, needed: user });
            assert_eq!(Facts { owner, ..DIRECTORY }.check_directory(user), why);
            assert_eq!(Facts { owner, ..FILE }.check_entry(user), why);
        }
        let why = Err(Distrust::Owner { found: 8, needed: 7 });
        assert_eq!(Facts { owner: 8, ..DIRECTORY }.check_parent(7), why);
    }

    #[test]
    fn an_entry_is_a_plain_file_with_one_name() {
        for kind in [
            FileType::Directory,
            FileType::Symlink,
            FileType::Fifo,
            FileType::Socket,
            FileType::CharacterDevice,
            FileType::BlockDevice,
        ] {
            assert_eq!(Facts { kind, ..FILE }.check_entry(7), Err(Distrust::Kind));
        }
        assert_eq!(FILE.check_directory(7), Err(Distrust::Kind));
        for names in [0, 1] {
            assert_eq!(Facts { names, ..FILE }.check_entry(7), Ok(()));
        }
        assert_eq!(Facts { names: 2, ..FILE }.check_entry(7), Err(Distrust::Names(2)));
    }

    #[test]
    fn a_wrong_mode_is_told_with_the_right_one() {
        let why = Distrust::Mode { found: 0o755, forbidden: 0o077 };
        assert!(why.to_string().contains("0755, not 0700"), "{why}");
    }
}
