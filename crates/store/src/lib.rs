//! Stores: a directory or a bucket that holds checkpoints of nodes as content-addressed pieces, and the
//! logs between and after them.
//!
//! [`bucket`] has objects by name, in a directory or at an S3 store. [`repository`] is what is kept there:
//! the archive of logs, and the snapshots of clusters, in one format. Beside it there are [`load`]s: files
//! for a node to take in, built outside of any.
//!
//! What is stored is never overwritten, and what names something is written after it, so two snapshots
//! share what did not change and a half-written one does not exist. Everything read from here is
//! untrusted: lengths are bounded, hashes are compared, names cannot leave the directory, and damage is
//! an answer, never a panic.
//!
//! It talks to no node and holds no policy. Start with [`Repository`]; the layout is specified in
//! `docs/formats.md`.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod load;
pub mod repository;

mod error;
mod files;
mod key_verb;
mod name;

pub use error::StoreError;
pub use key_verb::KeyVerb;
pub use load::{Load, LoadFile, LoadId};
pub use name::{FileName, ObjectId, SnapshotId};
pub use repository::Repository;
