//! 31–41: what a guest says to its worker.
