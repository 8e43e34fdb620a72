//! The built command, run as a user runs it, on modules written for the purpose.

mod streams;
mod support;

mod bad_input;
mod build;
mod cache;
mod command;
mod coredumps;
mod debugging;
mod doctor;
mod documented;
mod examples;
mod features;
mod inspect;
mod machine;
mod map;
mod map_faults;
mod map_inputs;
mod map_programs;
mod map_resume;
mod run;
mod settings;
mod tools;
