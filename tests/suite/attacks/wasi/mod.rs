//! 42–60: attacks through WASI.
//!
//! ```text
//! driven       a guest that makes the calls its test asks for, one by one
//! streams      42, 43, 47, 49, 60   what it writes and reads
//! calls        44–46, 48, 58, 59    time, randomness, sockets, surroundings
//! paths        50, 51               ways out of what was granted
//! race         52                   the same, against a thread of the host
//! read_only    53                   changes where only reading was granted
//! descriptors  54–57                how much it holds, lists and fills
//! ```

mod calls;
mod descriptors;
mod driven;
mod paths;
mod race;
mod read_only;
mod streams;

use super::abi::{assert_first_worker, failed};
use driven::{Driven, Outside};
