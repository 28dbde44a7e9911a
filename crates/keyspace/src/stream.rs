//! The records of a stream: a header, entries in the order of their ids, consumer groups, consumers
//! and pending entries. All are data records under the stream's version; the first byte of a subkey
//! says which. Layout: `docs/formats.md`, "Streams".
//!
//! A pending entry has two records, one in the order of the group and one in that of its consumer,
//! so that whatever is asked of either is a range.

mod entry;
mod group;
mod header;
mod id;
mod subkey;

pub use entry::{Entry, Fields, write_entry};
pub use group::{Consumer, Group, Pending};
pub use header::Header;
pub use id::StreamId;
pub use subkey::Subkey;
