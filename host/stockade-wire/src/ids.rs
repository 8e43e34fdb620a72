//! Names for tasks, workers, modules and chunks. None is ever used twice in a pool, so a late message can
//! be told from a current one.

use std::fmt;

use crate::codec::{Decode, Encode};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A task of one pool, counted from 1 in the order of submission.
    TaskId(u64)
}
id! {
    /// A worker process of one pool, counted from 1 in the order of its start.
    WorkerId(u64)
}
id! {
    /// A module of one pool, counted from 0 in the order in which the builder was given it.
    ModuleId(u32)
}
id! {
    /// A chunk of one pool: tasks that travel together and may share an instance.
    ChunkId(u64)
}
