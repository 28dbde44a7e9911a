//! A frame of one stream made into one of another stream of the same log: what a standby stages that
//! reads its source's archive instead of a connection.
//!
//! Two streams cut the log into frames at other places, and each has a chain of its own. What they share
//! is positions and the log's chain, which stands at the end of each frame.

use keyspace::{Hlc, SlotSet};

use super::{Codec, FrameBuilder, FrameError, FrameRef, PushError};
use crate::{Chain, Position, Sequence};

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position after its last batch.
    pub position: Position,
    /// The source log's chain there; [`Chain::START`] where it is not known.
    pub log_chain: Chain,
    /// The stream's own chain there.
    pub stream_chain: Chain,
}

/// Why a frame does not go on from a place.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// The frame cannot be read.
    #[error("it cannot be read: {0}")]
    Frame(#[from] FrameError),
    /// Something lies between, or the place is inside a batch.
    #[error("it cannot be made again: {0}")]
    Push(#[from] PushError),
    /// It begins elsewhere.
    #[error("it begins at {start}, and what is here ends at {at}")]
    Gap {
        /// Where it begins.
        start: Position,
        /// Where the stream stands.
        at: Position,
    },
    /// At a position that both know, the log was another one.
    #[error("the log's chain at {at} is {theirs:x} there and {ours:x} here: the two have diverged")]
    Diverged {
        /// The position.
        at: Position,
        /// What the frame says.
        theirs: u64,
        /// What the stream has.
        ours: u64,
    },
}

impl FrameRef<'_> {
    /// The frame of a stream that stands at `at`, with the batches of this one behind that up to the
    /// sequence `until`, as a target with the slots `keep` gets them. `None` if there are none.
    ///
    /// # Errors
    /// It is damaged, does not go on from there, or was made of another log.
    pub fn again(
        &self,
        at: Place,
        until: Sequence,
        keep: &SlotSet,
    ) -> Result<Option<Vec<u8>>, AgainError> {
        let (header, here) = (*self.header(), at.position);
        let within = header.end.timeline == here.timeline;
        if within && header.end.sequence <= here.sequence {
            let known = header.log_chain != Chain::START && at.log_chain != Chain::START;
            if header.end == here && known && header.log_chain != at.log_chain {
                let (theirs, ours) = (header.log_chain.0, at.log_chain.0);
                return Err(AgainError::Diverged { at: here, theirs, ours });
            }
            return Ok(None);
        }
        if header.start != here && !(within && header.start.sequence <= here.sequence) {
            return Err(AgainError::Gap { start: header.start, at: here });
        }
        let mut scratch = Vec::new();
        let body = self.decode(&mut scratch)?;
        let whole = header.end.sequence <= until;
        // Of a part it is not known how high the stamps go but by its batches.
        let stamp = if whole { header.stamp } else { Hlc::default() };
        let mut builder = FrameBuilder::new(here, at.stream_chain, header.epoch, stamp);
        if !within {
            builder.begin_timeline(header.end.timeline)?;
        }
        for batch in body.batches() {
            if within && batch.end() <= here.sequence {
                continue;
            }
            if batch.end() > until {
                break;
            }
            builder.push_again(&batch, keep)?;
        }
        let log_chain = if whole { header.log_chain } else { Chain::START };
        Ok(builder.finish(Codec::Lz4, log_chain))
    }
}

#[cfg(test)]
mod tests {
    use keyspace::Cf;

    use super::*;
    use crate::batch::{BatchBuilder, BatchRef};
    use crate::{Kind, Tag, TimelineId};

    fn at(timeline: u128, sequence: u64) -> Position {
        Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
    }

    /// Batches of two records each, in the slots 1 and 9000, from `first` up to `last`.
    fn push(builder: &mut FrameBuilder, first: u64, last: u64, keep: &SlotSet) {
        for sequence in (first..last).step_by(2) {
            let mut batch = BatchBuilder::new(Sequence(sequence));
            batch.put(Cf::Meta, &[0, 1, b'k'], &sequence.to_le_bytes());
            batch.put(Cf::Meta, &[0x23, 0x28, b'k'], &sequence.to_le_bytes());
            let stamp = Hlc::new(sequence, 0);
            let tag = Tag { kind: Kind::Data, origin: 1, epoch: 3, stamp, marker: 0 };
            batch.log_data(&tag.encode());
            let bytes = batch.finish();
            builder.push(&BatchRef::parse(&bytes).unwrap(), keep).unwrap();
        }
    }

