//! godwit-snapshotter: sends a checkpoint of each shard of a cluster to a repository, and brings it back.
//!
//! ```text
//! push      finds the shards' sidecars in the registry, fetches what the repository has not, seals
//! serve     takes pushes in at the other side: who pushes adds and gets, and nothing else
//! list      the sealed snapshots of a repository; `show` one of them
//! verify    reads everything of one back, and marks it verified
//! prove     restores one beside, opens it, compares it with its source's digests, and marks it proven
//! restore   makes nodes' directories of one: of a shard or of all, new ones or onto what is there
//! materialise  lays the newest ones out as databases beside a standby's nodes
//! activate  gives one of those to a node, which links its files: within seconds, whatever its size
//! cat       prints what a key held, of which it fetches the files that may have it
//! prune     lets go of old ones, and deletes what nothing leads to
//! key       the keys of an encrypted repository
//! ```
//!
//! It never mounts a node's volume: [`push`] talks to the sidecars, which read it. A push that ends
//! early has sealed nothing, and what it stored already is not sent again by the next. The other
//! verbs need the repository alone ([`from`]); [`content`] is what they read of it.
//!
//! Start with [`cli`], then [`push`] and its [`push::shard`].

#![forbid(unsafe_code)]

pub mod activate;
pub mod cat;
pub mod cli;
pub mod config;
pub mod content;
pub mod cron;
pub mod from;
pub mod list;
pub mod materialise;
mod note;
pub mod prove;
pub mod prune;
pub mod push;
pub mod report;
pub mod restore;
pub mod serve;
pub mod verify;
