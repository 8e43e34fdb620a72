use stockade_guest::task;

#[task]
extern "C" fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn main() {}
