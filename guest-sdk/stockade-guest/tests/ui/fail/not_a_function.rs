use stockade_guest::{finalizer, initializer, task};

#[task]
struct Words {
    count: u64,
}

#[initializer]
static MODEL: u64 = 1;

#[finalizer]
mod closing {}

fn main() {}
