//! Helpers for tests of real pools: fixtures to run, processes to watch, and waiting for events.
//!
//! ```text
//! bombs      modules that are small to send and large to take
//! escape     native code in a worker, as if a guest had broken out
//! census     what this process holds of the system
//! cgroup     less memory for one process than the machine has
//! fixtures   modules, and builders over them: numbers(), tasks(), wat("(module …)"), guest("probe")
//! forgery    messages that a worker makes up
//! gate       a guest that waits until the test lets it go on
//! processes  what a pool leaves in the system's tables; killing and stopping workers
//! races      tasks that look for what others left, while pages are moved
//! roles      workers and compilers without a pool, driven over their wire
//! random     numbers that a seed decides
//! storm      what `chaos` and `chaos-worker` agree on
//! traced     native code in a template or a compiler
//! vectors    the ABI's test vectors, read and compared
//! waiting    eventually(), until_running(), block_on()
//! warnings   what the library warns of
//! ```
//!
//! Nothing here sleeps for a fixed time and nothing measures one: what cannot be waited for on an
//! event is polled until it holds, and fails after [`PATIENCE`].

pub mod bombs;
pub mod escape;
pub mod races;
#[cfg(target_arch = "x86_64")]
pub mod traced;

mod census;
mod cgroup;
mod fixtures;
mod forgery;
mod gate;
mod processes;
mod random;
mod roles;
mod storm;
mod vectors;
mod waiting;
mod warnings;

pub use census::{Census, children_of, resident_bytes, resident_peak_bytes};
pub use cgroup::MemoryGroup;

pub use fixtures::{
    Folder, RELIABILITY, TASKS, guest, guest_pool, int, name_for_a_pool, numbers, program_beside,
    repository, script, tasks, two_ints, wat, wat_file, worker_program,
    workers_that_fail_when_released,
};
pub use forgery::{HOSTILE_BATCH, INHERITED, finished};
pub use gate::Gate;
pub use processes::{
    continue_process, descriptors_of, is_alive, is_gone, kill, make_inheritable, own_children,
    processes_named, starve, stop_process, template_of, threads_named,
};
pub use random::{Random, mix, seed_of_now};
pub use roles::{RoleProcess, compile_by_process, compile_file_by_process, load};
pub use storm::{Mischief, Storm, forged_text, forger_of, pool_name, worker_of_name};
pub use vectors::{End, Ended, Vector, VectorCodec, vectors};
pub use waiting::{PATIENCE, block_on, block_on_for, eventually, until_running};
pub use warnings::warnings_of;
