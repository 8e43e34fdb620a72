use stockade_guest::task;

#[task]
fn length(text: &String, words: Vec<&str>) -> usize {
    text.len() + words.len()
}

fn main() {}
