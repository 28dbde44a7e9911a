//! Whoever takes part in a switch dies, or hangs, at each of its steps: the end is the old state or the new,
//! nothing stays held longer than its deadline, running the tool again finishes or reverts, and probers
//! that write to both sides all the time never find two that accept.
//!
//! The tool is a debug build's: it goes on after each step when it is given a line
//! (`GODWIT_FAILPOINTS=switchover-step`). [`Matrix`] plays [`cells`] one after the other and says how each
//! ended.

mod cell;
mod held;
mod matrix;
mod play;
mod prober;
mod stepped;

use std::time::Duration;

pub use cell::{Actor, Blow, Cell, Registry, Switch, cells};
pub use matrix::Matrix;
pub use prober::Prober;

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);
