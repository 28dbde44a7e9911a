//! `make bench-sidecar`, `make bench-catch-up`, `make bench-seed`: what a sidecar costs its node, how fast
//! a standby catches up, how long a seed takes. Each compares two things in one run, side by side.
//!
//! [`cost`]: sidecar on against off. [`catch_up`]: applying against RocksDB alone and against clients.
//! [`seed`]: a seed against redis-server's full sync.

pub mod account;
pub mod catch_up;
pub mod cost;
pub mod floor;
pub mod seed;
