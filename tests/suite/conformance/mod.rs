//! What asyncpal's own tests assert, as our contract has it, and what its defects teach: a test for
//! each, numbered as it is there.

mod defects;
mod futures;
