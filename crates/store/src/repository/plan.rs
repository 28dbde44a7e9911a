//! How a moment is restored: the newest checkpoint at or before it, and the segments from there.
//!
//! A *line* is a run of segments, each following on the one before, read from its end backwards: so a
//! timeline is followed up to where another one forked from it and no further. Where a shard took over from another
//! it goes on in the archive of that one. Pure: no store is asked.

use keyspace::Hlc;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};
use wal::{Chain, Position, Sequence, Tag};

use super::archive::Fork;
use super::{Archive, ArchiveName, Base, Frames, Record, Segment};

/// What should be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All there is.
    Latest,
    /// What was there at this time: every batch with a stamp of this millisecond or before.
    At(u64),
    /// Up to the batch that ends here.
    Position(Position),
}

/// A segment of which batches are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The segment.
    pub segment: Segment,
    /// The end of the last batch that is needed of it.
    pub until: Sequence,
}

impl Step {
    /// The end of the last batch that is needed.
    pub fn end(&self) -> Position {
        Position { timeline: self.segment.end.timeline, sequence: self.until }
    }
}

/// What leads to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The checkpoint.
    pub base: Base,
    /// The segments, in order; of the first one what is behind the checkpoint's position.
    pub steps: Vec<Step>,
    /// The last millisecond whose batches are wanted, if a time was asked for: where in the last step
    /// that is, [`Plan::settle`] finds out.
    pub at: Option<u64>,
    /// What whoever asked should know.
    pub note: Option<String>,
    /// Whether the end of the last step is known to be that of a batch.
    settled: bool,
}

/// Why a moment cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nothing was archived.
    #[error("the archive has no whole checkpoint yet, and without one nothing can be restored")]
    Empty,
    /// The moment is before all that is kept.
    #[error("the oldest checkpoint that is kept is of {oldest}: nothing before it can be restored")]
    TooOld {
        /// A time.
        oldest: String,
    },
    /// The moment is after all that was archived.
    #[error(
        "the archive reaches to {reaches}: whether anything was written between that and the moment asked for \
         is not known; ask for that moment, or leave the time out for all there is"
    )]
    NotYet {
        /// A time.
        reaches: String,
    },
    /// Nothing of a stretch of time was archived.
    #[error(
        "the log between {from} (position {end}) and {to}, where the next checkpoint is, was not archived: ask \
         for a moment up to the former or from the latter on"
    )]
    Hole {
        /// A time.
        from: String,
        /// A time.
        to: String,
        /// What is there before.
        end: Position,
    },
    /// A position that nothing holds.
    #[error("position {0} is in no segment of the archive and no checkpoint stands there")]
    Nowhere(Position),
    /// What leads up to a position is not there.
    #[error(
        "the log before position {start} is missing: no segment ends there, and no checkpoint is at or after \
         it and before {end}"
    )]
    Log {
        /// Where what is there begins.
        start: Position,
        /// What should have been reached.
        end: Position,
    },
    /// Two segments that do not fit.
    #[error(
        "the segment from {start} does not go on with the stream that ends there: one of the two is another log's"
    )]
    Chain {
        /// Where the later one begins.
        start: Position,
    },
    /// A position inside a batch.
    #[error(
        "position {at} is inside a batch: a batch is restored whole or not; the one before ends at {before}"
    )]
    Inside {
        /// What was asked for.
        at: Position,
        /// The end of the batch before.
        before: Position,
    },
    /// A segment that cannot be read.
    #[error("{0}")]
    Damaged(String),
}

/// A run of segments up to an end.
#[derive(Debug)]
struct Line<'a> {
    /// Where what is there begins.
    start: Position,
    end: Position,
    /// In the order of the log.
    steps: Vec<(&'a Segment, Sequence)>,
    /// Bases on it, oldest first, with the number of steps before each one's position.
    bases: Vec<(usize, &'a Base)>,
    broken: Option<Missing>,
}

impl Line<'_> {
    fn stamp(&self) -> Hlc {
        let base = self.bases.last().map(|(_, base)| base.stamp);
        self.steps.last().map(|(segment, _)| segment.stamp).or(base).unwrap_or_default()
    }
}

struct Lines<'a> {
    segments: Vec<&'a Segment>,
    bases: Vec<&'a Base>,
    forks: Vec<&'a Fork>,
    /// Of the segments and the bases those that are the shard's own; what follows is in the archives that
    /// its forks lead to.
    own: (usize, usize),
    ends: HashMap<Position, usize>,
}

impl<'a> Lines<'a> {
    fn of(archive: &'a Archive) -> Self {
        Self::of_records(archive.all().map(|archive| archive.records().as_slice()))
    }

