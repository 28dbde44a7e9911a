//! A run of whole batches on its way to another place: the same bytes on the wire, in a standby's
//! stage and in a store.
//!
//! A frame says where it starts and ends on the source's log, and proves it: a checksum over the
//! header, one over the body, and the stream's chain over every batch inside. It is believed in
//! that order, and no length is believed before the checksum that covers it. The layout is in
//! `docs/formats.md`.

mod again;
mod body;
mod builder;
mod codec;
mod error;
mod header;

pub use again::{AgainError, Place};
pub use body::{Body, FrameBatch};
pub use builder::FrameBuilder;
pub use codec::{Codec, Packing};
pub use error::{FrameError, PushError};
pub use header::FrameHeader;

use crate::batch::MAX_BATCH;
use crate::log::MAX_RECORD;

/// The greatest body, packed or not: one batch as large as a node may write, its neighbours, and
/// what a range delete grows by when it is clipped.
pub const MAX_FRAME: usize = MAX_BATCH + (16 << 20);

// A standby's log adds positions and tags to a batch, and its own sidecar reads that.
const _: () = assert!(MAX_FRAME <= MAX_RECORD);

/// Buffers that a large frame blew up beyond this are given back.
const KEEP: usize = 8 << 20;

/// One frame, its checksums good.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef<'a> {
    header: FrameHeader,
    bytes: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// Reads the frame at the start of `bytes`, and says how long it is; `None` while it is not
    /// all there.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some(header) = FrameHeader::parse(bytes)? else { return Ok(None) };
        let len = header.frame_len();
        let Some(bytes) = bytes.get(..len) else { return Ok(None) };
        let body = &bytes[FrameHeader::LEN..];
        let found = crc32c::crc32c(body);
        if found != header.body_crc {
            return Err(FrameError::BodyChecksum { said: header.body_crc, found });
        }
        Ok(Some((Self { header, bytes }, len)))
    }

    /// What the header says.
    pub const fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The whole frame, to be sent or written on.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Unpacks the body and checks every batch, that each starts where the last one ended, that
    /// the last ends where the frame does, and the stream's chain.
    ///
    /// `scratch` holds the unpacked bytes where the body is compressed.
    pub fn decode<'s>(&self, scratch: &'s mut Vec<u8>) -> Result<Body<'s>, FrameError>
    where
        'a: 's,
    {
        let body = &self.bytes[FrameHeader::LEN..];
        let raw = self.header.codec.unpack(body, self.header.raw_len as usize, scratch)?;
        Body::check(&self.header, raw)
    }
}
