//! Which timelines a log has had, and what each forked from.

use serde::{Deserialize, Serialize};

use crate::{Position, Sequence, TimelineId};

/// One timeline of a node's own log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TimelineStart {
    /// Its id.
    pub timeline: TimelineId,
    /// The sequence of its first batch, in the node's own log.
    pub first: Sequence,
    /// The ends of what it continues: the node's own timeline before it (absent for the first), and
    /// at a promotion the position that had been applied of each source.
    pub parents: Vec<Position>,
    /// The service's epoch at its start; 0 without a service.
    pub epoch: u64,
}

/// The timelines of one node's log, oldest first, the last one current.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<TimelineStart>);

/// What a source says to a follower's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Follow from here: a position of the source's own log.
    From(Position),
    /// The follower has batches that this history has not: it must rewind to this position of the
    /// follower's timeline, then follow from `resume`.
    Rewind {
        /// The last common position, on the follower's timeline.
        fork: Position,
        /// Where to follow from after that, on the source's log.
        resume: Position,
    },
    /// Nothing in common, or what lies between is not in this log: the follower must be seeded.
    Seed,
}

impl History {
    /// How many starts are kept; older ones are forgotten, and who followed them is re-seeded.
    pub const LIMIT: usize = 4096;

    /// The timelines, oldest first.
    pub fn starts(&self) -> &[TimelineStart] {
        &self.0
    }

    /// The current timeline.
    pub fn current(&self) -> Option<&TimelineStart> {
        self.0.last()
    }

    /// Adds a timeline that starts now.
    pub fn push(&mut self, start: TimelineStart) {
        self.0.push(start);
        if self.0.len() > Self::LIMIT {
            self.0.drain(..self.0.len() - Self::LIMIT);
        }
    }

    /// The position of this log's sequence: the last timeline that had started by then.
    ///
    /// The end of a timeline and the sequence before its successor's first are the same.
    pub fn position_of(&self, sequence: Sequence) -> Option<Position> {
        let start = self.0.iter().rev().find(|start| start.first <= sequence)?;
        Some(Position { timeline: start.timeline, sequence })
    }

    /// How a follower that stands at `at` can go on with this log, whose end is `end`.
    ///
    /// `local_until` is the end of the batches after `at`, on the same timeline, that hold nothing
    /// but node-local state: an old primary writes such after its end batch, and they never count
    /// as past a fork. A standby passes `at.sequence`.
    pub fn continue_from(
        &self,
        at: Position,
        local_until: Sequence,
        end: Sequence,
    ) -> Continuation {
        // The end of a timeline of ours, where the next one continued it: it is ours up to there.
        let own = self.0.iter().position(|start| start.timeline == at.timeline);
        if let Some(own) = own {
            let last = match self.0.get(own + 1) {
                Some(next) => next.first.before(),
                None => end,
            };
            // Before its first batch it had not started; that position has its parent's name.
            if at.sequence.next() < self.0[own].first {
                return Continuation::Seed;
            }
            let on = |sequence| Position { timeline: at.timeline, sequence };
            return if at.sequence <= last {
                Continuation::From(on(at.sequence))
            } else {
                Continuation::Rewind { fork: on(last), resume: on(last) }
            };
        }
        // A source's timeline that one of ours forked from.
        let Some((fork, resume)) = self.fork_of(at.timeline) else { return Continuation::Seed };
        if at.sequence > fork.sequence {
            Continuation::Rewind { fork, resume }
        } else if fork.sequence <= local_until.max(at.sequence) {
            Continuation::From(resume)
        } else {
            Continuation::Seed
        }
    }

    /// How a log that was written by a primary joins this one, which took over from it: `own` are
    /// that log's timelines, `data_until` is the end of its last batch that holds more than
    /// node-local state, and `local_until` is its end.
    ///
    /// Unlike [`History::continue_from`] it finds a fork that lies on an earlier timeline of that
    /// log: the old primary may have been opened again, once or often, since the batch that was
    /// the last one to arrive here.
    pub fn rejoin(&self, own: &Self, data_until: Sequence, local_until: Sequence) -> Continuation {
        let mut last = local_until;
        for start in own.0.iter().rev() {
            if let Some((fork, resume)) = self.fork_of(start.timeline) {
                return if fork.sequence > last {
                    // A power cut took batches from it that had arrived here.
                    Continuation::Seed
                } else if fork.sequence < data_until {
                    Continuation::Rewind { fork, resume }
                } else {
                    Continuation::From(resume)
                };
            }
            last = start.first.before();
        }
        Continuation::Seed
    }

