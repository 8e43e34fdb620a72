//! The limits of a task, and the settings that a compiler needs of them.

use std::time::Duration;

use crate::Features;
use crate::codec::{Decode, Encode};
use crate::frame::FRAME_BYTES_MAX;

/// The limits of one task. Each has a default; a task that reaches a limit ends with an error that
/// names it.
///
/// ```
/// use std::time::Duration;
/// use stockade_wire::Limits;
///
/// let limits = Limits::default().wall_time(Duration::from_secs(1)).memory_bytes(64 << 20);
/// assert_eq!(limits.memory_bytes, 64 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct Limits {
    /// Time from a task's start to its end. At the deadline its worker is killed and replaced, or,
    /// where `interruptible`, the task traps. `None` is no deadline. Default: 60 s.
    pub wall_time: Option<Duration>,
    /// Whether a task traps at its deadline, with a backtrace, and its worker survives, instead of
    /// a kill. Checks are compiled into the guest: a tight loop may run at less than half its
    /// speed. Default: false.
    pub interruptible: bool,
    /// Linear memory in bytes, all memories of an instance together. Default: 256 MiB.
    pub memory_bytes: u64,
    /// Elements of all tables of an instance together. Default: 100,000.
    pub table_elements: u64,
    /// Fuel, about one unit an instruction; `None` does not count it. Counting is compiled in, as
    /// for `interruptible`. Default: `None`.
    pub fuel: Option<u64>,
    /// Bytes of a task's result and emitted items together; each item counts
    /// [`EMIT_OVERHEAD_BYTES`] more. A result in a lent buffer does not count. Default: 16 MiB.
    pub output_bytes: u64,
    /// Bytes kept of each of captured stdout, captured stderr, and the log. The rest is dropped and
    /// counted, and the task goes on. Default: 64 KiB.
    pub stdio_bytes: u64,
    /// The seed of deterministic tasks; `None`: tasks have real clocks and random numbers. Default:
    /// `None`.
    ///
    /// The same arguments and the same seed give the same result, the same output and the same fuel,
    /// on every run and machine: random numbers come from the seed; clocks start in the year 2000
    /// and advance by a microsecond each time they are read; a sleep returns at once, with the
    /// clock advanced; every task sees id 1 and no deadline; and NaN bit patterns are canonical,
    /// which is compiled in, as fuel is. Granted files and the state of a shared instance may still
    /// differ. `wall_time` applies as usual.
    pub deterministic: Option<u64>,
}

/// What an emitted item counts in [`Limits::output_bytes`] in addition to its own bytes, so that
/// empty items are bounded too.
pub const EMIT_OVERHEAD_BYTES: u64 = 32;

/// The most that [`Limits::output_bytes`] may be.
pub const OUTPUT_BYTES_MAX: u64 = 128 << 20;

/// The most that [`Limits::stdio_bytes`] may be.
pub const STDIO_BYTES_MAX: u64 = 16 << 20;

/// The maximum of [`Limits::memory_bytes`]: all that 32-bit addresses reach.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The most modules of a pool whose instances live as long as its workers: each worker may hold an
/// instance of every one.
pub const MODULES_LIVING_MAX: usize = 16;

/// The most that [`Limits::table_elements`] may be.
pub const TABLE_ELEMENTS_MAX: u64 = 10_000_000;

// A result, both streams and the log must fit one frame, with room for what surrounds them.
const _: () = assert!(OUTPUT_BYTES_MAX + 3 * STDIO_BYTES_MAX + (1 << 20) < FRAME_BYTES_MAX as u64);

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_time: Some(Duration::from_secs(60)),
            interruptible: false,
            memory_bytes: 256 << 20,
            table_elements: 100_000,
            fuel: None,
            output_bytes: 16 << 20,
            stdio_bytes: 64 << 10,
            deterministic: None,
        }
    }
}

impl Limits {
    /// Sets [`wall_time`](Self::wall_time); takes a `Duration` or `None`.
    #[must_use]
    pub fn wall_time(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.wall_time = time.into();
        self
    }

    /// Sets [`interruptible`](Self::interruptible).
    #[must_use]
    pub fn interruptible(mut self, interruptible: bool) -> Self {
        self.interruptible = interruptible;
        self
    }

