//! What a key is to Godwit: its hash slot, how it and its values are laid out in RocksDB, and the
//! stamps that order changes.
//!
//! Pure: bytes in, values out, no I/O and no clock of its own. The layouts are specified in
//! `docs/formats.md`; golden vectors in `tests/` hold them still.
//!
//! Start with [`Slot`], then [`Cf`] for the column families, [`meta`], [`data`] and [`score`] for
//! what is in them, [`stream`] for the records of streams, [`shard`] for
//! those of no slot, [`system`] for the node-local family.

pub mod data;
pub mod hlc;
pub mod library;
pub mod meta;
pub mod score;
pub mod shard;
pub mod slot;
pub mod stream;
pub mod system;
pub mod user;

mod cf;
mod error;
mod varint;

pub use cf::Cf;
pub use error::DecodeError;
pub use hlc::{Hlc, HlcClock};
pub use slot::{SLOTS, Slot, SlotRange, SlotSet};
