//! Makes the frames of one stream, one after the other.

use keyspace::{Hlc, SlotSet};

use super::body::{FrameBatch, PREFIX};
use super::{FrameHeader, KEEP, MAX_FRAME, Packing, PushError};
use crate::batch::{BatchRef, Projection, project};
use crate::{Chain, Consumed, Position, Sequence, TimelineId};

/// Gathers batches and packs them into frames. It goes on from each frame to the next, so a
/// stream needs one, from the position where it starts.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    start: Position,
    end: Position,
    chain_before: Chain,
    chain: Chain,
    epoch: u64,
    stamp: Hlc,
    batches: u32,
    raw: Vec<u8>,
}

impl FrameBuilder {
    /// A stream that goes on after `start`, where its chain is `chain`. `epoch` and `stamp` are the
    /// highest that the stream has carried by then: zero for a new one.
    pub fn new(start: Position, chain: Chain, epoch: u64, stamp: Hlc) -> Self {
        Self {
            start,
            end: start,
            chain_before: chain,
            chain,
            epoch,
            stamp,
            batches: 0,
            raw: Vec::new(),
        }
    }

    /// The position after the last batch that was pushed.
    pub const fn end(&self) -> Position {
        self.end
    }

    /// The stream's chain there.
    pub const fn chain(&self) -> Chain {
        self.chain
    }

    /// Whether there is nothing to finish.
    pub const fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// How many bytes the batches take, not packed.
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// How many batches there are.
    pub const fn batches(&self) -> u32 {
        self.batches
    }

    /// The next batch is the first one of this timeline. Finish the frame before.
    pub fn begin_timeline(&mut self, timeline: TimelineId) -> Result<(), PushError> {
        if !self.is_empty() {
            return Err(PushError::Timeline(timeline));
        }
        self.end.timeline = timeline;
        Ok(())
    }

    /// Adds the next batch of the source's log, as a target with the slots `keep` gets it.
    pub fn push(&mut self, batch: &BatchRef<'_>, keep: &SlotSet) -> Result<Projection, PushError> {
        let (expected, found) = (self.end.sequence.next(), batch.sequence());
        let consumed = match Consumed::before(batch) {
            Some(consumed) if consumed.first == expected => consumed.count,
            _ if found == expected => 0,
            _ => return Err(PushError::Gap { expected, found }),
        };
        let used = batch.count().checked_add(consumed).ok_or(PushError::Gap { expected, found })?;
        self.add(batch, used, batch.end(), keep)
    }

    /// Adds a batch that stands in a frame of another stream of the same log, as a target with the slots
    /// `keep` gets it. Slots that the other stream has left out do not come back.
    pub fn push_again(
        &mut self,
        found: &FrameBatch<'_>,
        keep: &SlotSet,
    ) -> Result<Projection, PushError> {
        let expected = self.end.sequence.next();
        if found.start != expected {
            return Err(PushError::Gap { expected, found: found.start });
        }
        self.add(&found.batch, found.count, found.end(), keep)
    }

    /// Adds a batch that used so many sequences of the log, up to `end`.
    fn add(
        &mut self,
        batch: &BatchRef<'_>,
        used: u32,
        end: Sequence,
        keep: &SlotSet,
    ) -> Result<Projection, PushError> {
        let (mut epoch, mut stamp) = (self.epoch, self.stamp);
        for tag in batch.tags() {
            let tag = tag?;
            epoch = epoch.max(tag.epoch);
            stamp = stamp.max(tag.stamp);
        }
        let before = self.raw.len();
        let len = before.saturating_add(PREFIX).saturating_add(batch.bytes().len());
        self.fits(len)?;
        self.raw.extend_from_slice(&used.to_le_bytes());
        self.raw.extend_from_slice(&[0; 4]);
        let body = before + PREFIX;
        let projection = match project(batch, keep, &mut self.raw) {
            Ok(projection) => projection,
            Err(error) => {
                self.raw.truncate(before);
                return Err(error.into());
            }
        };
        // Clipped range deletes may take more room than what they were cut from.
        if let Err(full) = self.fits(self.raw.len()) {
            self.raw.truncate(before);
            return Err(full);
        }
        let len = u32::try_from(self.raw.len() - body).expect("MAX_FRAME is below 4 GiB");
        self.raw[before + 4..body].copy_from_slice(&len.to_le_bytes());
        self.chain = self.chain.extend(&self.raw[body..]);
        (self.epoch, self.stamp) = (epoch, stamp);
        self.end.sequence = end;
        self.batches += 1;
        Ok(projection)
    }

    /// The frame, packed; `log_chain` is the chain of the source's log at its end. What is pushed
    /// next begins the next frame. `None` if nothing was pushed.
    pub fn finish(&mut self, packing: impl Into<Packing>, log_chain: Chain) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let mut frame = vec![0; FrameHeader::LEN];
        let codec = packing.into().pack(&self.raw, &mut frame);
        let length = |len: usize| u32::try_from(len).expect("MAX_FRAME is below 4 GiB");
        let body = &frame[FrameHeader::LEN..];
        let header = FrameHeader {
            codec,
            start: self.start,
            end: self.end,
            epoch: self.epoch,
            stamp: self.stamp,
            log_chain,
            chain_before: self.chain_before,
            chain: self.chain,
            batches: self.batches,
            raw_len: length(self.raw.len()),
            body_len: length(body.len()),
            body_crc: crc32c::crc32c(body),
        };
        frame[..FrameHeader::LEN].copy_from_slice(&header.encode());
        self.start = self.end;
        self.chain_before = self.chain;
        self.batches = 0;
        self.raw.clear();
        self.raw.shrink_to(KEEP);
        Some(frame)
    }

    fn fits(&self, len: usize) -> Result<(), PushError> {
        if len > MAX_FRAME { Err(PushError::Full { len }) } else { Ok(()) }
    }
}
