//! Lockdown: the layers that confine a process, which of them a pool wants, and reports of their
//! state.

use std::fmt;

use crate::bounds::{self, impl_bounded_decode};
use crate::codec::{Decode, Encode};

/// A layer between an attacker in a process and the machine.
///
/// Each works without the others; `docs/threat-model.md` says what each stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[non_exhaustive]
pub enum Layer {
    /// No environment, and no descriptors but three empty streams and the socket.
    Inheritance,
    /// `no_new_privs`: executing a program gives it no more rights.
    NoNewPrivs,
    /// It dies with its host.
    ParentDeath,
    /// A session of its own, away from the host's terminal.
    Session,
    /// Its own user, process, network and IPC namespaces: no other processes, and no network.
    Namespaces,
    /// No capability, and not root.
    Privileges,
    /// Not dumpable: processes of the same user can neither trace it nor read its memory.
    Undumpable,
    /// Limits of the kernel on memory, descriptors, files, processes and core files.
    ResourceLimits,
    /// Landlock: no file but the granted directories, no TCP, no signal or abstract socket beyond
    /// itself.
    Landlock,
    /// Writable memory never becomes executable.
    WriteXorExecute,
    /// A seccomp filter: a system call that its role does not need kills the process.
    Seccomp,
}

impl Layer {
    /// Every layer, in the order in which they are applied.
    pub const ALL: [Self; 11] = [
        Self::Inheritance,
        Self::NoNewPrivs,
        Self::ParentDeath,
        Self::Session,
        Self::Namespaces,
        Self::Privileges,
        Self::Undumpable,
        Self::ResourceLimits,
        Self::Landlock,
        Self::WriteXorExecute,
        Self::Seccomp,
    ];

    /// Its name, as in reports: `seccomp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inheritance => "inheritance",
            Self::NoNewPrivs => "no-new-privs",
            Self::ParentDeath => "parent-death",
            Self::Session => "session",
            Self::Namespaces => "namespaces",
            Self::Privileges => "privileges",
            Self::Undumpable => "undumpable",
            Self::ResourceLimits => "resource-limits",
            Self::Landlock => "landlock",
            Self::WriteXorExecute => "write-xor-execute",
            Self::Seccomp => "seccomp",
        }
    }

    /// The layer of that name.
    ///
    /// ```
    /// use stockade_wire::Layer;
    /// assert!(Layer::ALL.iter().all(|layer| Layer::from_name(layer.name()) == Some(*layer)));
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which layers of the lockdown a pool requires, and which it leaves off.
///
/// By default every layer that the machine supports is applied, and none is required.
///
/// ```
/// use stockade_wire::{Layer, Lockdown};
///
/// let lockdown = Lockdown::default().require([Layer::Seccomp, Layer::Landlock]);
/// assert!(lockdown.is_required(Layer::Seccomp));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Lockdown {
    required: Vec<Layer>,
    without: Vec<Layer>,
    explains_violations: bool,
}

impl Lockdown {
    /// Requires `layers`: a process in which one of them is not fully on runs nothing.
    #[must_use]
    pub fn require(mut self, layers: impl IntoIterator<Item = Layer>) -> Self {
        self.required.extend(layers);
        self
    }

    /// Requires every layer: a process in which one is not fully on runs nothing.
    #[must_use]
    pub fn require_all(self) -> Self {
        self.require(Layer::ALL)
    }

    /// The same without requirements, to find out which layers the machine supports.
    #[must_use]
    pub fn require_nothing(mut self) -> Self {
        self.required.clear();
        self
    }

    /// Leaves `layer` off, to find out what it costs or breaks. It is in the report.
    /// [`Layer::Inheritance`] cannot be left off.
    #[must_use]
    pub fn without(mut self, layer: Layer) -> Self {
        self.without.push(layer);
        self
    }

    /// Whether a process that is killed by its filter first writes the refused system call to its
    /// standard error, which it then shares with the host. Default: false.
    #[must_use]
    pub fn explain_violations(mut self, explains: bool) -> Self {
        self.explains_violations = explains;
        self
    }

    /// Whether `layer` is required.
    pub fn is_required(&self, layer: Layer) -> bool {
        self.required.contains(&layer)
    }

    /// Whether `layer` is applied if the machine supports it.
    pub fn is_wanted(&self, layer: Layer) -> bool {
        layer == Layer::Inheritance || !self.without.contains(&layer)
    }

    /// Whether any layer is required.
    pub fn requires_anything(&self) -> bool {
        !self.required.is_empty()
    }

    /// Whether a refused system call is named.
    pub fn explains_violations(&self) -> bool {
        self.explains_violations
    }
}

/// How much of a layer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Level {
    /// Nothing of it.
    None,
    /// A part of it; the reason says which is missing.
    Partial,
    /// All of it.
    Full,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        })
    }
}

/// The state of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct LayerReport {
    /// Which.
    pub layer: Layer,
    /// How much of it is on, as the process found after applying it.
    pub level: Level,
    /// What is missing and why; for a layer that is fully on, what it does.
    pub reason: String,
}

impl_bounded_decode!(LayerReport {
    layer: Decode::decode,
    level: Decode::decode,
    reason: bounds::message,
});

