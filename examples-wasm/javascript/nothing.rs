//! Nothing: `Cargo.toml` only names where sources come from.
