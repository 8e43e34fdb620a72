use stockade_guest::task;

struct Cold;

#[task]
fn warm(celsius: f64) -> Result<f64, Cold> {
    if celsius > 0.0 { Ok(celsius) } else { Err(Cold) }
}

fn main() {}
