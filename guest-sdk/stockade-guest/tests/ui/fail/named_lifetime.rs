use stockade_guest::task;

#[task]
fn keep(text: &'static str) -> &'static str {
    text
}

fn main() {}
