//! The batches inside a frame.

use keyspace::Cf;

use super::{FrameError, FrameHeader};
use crate::batch::BatchRef;
use crate::{Kind, Sequence};

/// Before each batch: how many sequences it used in the source's log, with those that a load consumed
/// before it, and its length.
pub(super) const PREFIX: usize = 8;

/// One batch of a frame, as projected for its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBatch<'a> {
    /// The sequence after the batch before it in the source's log.
    pub start: Sequence,
    /// How many sequences it used there; what is left of it may have fewer records or more. For a
    /// batch that follows on a load, those that the load consumed are among them.
    pub count: u32,
    /// What is left of it. Its own header has the sequence of its first record in the source's log:
    /// `start`, or later where a load consumed some.
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
    /// Where the batch before the first one ended.
    start: Sequence,
}

impl<'a> Body<'a> {
    pub(super) fn check(header: &FrameHeader, raw: &'a [u8]) -> Result<Self, FrameError> {
        let (mut rest, mut found) = (raw, 0_u32);
        let (mut at, mut chain) = (header.start.sequence, header.chain_before);
        while !rest.is_empty() {
            let offset = raw.len() - rest.len();
            let (count, bytes, after) = split(rest).ok_or(FrameError::Cut(offset))?;
            let batch = BatchRef::parse(bytes)?;
            let end = at.advance(u64::from(count)).ok_or(FrameError::Cut(offset))?;
            if batch.sequence() != at.next() && !follows_load(&batch, at, end) {
                return Err(FrameError::Gap { expected: at.next(), found: batch.sequence() });
            }
            if batch.touches(Cf::System) {
                return Err(FrameError::Local);
            }
            at = end;
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
        Ok(Self { raw, start: header.start.sequence })
    }

    /// The batches, in order.
    pub fn batches(&self) -> impl Iterator<Item = FrameBatch<'a>> + use<'a> {
        let (mut rest, mut at) = (self.raw, self.start);
        std::iter::from_fn(move || {
            // `check` went the same way, so there is no error to lose.
            let (count, bytes, after) = split(rest)?;
            rest = after;
            let start = at.next();
            at = at.advance(u64::from(count))?;
            let batch = BatchRef::parse(bytes).ok()?;
            Some(FrameBatch { start, count, batch })
        })
    }
}

/// Whether the batch follows on a load that consumed what is missing between `at` and it. How much
/// that was stood in a node-local record, which does not travel: the frame's count has it.
fn follows_load(batch: &BatchRef<'_>, at: Sequence, end: Sequence) -> bool {
    let says = batch.tags().any(|tag| tag.is_ok_and(|tag| tag.kind == Kind::Loaded));
    says && at < batch.sequence() && batch.sequence() <= end
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
