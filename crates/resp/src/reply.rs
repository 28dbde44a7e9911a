//! Replies: written by servers, measured by proxies, read by clients.

mod double;
mod owned;
mod scan;
mod writer;

pub use double::Double;
pub use owned::Reply;
pub use scan::{Scanner, scan};
pub use writer::Writer;

/// The longest string in a reply that is read, in bytes.
pub const BULK_BYTES_MAX: usize = 1 << 30;
/// The longest line of a reply (an error, a simple string, a number, a length), in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// The most elements of one aggregate that are read.
pub const ELEMENTS_MAX: usize = 1 << 30;
/// How deep aggregates may be nested for [`Reply::parse`].
pub const DEPTH_MAX: usize = 32;
