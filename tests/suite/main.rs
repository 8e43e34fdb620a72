//! What Stockade promises, tested from outside with real worker processes.

mod smoke;
