//! RocksDB's write-ahead log as a replication log: log files to batches, positions and timelines,
//! and the frames and segments that carry batches to other places.
//!
//! Pure: bytes in, values out. It opens no file, keeps no thread, asks no clock; whoever uses it
//! brings the bytes. Everything it reads is untrusted: lengths are bounded before allocation,
//! checksums come before use, and an unknown record is refused rather than skipped.
//!
//! Start with [`position`], then [`log`] (blocks and records of a log file), [`batch`] (what is in
//! a record), [`frame`] and [`segment`] (what travels). The layouts are in `docs/formats.md`.

pub mod batch;
mod consumed;
pub mod frame;
pub mod history;
pub mod log;
pub mod position;
pub mod segment;
pub mod tag;

pub use consumed::Consumed;
pub use history::{Continuation, History, TimelineStart};
pub use position::{Chain, Position, Sequence, TimelineId};
pub use tag::{Kind, Tag, ViewMark};
