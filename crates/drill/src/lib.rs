//! What a rehearsal of a takeover is made of, whoever does it: the tool on the machine of the nodes, or the
//! sidecar beside each.
//!
//! A [`Fork`] is a directory of hard links to a standby's files, with an identity that nobody follows. A
//! [`Process`] runs a node on it, and ends with whoever started it. A [`canary`] writes, reads and
//! deletes there. [`leftovers`] are what a drill could not take away because it was killed.
//!
//! Nothing here touches the service: a forked node is in a registry of its own, and listens on the loopback.

#![forbid(unsafe_code)]

pub mod canary;
mod fork;
pub mod leftovers;
pub mod process;

pub use fork::Fork;
pub use process::Process;
