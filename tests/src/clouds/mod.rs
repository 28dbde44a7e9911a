//! Two clouds on loopback, from the programs as users run them.
//!
//! - [`binaries`]: where the programs are. [`ports`]: where they may listen.
//!   [`certificates`]: what their sidecars show each other.
//! - [`process`]: one of them, to start, kill, freeze, end and start again.
//! - [`layout`]: who is where, as kept in a file and as promised in `clouds.json`.
//! - [`plan`]: what to bring up. [`start`]: bringing it up and taking it down.
//! - [`control`]: what an operator does: `godwit-switchover`. [`observer`]: what one sees from
//!   outside: the registry, the metrics.

pub mod binaries;
pub mod certificates;
pub mod control;
pub mod layout;
pub mod observer;
pub mod plan;
pub mod ports;
pub mod process;
pub mod start;

pub use layout::{Cloud, Layout, Node, Proxy, Shard, Sidecar};
pub use observer::Observer;
pub use plan::Plan;
pub use process::Process;
pub use start::{Clouds, http_get};
