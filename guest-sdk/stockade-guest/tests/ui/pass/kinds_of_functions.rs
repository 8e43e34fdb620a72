//! Everything that the attributes accept, under the strictest lints an author may set.
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use stockade_guest::{Bytes, finalizer, initializer, task};

/// Public.
pub mod tasks {
    /// Visible elsewhere.
    #[stockade_guest::task]
    pub const fn double(number: u64) -> u64 {
        number * 2
    }
}

#[initializer]
fn load(weights: Vec<f32>, names: BTreeMap<String, u32>) -> Result<(), String> {
    let _ = (weights, names);
    Ok(())
}

#[finalizer]
fn unload() {}

#[task]
fn borrow(text: &str, data: &[u8], rows: &[[f32; 4]]) -> (usize, usize, usize) {
    (text.len(), data.len(), rows.len())
}

#[task]
fn change(mut list: Vec<u32>) -> Vec<u32> {
    list.sort_unstable();
    list
}

#[task]
#[must_use]
fn unit() -> () {}

#[task]
fn io(data: Bytes) -> std::io::Result<Bytes> {
    Ok(data)
}

#[task]
fn boxed(arguments: i32) -> Result<i32, Box<dyn std::error::Error>> {
    // A parameter may have any name, even one that the expansion uses.
    Ok(arguments)
}

#[task]
fn iterate(value: u8, error: u8, returned: u8, argument_0: u8) -> impl stockade_guest::Serialize {
    [value, error, returned, argument_0]
}

#[task]
#[deprecated(note = "for the test")]
fn old() {}

#[task]
#[cfg(any())]
fn absent(never: NoSuchType) {}

#[cfg(any())]
#[task]
fn absent_too(never: NoSuchType) {}

fn main() {
    assert_eq!(tasks::double(2), 4);
    assert_eq!(borrow("a", b"bc", &[]), (1, 2, 0));
    assert_eq!(change(vec![2, 1]), [1, 2]);
    assert!(load(vec![], BTreeMap::new()).is_ok());
    assert!(io(Bytes::default()).is_ok());
    assert!(boxed(1).is_ok());
    let _ = iterate(1, 2, 3, 4);
    let () = unit();
    unload();

    /// A function within a function.
    #[task]
    fn inner() -> u8 {
        1
    }
    let call = stockade_guest::testing::Call::json("{}");
    assert_eq!(call.run(stockade_guest::testing::export_of!(inner)).output, b"1");
}
