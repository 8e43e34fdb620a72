//! 1–21: what code does while it runs.
