use stockade_guest::task;

#[task]
fn serve() -> ! {
    loop {}
}

fn main() {}
