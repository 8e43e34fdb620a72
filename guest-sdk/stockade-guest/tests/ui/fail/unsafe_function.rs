use stockade_guest::task;

#[task]
unsafe fn read(address: u32) -> u8 {
    address as u8
}

fn main() {}
