//! A store: a directory that holds checkpoints of nodes as content-addressed objects, and the
//! snapshots that name them.
//!
//! ```text
//! GODWIT-STORE                      what this directory is, and the format it has
//! objects/<2 hex>/<blake3>.zst      the bytes of one file, compressed; named by what is in them
//! snapshots/<id>/shard-<n>.json     the files of one shard's checkpoint, and where it stands
//! snapshots/<id>/snapshot.json      the seal: written last, names each manifest by its hash
//! snapshots/<id>/verified.json      every object of this seal was read back and compared
//! tmp/                              what is being written; nothing here counts
//! ```
//!
//! A snapshot without its seal does not exist. Objects are never overwritten, so two snapshots
//! share what did not change. Everything read from here is untrusted: lengths are bounded, hashes
//! are compared, names cannot leave the directory, and damage is an answer, never a panic.
//!
//! Beside stores there are [`load`]s: files for a node to take in, built outside of any; and
//! [`bucket`], which has objects by name in a directory or at an S3 store.
//!
//! It talks to no node and holds no policy. Start with [`Store`], then [`object`], [`manifest`]
//! and [`snapshot`]; the layout is specified in `docs/formats.md`.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod load;
pub mod manifest;
pub mod object;
pub mod repository;
pub mod snapshot;

mod address;
mod directory;
mod error;
mod files;
mod name;
mod verify;

pub use address::Address;
pub use directory::Store;
pub use error::StoreError;
pub use load::{Load, LoadFile, LoadId};
pub use manifest::{FileEntry, Manifest};
pub use name::{FileName, ObjectId, SnapshotId};
pub use object::ObjectWriter;
pub use repository::Repository;
pub use snapshot::{Listed, Snapshot, State};
pub use verify::Verification;
