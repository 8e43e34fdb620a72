//! The built command, run as a user runs it, on modules written for the purpose.

mod support;

mod bad_input;
mod cache;
mod command;
mod debugging;
mod doctor;
mod examples;
mod inspect;
mod map;
mod map_faults;
mod run;
