use stockade_guest::task;

struct Counter {
    count: u64,
}

impl Counter {
    #[task]
    fn count(&self, text: String) -> u64 {
        self.count + text.len() as u64
    }
}

fn main() {}
