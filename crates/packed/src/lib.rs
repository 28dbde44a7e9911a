//! Redis's packed forms: how its DUMP and its files spell small collections and long texts. Bytes
//! in, entries out; nothing is written in these forms.
//!
//! | function | what it reads | written by |
//! |---|---|---|
//! | [`listpack`] | entries one after the other | Redis 7.0 on (`listpack.c`) |
//! | [`ziplist`] | the same, before that | Redis up to 6.2 (`ziplist.c`) |
//! | [`zipmap`] | fields and values in turn | Redis up to 2.4 (`zipmap.c`) |
//! | [`intset`] | integers, rising | every Redis (`intset.c`) |
//! | [`lzf`] | a compressed text | every Redis (`lzf_d.c`) |
//!
//! The bytes come from anywhere: a length is believed only where the bytes are there, at most
//! [`ENTRIES_MAX`] entries are given out, and every inner length that could be checked is. What does
//! not fit is [`Malformed`]; nothing panics.

#![forbid(unsafe_code)]

mod intset;
mod listpack;
mod lzf;
mod reader;
mod ziplist;
mod zipmap;

use std::borrow::Cow;

pub use intset::intset;
pub use listpack::listpack;
pub use lzf::lzf;
pub use ziplist::ziplist;
pub use zipmap::zipmap;

/// The most entries of one packed collection: an entry is a record of more than 40 bytes where it is
/// stored, and a batch of so many is beyond what a log takes.
pub const ENTRIES_MAX: usize = 16 << 20;

/// Entries in their order; integers in decimal digits.
pub type Entries<'a> = Vec<Cow<'a, [u8]>>;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no {0}")]
pub struct Malformed(pub &'static str);

/// An integer as an entry.
fn digits(number: i64) -> Cow<'static, [u8]> {
    Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec())
}

/// An integer of three bytes.
fn three(bytes: [u8; 3]) -> i64 {
    let [a, b, c] = bytes;
    i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
}
