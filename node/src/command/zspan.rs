//! Ranges of sorted sets: what a client may write as one, and the members between its ends.

use std::cmp::Ordering;
use std::ops::Bound;

use keyspace::Cf;
use keyspace::score::Score;

use super::args::window;
use super::{Answer, Fail, float};
use crate::worker::{Direction, Entries, Head, Key, View};

/// What the two ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Lex,
}

/// A range, its ends in the order of the set.
pub(super) enum Range<'a> {
    Ranks(i64, i64),
    Scores(Bound<f64>, Bound<f64>),
    Names(Bound<&'a [u8]>, Bound<&'a [u8]>),
    /// Ends that no member lies between.
    Nothing,
}

/// An end of a range of scores: `(` excludes it.
fn score_end(text: &[u8]) -> Result<Bound<f64>, Fail> {
    let bad = || Fail::text("ERR min or max is not a float");
    match text.strip_prefix(b"(") {
        Some(rest) => float(rest).map(Bound::Excluded).ok_or_else(bad),
        None => float(text).map(Bound::Included).ok_or_else(bad),
    }
}

/// An end of a range of names; `None`: `+` as the lower end or `-` as the upper one.
fn name_end(text: &[u8], lower: bool) -> Result<Option<Bound<&[u8]>>, Fail> {
    match text {
        b"-" => Ok(lower.then_some(Bound::Unbounded)),
        b"+" => Ok((!lower).then_some(Bound::Unbounded)),
        [b'(', name @ ..] => Ok(Some(Bound::Excluded(name))),
        [b'[', name @ ..] => Ok(Some(Bound::Included(name))),
        _ => Err(Fail::text("ERR min or max not valid string range item")),
    }
}

/// The range between two ends as a client writes them.
pub(super) fn range<'a>(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Range<'a>, Fail> {
    Ok(match by {
        By::Rank => {
            let rank = |text| resp::integer(text).ok_or(Fail::NotInteger);
            Range::Ranks(rank(low)?, rank(high)?)
        }
        By::Score => Range::Scores(score_end(low)?, score_end(high)?),
        By::Lex => match (name_end(low, true)?, name_end(high, false)?) {
            (Some(low), Some(high)) => Range::Names(low, high),
            _ => Range::Nothing,
        },
    })
}

/// Which members of a range, in which order.
pub(super) struct Pick {
    pub(super) reverse: bool,
    skip: u64,
    take: u64,
}

impl Pick {
    pub(super) const ALL: Self = Self { reverse: false, skip: 0, take: u64::MAX };

    /// LIMIT's offset and count: a negative offset is nothing, a negative count is all.
    pub(super) fn limited(reverse: bool, offset: i64, count: i64) -> Self {
        match u64::try_from(offset) {
            Ok(skip) => Self { reverse, skip, take: u64::try_from(count).unwrap_or(u64::MAX) },
            Err(_) => Self { reverse, skip: 0, take: 0 },
        }
    }
}

/// Two ends of a range of subkeys.
type Ends = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The bytes between which a range of scores lies in the score family.
fn score_bounds(low: Bound<f64>, high: Bound<f64>) -> Option<Ends> {
    let bytes = |number| Score::new(number).map(|score| score.bytes().to_vec());
    // All members of a score come after its eight bytes and before those of the next score.
    let next = |number| {
        let ordered = u64::from_be_bytes(*Score::new(number)?.bytes());
        Some(ordered.saturating_add(1).to_be_bytes().to_vec())
    };
    let low = match low {
        Bound::Included(number) => Bound::Included(bytes(number)?),
        Bound::Excluded(number) => Bound::Included(next(number)?),
        Bound::Unbounded => Bound::Unbounded,
    };
    let high = match high {
        Bound::Included(number) => Bound::Excluded(next(number)?),
        Bound::Excluded(number) => Bound::Excluded(bytes(number)?),
        Bound::Unbounded => Bound::Unbounded,
    };
    Some((low, high))
}

