//! What Stockade promises, tested from outside with real worker processes.

mod building;
mod calling;
mod commands;
mod ending;
mod hooks;
mod isolation;
mod limits;
mod tasks;
mod workers;
