//! The first 124 bytes of a frame.

use keyspace::Hlc;

use super::{Codec, FrameError, MAX_FRAME};
use crate::{Chain, Position, Sequence, TimelineId};

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the body is packed.
    pub codec: Codec,
    /// The position before the first batch. Its timeline is another than that of `end` only where
    /// the frame's first batch starts a timeline.
    pub start: Position,
    /// The position after the last batch; every batch is on this timeline.
    pub end: Position,
    /// The highest epoch that the stream has carried so far.
    pub epoch: u64,
    /// The highest stamp that the stream has carried so far.
    pub stamp: Hlc,
    /// The source log's chain at the end: a token, which a target stores and hands back.
    pub log_chain: Chain,
    /// The stream's chain before the first batch.
    pub chain_before: Chain,
    /// The stream's chain after the last batch.
    pub chain: Chain,
    /// How many batches there are.
    pub batches: u32,
    /// The length of the body, unpacked.
    pub raw_len: u32,
    /// The length of the body, as it follows.
    pub body_len: u32,
    /// CRC-32C of the body, as it follows.
    pub body_crc: u32,
}

const MAGIC: [u8; 4] = *b"GWFR";
const FORMAT: u8 = 1;

impl FrameHeader {
    /// Encoded length in bytes.
    pub const LEN: usize = 124;
    const CRC_AT: usize = Self::LEN - 4;

    /// The length of the whole frame.
    pub const fn frame_len(&self) -> usize {
        Self::LEN + self.body_len as usize
    }

    /// The bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = Vec::with_capacity(Self::LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, self.codec as u8, 0, 0]);
        out.extend_from_slice(&self.start.timeline.0.to_le_bytes());
        out.extend_from_slice(&self.end.timeline.0.to_le_bytes());
        for number in [
            self.start.sequence.0,
            self.end.sequence.0,
            self.epoch,
            self.stamp.0,
            self.log_chain.0,
            self.chain_before.0,
            self.chain.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.batches, self.raw_len, self.body_len, self.body_crc] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[0; 8]);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.try_into().expect("the fields add up to LEN")
    }

    /// Reads the header at the start of `bytes`; `None` while it is not all there.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        // A wrong magic is said at once: what follows may never come.
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(FrameError::Magic);
        }
        let Some((bytes, _)) = bytes.split_first_chunk::<{ Self::LEN }>() else { return Ok(None) };
        let mut fields = Fields(&bytes[4..]);
        let [version, codec, flags @ ..] = fields.take::<4>();
        if version != FORMAT {
            return Err(FrameError::Version(version));
        }
        let said = u32::from_le_bytes(*bytes.last_chunk().expect("LEN is above 4"));
        let found = crc32c::crc32c(&bytes[..Self::CRC_AT]);
        if said != found {
            return Err(FrameError::HeaderChecksum { said, found });
        }
        let codec = Codec::from_byte(codec).ok_or(FrameError::Codec(codec))?;
        let timelines = [fields.u128(), fields.u128()].map(TimelineId);
        let [start, end] = [fields.u64(), fields.u64()].map(Sequence);
        let header = Self {
            codec,
            start: Position { timeline: timelines[0], sequence: start },
            end: Position { timeline: timelines[1], sequence: end },
            epoch: fields.u64(),
            stamp: Hlc(fields.u64()),
            log_chain: Chain(fields.u64()),
            chain_before: Chain(fields.u64()),
            chain: Chain(fields.u64()),
            batches: fields.u32(),
            raw_len: fields.u32(),
            body_len: fields.u32(),
            body_crc: fields.u32(),
        };
        if flags != [0; 2] || fields.take::<8>() != [0; 8] {
            return Err(FrameError::Reserved);
        }
        header.bounded().map(Some)
    }

    fn bounded(self) -> Result<Self, FrameError> {
        let len = self.raw_len.max(self.body_len);
        if len as usize > MAX_FRAME {
            return Err(FrameError::TooLarge { len: u64::from(len) });
        }
        if self.batches == 0 {
            return Err(FrameError::Empty);
        }
        if self.end.sequence < self.start.sequence {
            return Err(FrameError::Backwards { start: self.start, end: self.end });
        }
        Ok(self)
    }
}

/// Fixed-width numbers, one after the other, out of bytes whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("the length was checked");
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.take())
    }
}
