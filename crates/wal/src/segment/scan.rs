//! How much of a segment file is good.

use super::{SegmentError, SegmentHeader};
use crate::frame::{FrameError, FrameHeader, FrameRef};
use crate::{Chain, Position};

/// What a segment file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentScan {
    /// The file's header.
    pub header: SegmentHeader,
    /// The length of the header and the good frames: where to append, or to cut.
    pub valid: usize,
    /// How many good frames there are.
    pub frames: u32,
    /// The header of the last good one.
    pub last: Option<FrameHeader>,
    /// What comes after the good frames.
    pub tail: Tail,
}

/// What comes after the good frames of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// Some bytes of a frame, or zeros: the file was being written. They can be cut off.
    Torn {
        /// How many bytes.
        len: usize,
    },
    /// A frame that is there and does not read.
    Damaged(FrameError),
    /// A good frame that does not go on from the one before it.
    Gap {
        /// The position that it should start at.
        expected: Position,
        /// The position that it starts at.
        found: Position,
    },
    /// A good frame whose stream is another one than that of the frame before it.
    Chain {
        /// The chain that it should start with.
        expected: Chain,
        /// The chain that it starts with.
        found: Chain,
    },
}

impl SegmentScan {
    /// The position after the last good frame.
    pub fn end(&self) -> Position {
        self.last.as_ref().map_or(self.header.start, |frame| frame.end)
    }

    /// The stream's chain there.
    pub fn chain(&self) -> Chain {
        self.last.as_ref().map_or(self.header.chain, |frame| frame.chain)
    }
}

/// Reads a whole segment file: its header, then frame after frame. Bodies are checked by their
/// checksum, not unpacked.
pub fn scan(bytes: &[u8]) -> Result<SegmentScan, SegmentError> {
    let (header, valid) = SegmentHeader::decode(bytes)?;
    let mut scan = SegmentScan { header, valid, frames: 0, last: None, tail: Tail::Clean };
    while scan.valid < bytes.len() {
        let rest = &bytes[scan.valid..];
        match FrameRef::parse(rest) {
            Ok(Some((frame, len))) => {
                let header = frame.header();
                let (position, chain) = (scan.end(), scan.chain());
                if header.start != position {
                    scan.tail = Tail::Gap { expected: position, found: header.start };
                    break;
                }
                if header.chain_before != chain {
                    scan.tail = Tail::Chain { expected: chain, found: header.chain_before };
                    break;
                }
                scan.valid += len;
                scan.frames += 1;
                scan.last = Some(*header);
            }
            Ok(None) => {
                scan.tail = Tail::Torn { len: rest.len() };
                break;
            }
            // After a power cut a file can be longer than what had reached the disk.
            Err(_) if zeros_to_the_end(rest) => {
                scan.tail = Tail::Torn { len: rest.len() };
                break;
            }
            Err(error) => {
                scan.tail = Tail::Damaged(error);
                break;
            }
        }
    }
    Ok(scan)
}

fn zeros_to_the_end(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}
