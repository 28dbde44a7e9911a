//! godwit-snapshotter: sends a checkpoint of each shard of a cluster to a store, and brings it back.
//!
//! ```text
//! push      finds the shards' sidecars in the registry, fetches what the store has not, seals
//! list      the sealed snapshots of a store
//! verify    reads every object of one back, and marks it verified
//! restore   makes a node's directory of one shard of one
//! ```
//!
//! It never mounts a node's volume: [`push`] talks to the sidecars, which read it. A push that ends
//! early has sealed nothing, and what it stored already is not sent again by the next. The other
//! verbs need the store alone.
//!
//! Start with [`cli`], then [`push`] and its [`push::shard`].

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod list;
pub mod push;
pub mod report;
pub mod restore;
pub mod verify;