    /// Where the newest timeline of ours that continues this one of another log left it, and where
    /// that is on our own log.
    fn fork_of(&self, timeline: TimelineId) -> Option<(Position, Position)> {
        self.0.iter().rev().find_map(|start| {
            let fork = start.parents.iter().find(|parent| parent.timeline == timeline)?;
            let resume = Position { timeline: start.timeline, sequence: start.first.before() };
            Some((*fork, resume))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TimelineId = TimelineId(0xa);
    const B: TimelineId = TimelineId(0xb);
    const B2: TimelineId = TimelineId(0xb2);

    fn at(timeline: TimelineId, sequence: u64) -> Position {
        Position { timeline, sequence: Sequence(sequence) }
    }

    fn start(timeline: TimelineId, first: u64, parents: &[Position]) -> TimelineStart {
        TimelineStart { timeline, first: Sequence(first), parents: parents.to_vec(), epoch: 1 }
    }

    /// B opened at 1, applied A up to 500 while its own log reached 90, and was promoted.
    fn promoted() -> History {
        let mut history = History::default();
        history.push(start(B, 1, &[]));
        history.push(start(B2, 91, &[at(B, 90), at(A, 500)]));
        history
    }

    #[test]
    fn an_old_primary_follows_from_the_fork_or_rewinds_to_it() {
        let history = promoted();
        let check = |position: Position, expected| {
            let answer = history.continue_from(position, position.sequence, Sequence(120));
            assert_eq!(answer, expected, "{position}");
        };
        check(at(A, 500), Continuation::From(at(B2, 90)));
        check(at(A, 501), Continuation::Rewind { fork: at(A, 500), resume: at(B2, 90) });
        check(at(A, 499), Continuation::Seed);
        check(at(B2, 90), Continuation::From(at(B2, 90)));
        check(at(B2, 120), Continuation::From(at(B2, 120)));
        check(at(B2, 121), Continuation::Rewind { fork: at(B2, 120), resume: at(B2, 120) });
        check(at(B, 90), Continuation::From(at(B, 90)));
        check(at(B, 91), Continuation::Rewind { fork: at(B, 90), resume: at(B, 90) });
        check(at(TimelineId(0xc), 5), Continuation::Seed);
    }

    #[test]
    fn an_old_primary_that_was_opened_again_still_finds_the_fork() {
        let history = promoted();
        let again = TimelineId(0xa2);
        let mut own = History::default();
        own.push(start(A, 1, &[]));
        let check = |own: &History, data: u64, end: u64, expected| {
            assert_eq!(history.rejoin(own, Sequence(data), Sequence(end)), expected, "{data}");
        };
        let rewind = Continuation::Rewind { fork: at(A, 500), resume: at(B2, 90) };
        let from = Continuation::From(at(B2, 90));
        check(&own, 500, 500, from);
        check(&own, 497, 503, from);
        check(&own, 501, 501, rewind);
        check(&own, 499, 499, Continuation::Seed);
        own.push(start(again, 505, &[at(A, 504)]));
        check(&own, 480, 505, from);
        check(&own, 502, 505, rewind);
        check(&own, 900, 900, rewind);
        // A power cut: what it had sent and lost was overwritten by its next timeline.
        let mut cut = History::default();
        cut.push(start(A, 1, &[]));
        cut.push(start(again, 491, &[at(A, 490)]));
        check(&cut, 700, 700, Continuation::Seed);
        check(&History::default(), 1, 1, Continuation::Seed);
    }

    #[test]
    fn node_local_batches_after_the_end_never_count_as_past_the_fork() {
        let history = promoted();
        let from = Continuation::From(at(B2, 90));
        assert_eq!(history.continue_from(at(A, 497), Sequence(500), Sequence(120)), from);
        assert_eq!(history.continue_from(at(A, 497), Sequence(503), Sequence(120)), from);
        let lost_power = history.continue_from(at(A, 497), Sequence(499), Sequence(120));
        assert_eq!(lost_power, Continuation::Seed);
    }
}
