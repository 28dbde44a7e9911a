//! Redis's serialised values and its snapshot files (RDB): bytes in, values out. No sockets, no disk.
//!
//! | module | what it is for |
//! |---|---|
//! | [`payload`] | one value as DUMP gives and RESTORE takes it, read and written |
//! | [`file`](mod@file) | a whole snapshot, read from a stream, each key's bytes cut out as they are |
//! | [`elements`](mod@elements) | what is in such a value, for whoever cannot hand the bytes on |
//! | [`stream`] | streams for servers that are older than their bytes |
//!
//! A snapshot is not decoded on its way to another Redis: [`file::Reader`] parses just enough to know
//! where a value ends, and [`payload::seal`] makes of its bytes what RESTORE takes. A collection beyond
//! [`file::PART_BYTES`] comes in parts, each of them a smaller collection of the same form.
//!
//! The bytes come from anywhere: a length is believed only where the bytes are there, what one item may
//! come to is bounded, and an opcode or a form that is not known is an error and never skipped, because
//! nobody can tell where it ends. The formats are Redis's `rdb.h`, `rdb.c` and `crc64.c`.

#![forbid(unsafe_code)]

pub mod elements;
pub mod file;
pub mod payload;
pub mod stream;

mod crc;
mod form;

pub use crc::crc64;
pub use elements::{Elements, elements};
pub use form::Form;
