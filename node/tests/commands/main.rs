//! A standalone node as clients see it, through a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod abuse;
mod access;
mod admin_listener;
mod bits;
mod blocking;
mod bounds;
mod bulk;
mod combined;
mod durability;
mod families;
mod fields;
mod geo;
mod hyperloglog;
mod listening;
mod merged;
#[path = "../../../crates/store/tests/moto/mod.rs"]
mod moto;
mod node;
mod notices;
mod operator;
mod order;
mod pauses;
mod pressure;
mod protocol;
mod pubsub;
mod reclaim;
mod restore;
mod scripts;
mod slots;
mod streams;
mod tls;
mod transactions;
mod workers;
