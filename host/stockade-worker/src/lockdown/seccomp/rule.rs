//! One rule of a filter: a system call, conditions on its arguments, and why a role needs it.

/// A system call that a role may make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) number: i64,
    /// All must hold. Another rule may allow the same call under others.
    pub(super) conditions: &'static [Condition],
    /// The role's use of it, for readers and for the page that lists every rule.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) reason: &'static str,
}

/// What the low 32 bits of one argument must be. The calls that are tested take flags, commands and
/// numbers that fit there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// Argument, value.
    Is(u8, u32),
    /// Argument, bits that do not matter, value of the others.
    IsBut(u8, u32, u32),
    /// The argument is this process.
    OwnProcess(u8),
}

/// A rule for any arguments.
pub(super) const fn allow(number: i64, reason: &'static str) -> Rule {
    Rule { number, conditions: &[], reason }
}

/// A rule for some arguments.
pub(super) const fn allow_if(
    number: i64,
    conditions: &'static [Condition],
    reason: &'static str,
) -> Rule {
    Rule { number, conditions, reason }
}
