//! RocksDB's log files: blocks of 32 KiB that hold the pieces of records, each record a batch.
//!
//! The layout and the meaning of each type of piece are those of RocksDB 11.8's `db/log_format.h`
//! and `db/log_reader.cc`. Where RocksDB has modes that skip what does not read, this reader has
//! one: it stops, and says where and why. Recycled logs, compressed logs and user timestamps are
//! refused in words: a node's options forbid them.

mod damage;
mod decoder;
mod piece;

pub use damage::{Cause, Damage};
pub use decoder::{LogDecoder, LogRecord};

/// The size of a block.
pub const BLOCK: usize = 32 << 10;

/// The greatest record that is read: more than any node writes at once
/// ([`MAX_BATCH`](crate::batch::MAX_BATCH)).
pub const MAX_RECORD: usize = 1 << 30;
