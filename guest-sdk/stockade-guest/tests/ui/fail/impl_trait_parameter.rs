use stockade_guest::task;

#[task]
fn sum(numbers: impl Iterator<Item = u32>) -> u32 {
    numbers.sum()
}

fn main() {}
