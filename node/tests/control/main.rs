//! Stories of the control plane: two nodes, a file registry, and no sidecar: the test reads the
//! primary's log files itself and brings frames to the other side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod activate;
mod cloud;
mod crash;
mod digests;
mod frames;
mod meant;
mod moments;
mod probes;
mod promises;
mod reclaim;
mod refusals;
mod ship;
mod slots;
mod stalls;
mod superseded;
mod switch;
