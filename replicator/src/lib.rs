//! The sidecar of a node: it ships the node's log to other clusters, and applies theirs to it.
//!
//! It stands beside one node, on the same machine and mount, and never opens the node's database: it
//! reads the log's files. Its death, a hung peer or a full disk of its own never holds up a write.
//!
//! ```text
//! node's log files -> spool (hard links) -> cursor -> source: frames ==> target: stage -> applier -> node
//! ```
//!
//! Start with [`sidecar`] for what runs; then [`spool`], [`cursor`] and [`source`] on the way out,
//! [`target`] on the way in. [`drain`] is for a node that died, [`export`] for snapshots. [`board`]
//! is what the tasks say of themselves, [`member`] tells the registry, [`belonging`] whether the record
//! names us, [`needs`] says what will be lacking, [`promises`] carries those of nodes while the registry is silent, [`transport`] dials and answers
//! as [`link`] says, [`backoff`] spares the node, [`loads`] keeps the files of bulk loads, [`ledger`] is
//! what was stranded. [`verbs`] is what an operator asks. [`redis`] is the way in from a stock Redis and
//! out to one.

pub mod archive;
pub mod backoff;
pub mod belonging;
pub mod board;
mod checkpoint;
pub mod cursor;
pub mod drain;
mod drilling;
pub mod export;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod loads;
pub mod member;
pub mod metrics;
pub mod needs;
pub mod node;
pub mod promises;
pub mod redis;
pub mod restore;
pub mod settings;
pub mod sidecar;
pub mod source;
pub mod spool;
pub mod target;
pub mod transport;
pub mod verbs;

pub use sidecar::run;
