//! The operator's tool: it moves a service from one cluster to another, and back.
//!
//! It speaks to nobody but the registry: it changes [the one record](topology::record::Record) by
//! compare-and-swap, and watches what the members say of themselves (`verify` alone asks nodes).
//! It never stands between clients and data, so it may die at any moment: before COMMIT anyone
//! cancels its freeze when the deadline passes, after COMMIT members go on by themselves, and
//! `resume` finishes the report from any machine.
//!
//! Start with [`args`] for the verbs, [`plan`] for the guards, [`operation`] for the steps and
//! [`report`] for what is printed. `run` and `failover` differ in how they [`drain`] only.

#![forbid(unsafe_code)]

pub mod args;
pub mod drain;
pub mod failback;
pub mod init;
pub mod journal;
pub mod operation;
pub mod plan;
pub mod report;
pub mod resume;
pub mod settle;
pub mod status;
pub mod switch;
pub mod tool;
pub mod verify;
pub mod wait;

pub use args::Args;
pub use tool::main;
