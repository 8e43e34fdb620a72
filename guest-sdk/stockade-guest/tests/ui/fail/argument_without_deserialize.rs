use stockade_guest::task;

struct Reading {
    celsius: f64,
}

#[task]
fn celsius(at: u64, reading: Reading) -> f64 {
    reading.celsius + at as f64
}

fn main() {}
