//! The batches inside a frame.

use keyspace::Cf;

use super::{FrameError, FrameHeader};
use crate::Sequence;
use crate::batch::BatchRef;

/// Before each batch: how many sequences it used in the source's log, and its length.
pub(super) const PREFIX: usize = 8;

/// One batch of a frame, as projected for its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBatch<'a> {
    /// The sequence of its first record in the source's log.
    pub start: Sequence,
    /// How many sequences it used there; what is left of it may have fewer records or more.
    pub count: u32,
    /// What is left of it. Its own header has `start` for its sequence.
    pub batch: BatchRef<'a>,
}

impl FrameBatch<'_> {
    /// The last sequence that it used in the source's log.
    pub const fn end(&self) -> Sequence {
        Sequence((self.start.0 + self.count as u64).saturating_sub(1))
    }
}

/// The unpacked body of a frame, every batch checked.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    raw: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn check(header: &FrameHeader, raw: &'a [u8]) -> Result<Self, FrameError> {
        let (mut rest, mut found) = (raw, 0_u32);
        let (mut at, mut chain) = (header.start.sequence, header.chain_before);
        while !rest.is_empty() {
            let offset = raw.len() - rest.len();
            let (count, bytes, after) = split(rest).ok_or(FrameError::Cut(offset))?;
            let batch = BatchRef::parse(bytes)?;
            if batch.sequence() != at.next() {
                return Err(FrameError::Gap { expected: at.next(), found: batch.sequence() });
            }
            if batch.touches(Cf::System) {
                return Err(FrameError::Local);
            }
            at = at.advance(u64::from(count)).ok_or(FrameError::Cut(offset))?;
            chain = chain.extend(bytes);
            found = found.saturating_add(1);
            rest = after;
        }
        if found != header.batches {
            return Err(FrameError::Batches { said: header.batches, found });
        }
        if at != header.end.sequence {
            return Err(FrameError::End { said: header.end.sequence, found: at });
        }
        if chain != header.chain {
            return Err(FrameError::Chain { said: header.chain, found: chain });
        }
        Ok(Self { raw })
    }

    /// The batches, in order.
    pub fn batches(&self) -> impl Iterator<Item = FrameBatch<'a>> + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            // `check` went the same way, so there is no error to lose.
            let (count, bytes, after) = split(rest)?;
            rest = after;
            let batch = BatchRef::parse(bytes).ok()?;
            Some(FrameBatch { start: batch.sequence(), count, batch })
        })
    }
}

/// The source's count, the bytes of the first batch, and what is after it.
fn split(raw: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (prefix, rest) = raw.split_first_chunk::<PREFIX>()?;
    let (count, len) = prefix.split_at(4);
    let count = u32::from_le_bytes(count.try_into().ok()?);
    let len = u32::from_le_bytes(len.try_into().ok()?);
    let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((count, bytes, rest))
}
