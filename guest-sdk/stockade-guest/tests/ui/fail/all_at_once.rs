use stockade_guest::initializer;

#[initializer(once)]
async unsafe fn load<T>(&self, (a, b): (u8, u8), path: &mut str, rest: impl Clone) -> ! {
    loop {}
}

fn main() {}