    /// Of the records of the shard's own archive, and then of those that its forks lead to.
    fn of_records(archives: impl Iterator<Item = &'a [(u64, Record)]>) -> Self {
        let (mut segments, mut bases, mut forks) = (Vec::new(), Vec::new(), Vec::new());
        let mut own = None;
        for records in archives {
            for (_, record) in records {
                match record {
                    Record::Base(base) => bases.push(base),
                    Record::Segment(segment) => segments.push(segment),
                    Record::Fork(fork) => forks.push(fork),
                }
            }
            own.get_or_insert((segments.len(), bases.len()));
        }
        // Where two end alike, the shard's own.
        let ends = segments.iter().enumerate().rev();
        let mut ends: HashMap<_, _> = ends.map(|(n, segment)| (segment.end, n)).collect();
        let (own_segments, own_bases) = own.unwrap_or_default();
        ends.extend(segments[..own_segments].iter().enumerate().map(|(n, s)| (s.end, n)));
        Self { segments, bases, forks, own: (own_segments, own_bases), ends }
    }

    fn holding(&self, at: Position) -> Option<&'a Segment> {
        let whole = self.ends.get(&at).map(|n| self.segments[*n]);
        whole
            .filter(|segment| segment.contains(at))
            .or_else(|| self.segments.iter().rev().find(|s| s.contains(at)).copied())
    }

    fn to(&self, end: Position) -> Line<'a> {
        let (mut at, mut steps, mut broken) = (end, Vec::<(&Segment, Sequence)>::new(), None);
        // A log has no way around; what says so is damaged.
        let mut seen = Seen::default();
        let mut crossed = false;
        loop {
            let Some(segment) = self.holding(at) else {
                let fork = self.forks.iter().rfind(|fork| fork.position == at);
                let Some(fork) = fork.filter(|fork| seen.add(**fork)) else { break };
                (at, crossed) = (fork.at, true);
                continue;
            };
            let across = std::mem::take(&mut crossed);
            if !seen.add(segment) {
                broken = Some(Missing::Chain { start: at });
                break;
            }
            if let Some((later, _)) = steps.last()
                && !across
                && at == segment.end
                && later.chain_before != segment.chain
                && (later.chain_before != Chain::START || later.stream == segment.stream)
            {
                broken = Some(Missing::Chain { start: at });
                break;
            }
            steps.push((segment, at.sequence));
            at = segment.start;
        }
        steps.reverse();
        let start = at;
        let mut bases = Vec::new();
        for base in &self.bases {
            let held = |(segment, until): &(&Segment, Sequence)| {
                segment.contains(base.position) && base.position.sequence <= *until
            };
            if base.position == start {
                bases.push((0, *base));
            } else if let Some(step) = steps.iter().position(held) {
                bases.push((step + 1, *base));
            }
        }
        bases.sort_by_key(|(step, base)| (*step, base.position.sequence, base.taken_at));
        Line { start, end, steps, bases, broken }
    }

    /// The newest end among those not seen yet.
    fn newest(&self, seen: &Seen) -> Option<Position> {
        let (segments, bases) = (&self.segments[..self.own.0], &self.bases[..self.own.1]);
        let segments = || segments.iter().filter(|segment| !seen.has(**segment));
        let stream = segments().map(|segment| segment.stream).max();
        let segment = segments().rfind(|segment| Some(segment.stream) == stream);
        let base = bases.iter().rfind(|base| !seen.has(**base));
        match (segment, base) {
            (None, None) => None,
            (Some(segment), None) => Some(segment.end),
            (None, Some(base)) => Some(base.position),
            (Some(segment), Some(base)) => {
                let on_it = self.to(segment.end).bases.iter().any(|(_, b)| std::ptr::eq(*b, *base));
                let later = base.stream > segment.stream
                    || (base.stream == segment.stream
                        && !on_it
                        && base.taken_at > segment.taken_at);
                Some(if later { base.position } else { segment.end })
            }
        }
    }

    /// What is missing where a line goes on from another shard's log, which was not archived so far.
    fn cut_off(&self, line: &Line<'_>) -> Option<Hole> {
        let (_, first) = line.bases.first()?;
        self.forks.iter().find(|fork| fork.at == line.start)?;
        let before = |segment: &&&Segment| {
            segment.end.timeline == line.start.timeline
                && segment.end.sequence < line.start.sequence
        };
        let last = self.segments.iter().filter(before).max_by_key(|s| s.end.sequence)?;
        Some(Hole {
            after: last.end,
            after_stamp: last.stamp,
            until: first.position,
            until_stamp: first.stamp,
        })
    }

    /// All lines, newest first.
    fn all(&self) -> Vec<Line<'a>> {
        let (mut lines, mut seen) = (Vec::new(), Seen::default());
        while let Some(end) = self.newest(&seen) {
            let line = self.to(end);
            let before = seen.0.len();
            for (segment, _) in &line.steps {
                seen.add(*segment);
            }
            for (_, base) in &line.bases {
                seen.add(*base);
            }
            // Each line has a segment or a base that none before had.
            if seen.0.len() == before {
                break;
            }
            lines.push(line);
        }
        lines
    }
}

