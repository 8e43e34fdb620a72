//! Outcomes: how tasks, workers and builds end, and what is known of them afterwards.
//!
//! Deliberately absent: who waits for an end, which is [`state`](crate::state)'s.

pub(crate) mod answer;
pub(crate) mod cache_error;
pub(crate) mod coredump;
pub(crate) mod error;
pub(crate) mod exit;
pub(crate) mod lockdown_error;
pub(crate) mod machine;
pub(crate) mod output;
pub(crate) mod report;
