use stockade_guest::task;

#[task]
fn largest<'a, T: Ord, const N: usize>(list: Vec<T>) -> Option<T>
where
    T: Clone,
{
    list.into_iter().max()
}

fn main() {}