/// Records that are on some line, by where they lie in memory.
#[derive(Default)]
struct Seen(HashSet<usize>);

impl Seen {
    fn has<T>(&self, record: &T) -> bool {
        self.0.contains(&std::ptr::from_ref(record).addr())
    }

    /// Whether it was not there before.
    fn add<T>(&mut self, record: &T) -> bool {
        self.0.insert(std::ptr::from_ref(record).addr())
    }
}

/// A stretch of the log of which every batch's end can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first checkpoint.
    pub from: Position,
    /// Of that checkpoint.
    pub from_stamp: Hlc,
    /// Its end.
    pub to: Position,
    /// At the end.
    pub to_stamp: Hlc,
    /// Segments in it.
    pub segments: usize,
    /// What does not fit, at its beginning.
    pub broken: Option<Missing>,
}

/// A stretch of time of which nothing can be restored: the log between was not archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last position before it.
    pub after: Position,
    /// Of that position.
    pub after_stamp: Hlc,
    /// The checkpoint that ends it.
    pub until: Position,
    /// Of that checkpoint.
    pub until_stamp: Hlc,
}

/// The holes between what can be restored, newest first. Only a checkpoint closes one, from there on.
pub fn holes(archive: &Archive) -> Vec<Hole> {
    let lines = Lines::of(archive);
    let mut holes: Vec<_> = lines.all().iter().filter_map(|line| lines.cut_off(line)).collect();
    let spans = spans(archive);
    let between = |pair: &[Span]| {
        let [later, earlier] = pair else { return None };
        // A fork leaves the end of what was before to nobody: no time lies between.
        (later.from_stamp > earlier.to_stamp).then_some(Hole {
            after: earlier.to,
            after_stamp: earlier.to_stamp,
            until: later.from,
            until_stamp: later.from_stamp,
        })
    };
    holes.extend(spans.windows(2).filter_map(between));
    holes
}

/// What can be restored, newest first. What lies past a fork is not shown; it is restored if its
/// position is asked for.
pub fn spans(archive: &Archive) -> Vec<Span> {
    let of = |line: Line<'_>| {
        let (_, base) = line.bases.first()?;
        Some(Span {
            from: base.position,
            from_stamp: base.stamp,
            to: line.end,
            to_stamp: line.stamp(),
            segments: line.steps.len(),
            broken: line.broken.clone(),
        })
    };
    Lines::of(archive).all().into_iter().filter_map(of).collect()
}

impl Plan {
    /// What leads to a moment.
    ///
    /// # Errors
    /// It cannot be restored; why is said by naming what is missing.
    pub fn of(archive: &Archive, target: Target) -> Result<Self, Missing> {
        Self::in_lines(&Lines::of(archive), target)
    }

    fn in_lines(lines: &Lines<'_>, target: Target) -> Result<Self, Missing> {
        if lines.bases.is_empty() {
            return Err(Missing::Empty);
        }
        match target {
            Target::Position(at) => {
                let held = lines.holding(at).is_some();
                if !held && !lines.bases.iter().any(|base| base.position == at) {
                    return Err(Missing::Nowhere(at));
                }
                Self::on(&lines.to(at), None)
            }
            Target::Latest => {
                let all = lines.all();
                let mut plans = all.iter().map(|line| (line, Self::on(line, None)));
                let (newest, first) = plans.next().ok_or(Missing::Empty)?;
                let why = match first {
                    Ok(plan) => return Ok(plan),
                    Err(why) => why,
                };
                // A checkpoint that is on its way yet: what was before is whole.
                if !newest.bases.is_empty() || newest.broken.is_some() {
                    return Err(why);
                }
                let older = plans.find_map(|(_, plan)| plan.ok()).ok_or(why)?;
                let note = format!(
                    "the log goes on at {} after a checkpoint that is not stored yet: what came after {} is \
                     not restored",
                    newest.start,
                    older.end()
                );
                Ok(Self { note: Some(note), ..older })
            }
            Target::At(at) => Self::at(&lines.all(), at),
        }
    }