    fn again(
        frame: &[u8],
        place: Place,
        until: u64,
        keep: &SlotSet,
    ) -> Result<Option<Vec<u8>>, AgainError> {
        let (frame, _) = FrameRef::parse(frame).unwrap().unwrap();
        frame.again(place, Sequence(until), keep)
    }

    fn place(position: Position, chain: Chain) -> Place {
        Place { position, log_chain: Chain(77), stream_chain: chain }
    }

    #[test]
    fn any_cut_of_an_archive_becomes_the_stream_that_a_connection_would_have_sent() {
        let all = SlotSet::all();
        let half: SlotSet = "0-8191".parse().unwrap();
        for keep in [&all, &half] {
            // One frame up to 20 on the stream; then the archive has 1 to 40 in one and the next timeline.
            let mut direct = FrameBuilder::new(at(1, 0), Chain::START, 0, Hlc(0));
            push(&mut direct, 1, 20, keep);
            direct.finish(Codec::None, Chain(77)).unwrap();
            let standing = place(direct.end(), direct.chain());
            push(&mut direct, 21, 40, keep);
            direct.finish(Codec::None, Chain(88)).unwrap();
            direct.begin_timeline(TimelineId(2)).unwrap();
            push(&mut direct, 41, 60, keep);

            let mut archive = FrameBuilder::new(at(1, 0), Chain(5), 0, Hlc(0));
            push(&mut archive, 1, 40, &all);
            let first = archive.finish(Codec::Zstd, Chain(88)).unwrap();
            archive.begin_timeline(TimelineId(2)).unwrap();
            push(&mut archive, 41, 60, &all);
            let second = archive.finish(Codec::Zstd, Chain(99)).unwrap();

            let made = again(&first, standing, 40, keep).unwrap().unwrap();
            let (made, _) = FrameRef::parse(&made).unwrap().unwrap();
            made.decode(&mut Vec::new()).unwrap();
            let header = made.header();
            assert_eq!((header.start, header.end), (at(1, 20), at(1, 40)));
            assert_eq!((header.log_chain, header.epoch), (Chain(88), 3));
            let on = Place { log_chain: Chain(88), ..place(header.end, header.chain) };
            let last = again(&second, on, 60, keep).unwrap().unwrap();
            let (last, _) = FrameRef::parse(&last).unwrap().unwrap();
            assert_eq!(last.header().end, at(2, 60));
            assert_eq!(last.header().chain, direct.chain());
        }
    }

    #[test]
    fn what_is_behind_is_passed_and_what_does_not_fit_is_refused() {
        let all = SlotSet::all();
        let mut archive = FrameBuilder::new(at(1, 10), Chain(5), 0, Hlc(0));
        push(&mut archive, 11, 30, &all);
        let frame = archive.finish(Codec::Zstd, Chain(88)).unwrap();
        let from = |position| again(&frame, place(position, Chain(1)), 30, &all);
        // It ends there with another log's chain.
        assert!(matches!(from(at(1, 30)), Err(AgainError::Diverged { .. })));
        assert!(matches!(from(at(1, 40)), Ok(None)));
        assert!(matches!(from(at(1, 8)), Err(AgainError::Gap { .. })));
        assert!(matches!(from(at(2, 12)), Err(AgainError::Gap { .. })));
        // Inside a batch.
        assert!(matches!(from(at(1, 13)), Err(AgainError::Push(_))));
        // Up to where the timeline was left, which is no end of a frame: its chain is not known.
        let cut = again(&frame, place(at(1, 10), Chain(1)), 20, &all).unwrap().unwrap();
        let (cut, _) = FrameRef::parse(&cut).unwrap().unwrap();
        assert_eq!((cut.header().end, cut.header().log_chain), (at(1, 20), Chain::START));
        assert_eq!(cut.header().stamp, Hlc::new(19, 0));
        assert!(again(&frame, place(at(1, 20), Chain(1)), 20, &all).unwrap().is_none());
    }
}
