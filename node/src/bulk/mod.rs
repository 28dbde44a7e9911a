//! Bulk load: rows of files become table files of RocksDB, outside of any node, and a running node
//! takes them in whole.
//!
//! [`build`] reads rows ([`rows`](self)), makes records of them, sorts these in bounded memory and
//! writes a load: see [`store::load`](::store::load) for what is in it. [`ingest`] has a node take
//! one in; what the node does then is in [`control`](crate::control).
//!
//! [`export`] makes a load of slots of a database, with [`tables::Copier`]; [`slots`] has a node do that, or
//! delete slots.

mod args;
mod bucket;
mod build;
mod encode;
mod export;
mod files;
mod gather;
mod ingest;
mod parts;
mod rows;
pub mod slots;
mod sort;
mod template;

pub use args::{BadRows, BuildArgs, Compression, Format, Kind};
pub use build::{Report, build};
pub use export::export;
pub use ingest::{IngestArgs, ingest};