/// The state of every layer, in the order of [`Layer::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct LockdownReport(pub Vec<LayerReport>);

impl_bounded_decode!(LockdownReport { 0: bounds::list::<{ Layer::ALL.len() }, _, _> });

impl LockdownReport {
    /// How much of `layer` is on; nothing if it is not in the report.
    pub fn level(&self, layer: Layer) -> Level {
        self.layer(layer).map_or(Level::None, |report| report.level)
    }

    /// The state of `layer`.
    pub fn layer(&self, layer: Layer) -> Option<&LayerReport> {
        self.0.iter().find(|report| report.layer == layer)
    }

    /// Whether the process is sandboxed: its seccomp filter is fully on.
    pub fn is_sandboxed(&self) -> bool {
        self.level(Layer::Seccomp) == Level::Full
    }

    /// The layers that `lockdown` requires and that are not fully on, in the order of
    /// [`Layer::ALL`].
    pub fn missing(&self, lockdown: &Lockdown) -> Vec<LayerReport> {
        let missing =
            |layer: &Layer| lockdown.is_required(*layer) && self.level(*layer) < Level::Full;
        let report = |layer| {
            self.layer(layer).cloned().unwrap_or_else(|| LayerReport {
                layer,
                level: Level::None,
                reason: "nothing was said of it".into(),
            })
        };
        Layer::ALL.into_iter().filter(missing).map(report).collect()
    }
}

/// What a process must know to lock itself down: its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Confinement {
    /// Which layers are wanted, and which are required.
    pub lockdown: Lockdown,
    /// The host's namespaces: a process in none of these is separated from it.
    pub host: Namespaces,
    /// Why the process was not started in namespaces of its own, if it was not.
    pub namespaces_refused: Option<String>,
}

/// The namespaces of a process, by the numbers that the kernel gives them; zero is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Namespaces {
    /// Users and capabilities.
    pub user: u64,
    /// Processes.
    pub pid: u64,
    /// Network devices and ports.
    pub net: u64,
    /// System V shared memory and message queues.
    pub ipc: u64,
}

impl Namespaces {
    /// Those of the calling process. Opens files, so it must be asked before that is forbidden.
    pub fn of_this_process() -> Self {
        let user = Self::user_of_this_process();
        Self { user, pid: own("pid"), net: own("net"), ipc: own("ipc") }
    }

    /// The user namespace of the calling process, as above.
    pub fn user_of_this_process() -> u64 {
        own("user")
    }

    /// The names of namespaces that are not known to differ from `other`'s.
    pub fn shared_with(&self, other: &Self) -> Vec<&'static str> {
        let all = [
            ("user", self.user, other.user),
            ("process", self.pid, other.pid),
            ("network", self.net, other.net),
            ("IPC", self.ipc, other.ipc),
        ];
        let shared = all.into_iter().filter(|(_, own, other)| *own == 0 || own == other);
        shared.map(|(name, ..)| name).collect()
    }
}

/// A namespace of the calling process. Takes some 8 µs.
fn own(name: &str) -> u64 {
    let found = std::fs::metadata(format!("/proc/self/ns/{name}"));
    found.map_or(0, |found| std::os::unix::fs::MetadataExt::ino(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[(Layer, Level)]) -> LockdownReport {
        let layer = |&(layer, level)| LayerReport { layer, level, reason: String::new() };
        LockdownReport(levels.iter().map(layer).collect())
    }

    #[test]
    fn what_is_required_and_not_full_is_missing_even_where_nothing_is_said_of_it() {
        let lockdown =
            Lockdown::default().require([Layer::Seccomp, Layer::Landlock, Layer::Session]);
        let report = report(&[(Layer::Landlock, Level::Partial), (Layer::Session, Level::Full)]);
        let missing: Vec<_> = report.missing(&lockdown).iter().map(|layer| layer.layer).collect();
        assert_eq!(missing, [Layer::Landlock, Layer::Seccomp]);
        assert_eq!(report.missing(&Lockdown::default()), []);
    }

    #[test]
    fn nothing_is_sandboxed_without_its_whole_filter() {
        assert!(report(&[(Layer::Seccomp, Level::Full)]).is_sandboxed());
        assert!(!report(&[(Layer::Seccomp, Level::Partial)]).is_sandboxed());
        assert!(!report(&[(Layer::Landlock, Level::Full)]).is_sandboxed());
    }

    #[test]
    fn a_namespace_that_cannot_be_told_apart_counts_as_shared() {
        let host = Namespaces { user: 1, pid: 2, net: 3, ipc: 4 };
        let own = Namespaces { user: 5, pid: 2, net: 0, ipc: 6 };
        assert_eq!(own.shared_with(&host), ["process", "network"]);
        assert_eq!(Namespaces::of_this_process().shared_with(&host), [""; 0]);
    }

    #[test]
    fn what_is_inherited_is_never_left_off() {
        let lockdown = Lockdown::default().without(Layer::Inheritance).without(Layer::Seccomp);
        assert!(lockdown.is_wanted(Layer::Inheritance));
        assert!(!lockdown.is_wanted(Layer::Seccomp));
    }
}
