//! 42–60: what a guest asks of the system.
