//! What INFO, LATENCY and SLOWLOG know: counts and times of commands, errors by their code, events
//! that took long.
//!
//! Each thread counts commands and keys for itself and is read by whoever asks ([`commands`],
//! [`keys`]); errors and events are rare and go to one place ([`errors`], [`events`]). [`recent`] is
//! how long commands take just now.

pub(crate) mod commands;
pub(crate) mod errors;
pub(crate) mod events;
mod histogram;
pub(crate) mod keys;
pub(crate) mod recent;

pub(crate) use histogram::Histogram;
