//! The operator's tool: it moves a service from one cluster to another, and back.
//!
//! It speaks to nobody but the registry: it changes [the one record](topology::record::Record) by
//! compare-and-swap, and watches what the members say of themselves (`verify` alone asks nodes).
//! It never stands between clients and data, so it may die at any moment: before COMMIT anyone
//! cancels its freeze when the deadline passes, after COMMIT members go on by themselves, and
//! `resume` finishes the report from any machine.
//!
//! Start with [`args`] for the verbs, [`plan`] and `guards` for what is looked at, [`operation`] for the steps and
//! [`report`] for what is printed. `run` and `failover` differ in how they [`drain`] only. [`resize`] adds a
//! cluster, waits for its seeds, and is one more caller of a planned switch. `watcher` is who fails over by
//! itself, where `auto` allows it; `route` says where reads go.

#![forbid(unsafe_code)]

pub mod abort;
pub mod args;
mod auto;
mod bundle;
pub mod claim;
pub mod clusters;
mod doctor;
pub mod drain;
mod drill;
pub mod failback;
mod guards;
mod heard;
mod history;
mod hooks;
pub mod init;
pub mod journal;
pub mod loss;
mod maintenance;
pub mod operation;
mod page;
pub mod plan;
pub mod registry;
pub mod report;
pub mod resize;
pub mod resume;
pub mod retire;
mod route;
pub mod settle;
mod shape;
mod silence;
mod split;
pub mod status;
pub mod switch;
mod table;
mod tar;
mod time;
pub mod tool;
pub mod verify;
pub mod wait;
mod watch;
mod watcher;
mod who;

pub use args::Args;
pub use tool::main;