    fn at(all: &[Line<'_>], at: u64) -> Result<Self, Missing> {
        let mut later: Option<&Line<'_>> = None;
        for line in all {
            if !line.bases.iter().any(|(_, base)| base.stamp.ms() <= at) {
                later = Some(line).filter(|line| !line.bases.is_empty()).or(later);
                continue;
            }
            if at > line.stamp().ms() {
                let reaches = time(line.stamp());
                return Err(match later.and_then(|line| line.bases.first()) {
                    None => Missing::NotYet { reaches },
                    Some((_, base)) => {
                        Missing::Hole { from: reaches, to: time(base.stamp), end: line.end }
                    }
                });
            }
            return Self::on(line, Some(at));
        }
        let oldest = all.iter().flat_map(|line| &line.bases).map(|(_, base)| base.stamp).min();
        Err(oldest.map_or(Missing::Empty, |oldest| Missing::TooOld { oldest: time(oldest) }))
    }

    /// By the newest base of a line, at or before a time.
    fn on(line: &Line<'_>, at: Option<u64>) -> Result<Self, Missing> {
        let fits = |(_, base): &&(usize, &Base)| at.is_none_or(|at| base.stamp.ms() <= at);
        let Some((behind, base)) = line.bases.iter().rfind(fits) else {
            return Err(line
                .broken
                .clone()
                .unwrap_or(Missing::Log { start: line.start, end: line.end }));
        };
        // Of the step that holds the base's position there may be something behind it.
        let from = behind.saturating_sub(1);
        let mut steps = Vec::new();
        for (index, (segment, until)) in line.steps.iter().enumerate().skip(from) {
            let here = *behind > 0 && index == from;
            if !here || base.position.sequence < *until {
                steps.push(Step { segment: (*segment).clone(), until: *until });
            }
            // Of a segment that is left at a fork it is not known what stamps come before that.
            let whole = *until == segment.end.sequence;
            if whole && at.is_some_and(|at| segment.stamp.ms() > at) {
                break;
            }
        }
        Ok(Self { base: (*base).clone(), steps, at, note: None, settled: false })
    }

    /// Where it ends. With a time it is so only once it is settled.
    pub fn end(&self) -> Position {
        self.steps.last().map_or(self.base.position, Step::end)
    }

    /// The bytes of the segments.
    pub fn segment_bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.segment.bytes).sum()
    }

    /// The segment whose bytes are needed to know where it ends exactly, for [`Plan::settle`].
    pub fn unsettled(&self) -> Option<&Segment> {
        let last = self.steps.last().filter(|_| !self.settled)?;
        let open = match self.at {
            Some(at) => last.segment.stamp.ms() > at,
            None => last.until != last.segment.end.sequence,
        };
        open.then_some(&last.segment)
    }

    /// Finds the exact end in the last segment, whose bytes these are: the last batch by the time that
    /// was asked for, or that there is a batch that ends at the position. Where nothing of it is of
    /// that time, the segment before it may have to be looked at too: ask [`Plan::unsettled`] again.
    ///
    /// # Errors
    /// The segment is not what it should be, or the position is inside a batch.
    pub fn settle(&mut self, archive: &ArchiveName, last: &[u8]) -> Result<(), Missing> {
        let Some(step) = self.steps.last_mut() else { return Ok(()) };
        let frames = Frames::check(archive, &step.segment, last).map_err(Missing::Damaged)?;
        let mut found = step.segment.start.sequence;
        let mut scratch = Vec::new();
        'frames: for frame in frames {
            let body = frame.decode(&mut scratch);
            let body = body.map_err(|why| Missing::Damaged(why.to_string()))?;
            for batch in body.batches() {
                let late = |tag: Tag| self.at.is_some_and(|at| tag.stamp.ms() > at);
                if batch.end() > step.until || batch.batch.tags().flatten().any(late) {
                    break 'frames;
                }
                found = batch.end();
            }
        }
        let timeline = step.segment.end.timeline;
        if self.at.is_none() && found != step.until {
            return Err(Missing::Inside {
                at: Position { timeline, sequence: step.until },
                before: Position { timeline, sequence: found },
            });
        }
        step.until = found;
        let nothing = found == step.segment.start.sequence
            || (self.steps.len() == 1 && found <= self.base.position.sequence);
        if nothing {
            self.steps.pop();
        }
        self.settled = !nothing;
        Ok(())
    }
}

/// A stamp as people read it.
pub fn time(stamp: Hlc) -> String {
    // A stamp has 48 bits of milliseconds; what a damaged record may say is no time.
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(stamp.ms()));
    let shown = at.filter(|_| stamp.ms() < 253_402_300_800_000);
    shown.map_or_else(
        || format!("{} ms", stamp.ms()),
        |at| humantime::format_rfc3339_millis(at).to_string(),
    )
}
