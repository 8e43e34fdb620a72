use stockade_guest::task;

#[task]
fn distance((x, y): (f64, f64), _: u8) -> f64 {
    x.hypot(y)
}

fn main() {}
