use stockade_guest::task;

#[task]
fn sum(first: u32, ...) -> u32 {
    first
}

fn main() {}
