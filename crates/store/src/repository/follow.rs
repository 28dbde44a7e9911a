//! Following an archive that somebody else writes: which segment leads on from a position, as long as
//! there is one. Nothing is listed, and while nothing comes a look is one request.

use wal::{Position, Sequence};

use super::archive::{Floor, Mark, Record};
use super::chain::{Chain, Numbered};
use super::reading::Reading;
use super::text::damaged;
use super::{ArchiveName, Repository, Segment, What};
use crate::StoreError;

/// The archive of a shard, followed from a position on.
#[derive(Debug)]
pub struct Followed {
    repository: Repository,
    name: ArchiveName,
    reading: Reading<Record>,
    /// In the order in which they were added; those that lie behind are forgotten.
    segments: Vec<Segment>,
    /// The last one that was added, also when it is forgotten.
    last: Option<Segment>,
}

/// What leads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The segment that holds the batch behind the position.
    pub segment: Segment,
    /// The last sequence of it that is followed: its end, or where its timeline was left.
    pub until: Sequence,
}

impl Followed {
    /// Opens the archive of a shard to follow it from this position; one that does not exist is empty.
    ///
    /// # Errors
    /// The store failed, or what it holds is damaged.
    pub async fn open(
        repository: &Repository,
        name: &ArchiveName,
        at: Position,
    ) -> Result<Self, StoreError> {
        let marks = format!("{}/marks", name.dir());
        let (_, known) = Chain::<Mark>::open(repository, &marks, 0).await?;
        let known: Vec<_> = known.into_iter().map(|(_, mark)| mark).collect();
        let floor = Floor::of(&known);
        let dir = format!("{}/chain", name.dir());
        let reaches_back = |records: &[(u64, Record)]| {
            let at_or_behind =
                |on: Position| on.timeline == at.timeline && on.sequence <= at.sequence;
            records.iter().any(|(_, record)| match record {
                Record::Segment(segment) => at_or_behind(segment.start),
                Record::Base(base) => at_or_behind(base.position),
                Record::Fork(fork) => at_or_behind(fork.position),
            })
        };
        let (reading, records) = Reading::open(repository, &dir, floor.page, reaches_back).await?;
        let (repository, name) = (repository.clone(), name.clone());
        let mut followed = Self { repository, name, reading, segments: Vec::new(), last: None };
        followed.add(records);
        Ok(followed)
    }

    /// Reads what was added since, and says whether anything was. What lies behind `at` is forgotten.
    ///
    /// # Errors
    /// As [`Followed::open`].
    pub async fn look(&mut self, at: Position) -> Result<bool, StoreError> {
        if let Some(here) = self.segments.iter().rposition(|segment| segment.follows(at)) {
            // Where a timeline is left is said by what comes later.
            self.segments.drain(..here);
        } else if let Some(here) = self.segments.iter().rposition(|segment| segment.end == at) {
            self.segments.drain(..here);
        }
        let more = self.reading.more().await?;
        let any = !more.is_empty();
        self.add(more);
        Ok(any)
    }

    fn add(&mut self, records: Numbered<Record>) {
        for (_, record) in records {
            if let Record::Segment(segment) = record {
                self.last = Some(segment.clone());
                self.segments.push(segment);
            }
        }
    }

    /// What leads on from a position.
    pub fn next(&self, at: Position) -> Option<Next> {
        next(&self.segments, at)
    }

    /// The segment that was added last.
    pub fn last(&self) -> Option<&Segment> {
        self.last.as_ref()
    }

    /// What the archive knows of the log's chain at a position where a segment ends.
    pub fn ends_at(&self, at: Position) -> Option<&Segment> {
        self.segments.iter().rfind(|segment| segment.end == at)
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub async fn segment(&self, segment: &Segment) -> Result<Vec<u8>, StoreError> {
        let name = segment.name(&self.name);
        let bytes = self.repository.blob(&name, What::Segment, segment.blake3).await?;
        if bytes.len() as u64 != segment.bytes {
            return Err(damaged(&name, "it has another length than its record says"));
        }
        Ok(bytes)
    }

    /// Whose it is.
    pub fn name(&self) -> &ArchiveName {
        &self.name
    }
}

/// The newest segment that goes on from `at`, and where its timeline was left by a later one.
fn next(segments: &[Segment], at: Position) -> Option<Next> {
    let here = segments.iter().rposition(|segment| segment.follows(at))?;
    let segment = &segments[here];
    let left = segments[here + 1..].iter().filter(|later| {
        later.start.timeline == segment.end.timeline
            && later.end.timeline != segment.end.timeline
            && later.start.sequence < segment.end.sequence
            && (at.timeline != segment.end.timeline || later.start.sequence > at.sequence)
    });
    let until = left.map(|later| later.start.sequence).next_back();
    Some(Next { segment: segment.clone(), until: until.unwrap_or(segment.end.sequence) })
}

#[cfg(test)]
mod tests {
    use keyspace::Hlc;
    use wal::TimelineId;

    use super::*;
    use crate::ObjectId;

    fn at(timeline: u128, sequence: u64) -> Position {
        Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
    }

    fn segment(start: Position, end: Position) -> Segment {
        Segment {
            start,
            end,
            chain_before: wal::Chain(0),
            chain: wal::Chain(0),
            log_chain: wal::Chain(0),
            stamp: Hlc(0),
            epoch: 1,
            bytes: 1,
            blake3: ObjectId([0; 32]),
            stream: 0,
            taken_at: 0,
        }
    }

    #[track_caller]
    fn check(segments: &[Segment], from: Position, expected: Option<(Position, u64)>) {
        let found = next(segments, from).map(|next| (next.segment.start, next.until.0));
        assert_eq!(found, expected, "from {from}");
    }

    #[test]
    fn it_leads_on_from_within_and_from_the_end_of_a_segment() {
        let log = [segment(at(1, 0), at(1, 10)), segment(at(1, 10), at(1, 25))];
        check(&log, at(1, 0), Some((at(1, 0), 10)));
        check(&log, at(1, 7), Some((at(1, 0), 10)));
        check(&log, at(1, 10), Some((at(1, 10), 25)));
        check(&log, at(1, 25), None);
        check(&log, at(2, 7), None);
        check(&[], at(1, 0), None);
    }

    #[test]
    fn a_timeline_is_followed_up_to_where_it_was_left() {
        // Timeline 1 was archived up to 30 and recovered to 20 after a power cut.
        let log = [
            segment(at(1, 0), at(1, 10)),
            segment(at(1, 10), at(1, 30)),
            segment(at(1, 20), at(2, 40)),
        ];
        check(&log, at(1, 5), Some((at(1, 0), 10)));
        check(&log, at(1, 10), Some((at(1, 10), 20)));
        check(&log, at(1, 19), Some((at(1, 10), 20)));
        check(&log, at(1, 20), Some((at(1, 20), 40)));
        // Whoever went on beyond that stays there: only a stream leads it back.
        check(&log, at(1, 25), Some((at(1, 10), 30)));
        check(&log, at(2, 33), Some((at(1, 20), 40)));
    }
}
