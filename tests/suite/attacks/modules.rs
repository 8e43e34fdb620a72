//! 22–30: what a module is made of.
