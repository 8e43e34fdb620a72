use stockade_guest::task;

#[task]
fn sort(list: &mut Vec<u32>) {
    list.sort();
}

fn main() {}
