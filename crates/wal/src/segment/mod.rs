//! A file of frames: a standby's stage, and a store's archive.
//!
//! A file header says whose frames they are; then come frames, each starting where the last one
//! ended. A file that was being written when its machine stopped may end inside a frame: that is a
//! *torn* tail, which is cut off and fetched again. Anything else that does not read is *damage*.
//! The layout is in `docs/formats.md`.

mod header;
mod scan;

pub use header::{SegmentError, SegmentHeader};
pub use scan::{SegmentScan, Tail, scan};