fn cursor<'v>(
    view: &mut View<'v>,
    key: Key<'_>,
    head: &Head,
    range: &Range<'_>,
    direction: Direction,
) -> Result<Option<Entries<'v>>, Fail> {
    let (low, high) = match range {
        Range::Ranks(..) => (Bound::Unbounded, Bound::Unbounded),
        Range::Scores(low, high) => match score_bounds(*low, *high) {
            Some(bounds) => bounds,
            None => return Ok(None),
        },
        // Within one score members are in the order of their names: as Redis, a range of names
        // makes sense only where all scores are the same.
        Range::Names(low, high) => match only_score(view, key, head)? {
            Some(score) => {
                let with = |end: Bound<&[u8]>| end.map(|name| [&score.bytes()[..], name].concat());
                (with(*low), with(*high))
            }
            None => (Bound::Unbounded, Bound::Unbounded),
        },
        Range::Nothing => return Ok(None),
    };
    let (low, high) = (low.as_ref().map(|b| &b[..]), high.as_ref().map(|b| &b[..]));
    view.iterate(Cf::Score, key, head.at.version, low, high, direction).map(Some)
}

/// The score of all members, if they have one.
fn only_score(view: &mut View<'_>, key: Key<'_>, head: &Head) -> Result<Option<Score>, Fail> {
    let mut ends = [None; 2];
    for (end, direction) in ends.iter_mut().zip([Direction::Up, Direction::Down]) {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut members = view.iterate(Cf::Score, key, head.at.version, all.0, all.1, direction)?;
        *end = members.step()?.map(|(subkey, _)| split(subkey)).transpose()?.map(|found| found.0);
    }
    Ok(ends[0].filter(|_| ends[0] == ends[1]))
}

/// Whether a member is before a range of names, within it, or past it, for one who goes in this
/// direction. Redis finds the first member and goes on to the last where scores differ too.
fn side(range: &Range<'_>, member: &[u8], direction: Direction) -> Ordering {
    let Range::Names(low, high) = range else { return Ordering::Equal };
    let above = match low {
        Bound::Included(low) => member >= *low,
        Bound::Excluded(low) => member > *low,
        Bound::Unbounded => true,
    };
    let below = match high {
        Bound::Included(high) => member <= *high,
        Bound::Excluded(high) => member < *high,
        Bound::Unbounded => true,
    };
    match (direction, above, below) {
        (_, true, true) => Ordering::Equal,
        (Direction::Up, false, _) | (Direction::Down, _, false) => Ordering::Less,
        (Direction::Up, true, false) | (Direction::Down, false, true) => Ordering::Greater,
    }
}

/// A score key's subkey: the score, then the member.
pub(super) fn split(subkey: &[u8]) -> Result<(Score, &[u8]), Fail> {
    let (score, member) = subkey.split_at_checked(Score::LEN).unwrap_or((subkey, b""));
    Ok((Score::decode(score)?, member))
}

/// Looks at the members of a range, in order.
pub(super) fn each(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    range: &Range<'_>,
    mut pick: Pick,
    mut look: impl FnMut(Score, &[u8]),
) -> Answer {
    if let Range::Ranks(start, stop) = *range {
        let (skip, take) = window(start, stop, head.at.size);
        (pick.skip, pick.take) = (skip, take);
        // From whichever end is nearer, unless order matters to the caller's look.
        let from_end = head.at.size - skip - take;
        if !pick.reverse && from_end < skip {
            return each_from_end(view, key, head, from_end, take, look);
        }
    }
    let direction = if pick.reverse { Direction::Down } else { Direction::Up };
    let Some(mut members) = cursor(view, key, head, range, direction)? else { return Ok(()) };
    let mut index = 0;
    while index < pick.skip.saturating_add(pick.take)
        && let Some((subkey, _)) = members.step()?
    {
        let (score, member) = split(subkey)?;
        match side(range, member, direction) {
            Ordering::Less => continue,
            Ordering::Equal => {}
            Ordering::Greater => break,
        }
        if index >= pick.skip {
            look(score, member);
        }
        index += 1;
    }
    Ok(())
}

/// The members of ranks near the end, in ascending order.
fn each_from_end(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    skip: u64,
    take: u64,
    mut look: impl FnMut(Score, &[u8]),
) -> Answer {
    let all = Range::Ranks(0, -1);
    let Some(mut members) = cursor(view, key, head, &all, Direction::Down)? else { return Ok(()) };
    let mut found = Vec::new();
    let mut index = 0;
    while index < skip.saturating_add(take)
        && let Some((subkey, _)) = members.step()?
    {
        if index >= skip {
            found.push(subkey.to_vec());
        }
        index += 1;
    }
    for subkey in found.iter().rev() {
        let (score, member) = split(subkey)?;
        look(score, member);
    }
    Ok(())
}
