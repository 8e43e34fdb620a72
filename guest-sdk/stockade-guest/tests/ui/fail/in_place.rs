use stockade_guest::{initializer, task};

#[task]
fn beside(pixels: &mut [u8], width: u32) {
    pixels[0] = width as u8;
}

#[task]
fn counts(pixels: &mut [u8]) -> usize {
    pixels.len()
}

#[initializer]
fn load(model: &mut [u8]) {
    model.reverse();
}

fn main() {}