    /// Sets [`memory_bytes`](Self::memory_bytes).
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets [`table_elements`](Self::table_elements).
    #[must_use]
    pub fn table_elements(mut self, elements: u64) -> Self {
        self.table_elements = elements;
        self
    }

    /// Sets [`fuel`](Self::fuel); takes a number or `None`.
    #[must_use]
    pub fn fuel(mut self, fuel: impl Into<Option<u64>>) -> Self {
        self.fuel = fuel.into();
        self
    }

    /// Sets [`output_bytes`](Self::output_bytes).
    #[must_use]
    pub fn output_bytes(mut self, bytes: u64) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Sets [`stdio_bytes`](Self::stdio_bytes).
    #[must_use]
    pub fn stdio_bytes(mut self, bytes: u64) -> Self {
        self.stdio_bytes = bytes;
        self
    }

    /// Sets [`deterministic`](Self::deterministic); takes a seed or `None`.
    #[must_use]
    pub fn deterministic(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.deterministic = seed.into();
        self
    }

    /// The largest frame that an honest worker under these limits sends.
    pub fn frame_bytes(&self) -> usize {
        let bytes = self.output_bytes + 3 * self.stdio_bytes + (1 << 20);
        usize::try_from(bytes).unwrap_or(FRAME_BYTES_MAX).min(FRAME_BYTES_MAX)
    }

    /// The settings that the compiler needs, with the default features.
    pub fn engine_settings(&self) -> EngineSettings {
        let metering = match (self.interruptible, self.fuel.is_some()) {
            (false, false) => Metering::None,
            (true, false) => Metering::Epochs,
            (false, true) => Metering::Fuel,
            (true, true) => Metering::EpochsAndFuel,
        };
        EngineSettings {
            memory_bytes: self.memory_bytes,
            table_elements: self.table_elements,
            metering,
            canonical_nans: self.deterministic.is_some(),
            unknown_imports: UnknownImports::default(),
            features: Features::default(),
        }
    }
}

/// Settings that compiled code and its engine must have in common.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EngineSettings {
    /// As [`Limits::memory_bytes`].
    pub memory_bytes: u64,
    /// As [`Limits::table_elements`].
    pub table_elements: u64,
    /// Which checks are compiled in.
    pub metering: Metering,
    /// Whether results are the same on every machine: NaN bit patterns are canonical, and relaxed vector
    /// instructions have their deterministic form.
    pub canonical_nans: bool,
    /// What to do about imports that are not provided. It does not affect code; the compiler admits
    /// what the worker links.
    pub unknown_imports: UnknownImports,
    /// Features beyond WebAssembly 2.0 that modules may use.
    pub features: Features,
}

/// What to do about imported functions that are not provided, for modules that never call them.
/// Unknown tables, memories and globals are always refused, and so are known imports with another
/// type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[non_exhaustive]
pub enum UnknownImports {
    /// The module is refused; the error names each import.
    #[default]
    Refuse,
    /// Each becomes a function that traps, with its name in the error.
    Trap,
    /// Each becomes a function that does nothing and returns zeros, or null for a reference. The
    /// module is refused if a result type has neither.
    DefaultValues,
}

impl UnknownImports {
    /// Whether it admits every module that `other` admits.
    pub fn admits(self, other: Self) -> bool {
        // What has a default value can also trap.
        let latitude = |unknown| match unknown {
            Self::Refuse => 0,
            Self::DefaultValues => 1,
            Self::Trap => 2,
        };
        latitude(self) >= latitude(other)
    }
}

/// Checks compiled into guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Metering {
    /// None: full speed.
    None,
    /// Epoch checks, for deadlines that trap.
    Epochs,
    /// Fuel counters.
    Fuel,
    /// Both.
    EpochsAndFuel,
}

impl Metering {
    /// Whether epoch checks are compiled in.
    pub fn epochs(self) -> bool {
        matches!(self, Self::Epochs | Self::EpochsAndFuel)
    }

    /// Whether fuel is counted.
    pub fn fuel(self) -> bool {
        matches!(self, Self::Fuel | Self::EpochsAndFuel)
    }
}
