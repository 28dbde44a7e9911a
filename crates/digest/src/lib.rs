//! Digests of what is live in a database, slot by slot: the same for a node and for a directory that
//! was restored.
//!
//! A digest is the wrapping sum of a hash of every live entry, so it does not depend on the order in
//! which entries are read, nor on how they are stored. [`Sum`] adds the entries of one key and is pure;
//! [`Reader`] finds them in a snapshot of a RocksDB.

#![forbid(unsafe_code)]

mod reader;
mod sum;

pub use reader::Reader;
pub use sum::{Sum, of_records};
