//! Two clouds on one machine, live traffic, broken things, and a checker that nobody can talk out
//! of what it saw.
//!
//! The programs are used as users have them: as processes, over sockets, files and the registry.
//!
//! - [`clouds`]: brings two clouds up, breaks single processes, takes them down.
//! - [`load`]: real data to fill them with, and writers and readers that remember every answer.
//! - [`check`]: reads the surviving cloud's nodes and compares with what was acknowledged; compares
//!   digests of both clouds.
//! - [`toxi`]: bad networks, over Toxiproxy's HTTP API.
//! - [`demo`]: the tour that `make demo` shows.
//! - [`story`]: the above, as the stories tell it. [`soak`]: faults under load, for long.
//!   [`once`]: increments under kills. [`actors`]: whoever takes part in a switch dies.
//!   [`stream_bench`]: how late a standby is, and what that costs. [`sidecar_bench`]: what a sidecar costs its
//!   node, catching up, seeding.
//!   [`snapshot_bench`]: what snapshots take beside rsync and restic.
//! - [`shelf`]: snapshots and a store for them; [`alone`]: a node on what was restored.
//! - [`etcd`]: a registry for many machines, to break.
//! - [`redis`]: a stock redis-server, and what is in a server.
//! - [`client`] and [`wait`]: a small blocking Redis client, and waiting with a deadline.
//!
//! The stories are in `tests/tests/`, one a file; each is short because these helpers are not.

pub mod actors;
pub mod alone;
pub mod check;
pub mod client;
pub mod clouds;
pub mod demo;
pub mod etcd;
pub mod load;
pub mod once;
pub mod redis;
pub mod shelf;
pub mod sidecar_bench;
pub mod snapshot_bench;
pub mod soak;
pub mod story;
pub mod stream_bench;
pub mod toxi;
pub mod wait;
