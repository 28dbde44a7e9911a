//! Objects that a daemon keeps: what may be asked of it is to put what is not there, and to get. Nothing
//! can be overwritten, deleted or listed over this, whoever asks.
//!
//! ```text
//! client -> daemon   Begin, once
//! client -> daemon   Head | Get | PutNew and its bytes in parts
//! daemon -> client   the answer, with bytes in parts after `Bytes`; Refused ends nothing but the request
//! ```
//!
//! Packets are those of [`stream::wire`]. A connection carries one request at a time; a client has several
//! connections. Every request may be asked again: what was put already is there then.

mod client;
mod server;

use serde::{Deserialize, Serialize};

pub(super) use client::Served;
pub use client::ServedOptions;
pub use server::{Guard, Room, answer};

/// What is asked.
const ASK: u8 = stream::wire::EXPORT + 32;
/// What is answered.
const ANSWER: u8 = stream::wire::EXPORT + 33;
/// Bytes of an object.
const PART: u8 = stream::wire::EXPORT + 34;
/// The version of all this.
const FORMAT: u32 = 1;
/// Bytes of a part; the last one is shorter.
const PART_BYTES: usize = 1 << 20;
/// The most bytes of an object: the greatest blob, with room for its packing.
const OBJECT_BYTES_MAX: u64 = 768 << 20;
/// How long either end may say nothing.
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ask {
    /// Who asks, and how.
    Begin { format: u32, service: String },
    /// The object's length.
    Head { name: String },
    /// At most `max` bytes from `offset` on; if `whole`, one that has more is refused.
    Get { name: String, offset: u64, max: u64, whole: bool },
    /// Write it unless there is one of that name.
    PutNew { name: String, size: u64 },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Ask.
    Begun,
    /// The object's length, if there is one.
    Size(Option<u64>),
    /// So many bytes follow, if there is such an object.
    Bytes(Option<u64>),
    /// It is there; whether it is new.
    Put { new: bool },
    /// This may not be asked, and why. Nothing was changed.
    Refused(String),
    /// It was tried and failed.
    Failed(String),
}
