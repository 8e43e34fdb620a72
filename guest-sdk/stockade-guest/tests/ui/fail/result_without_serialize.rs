use stockade_guest::task;

struct Reading {
    celsius: f64,
}

#[task]
fn reading(celsius: f64) -> Reading {
    Reading { celsius }
}

#[task]
fn fallible(celsius: f64) -> Result<Reading, String> {
    Ok(Reading { celsius })
}

fn main() {
    let _ = reading(1.0).celsius;
}
