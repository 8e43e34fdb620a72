use stockade_guest::task;

#[task(name = "sum", timeout = 3)]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn main() {}
