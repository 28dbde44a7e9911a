//! Ranges of sorted sets: by rank, by score, by name.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use keyspace::score::Score;
use resp::Version;
use resp::reply::Writer;

use super::args::window;
use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Direction, Entries, Head, Key, View};

const G: &str = "sorted-set";
const R: Flags = Flags::READONLY;
const W: Flags = Flags::WRITE;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zrange", -4, R, Keys::ONE, zrange),
    Spec::data(G, "zrevrange", -4, R, Keys::ONE, zrevrange),
    Spec::data(G, "zrangebyscore", -4, R, Keys::ONE, |v, a, o| legacy(v, a, o, By::Score, false)),
    Spec::data(G, "zrevrangebyscore", -4, R, Keys::ONE, |v, a, o| legacy(v, a, o, By::Score, true)),
    Spec::data(G, "zrangebylex", -4, R, Keys::ONE, |v, a, o| legacy(v, a, o, By::Lex, false)),
    Spec::data(G, "zrevrangebylex", -4, R, Keys::ONE, |v, a, o| legacy(v, a, o, By::Lex, true)),
    Spec::data(G, "zcount", 4, R.and(Flags::FAST), Keys::ONE, |v, a, o| count(v, a, o, By::Score)),
    Spec::data(G, "zlexcount", 4, R.and(Flags::FAST), Keys::ONE, |v, a, o| count(v, a, o, By::Lex)),
    Spec::data(G, "zremrangebyrank", 4, W, Keys::ONE, |v, a, o| remove(v, a, o, By::Rank)),
    Spec::data(G, "zremrangebyscore", 4, W, Keys::ONE, |v, a, o| remove(v, a, o, By::Score)),
    Spec::data(G, "zremrangebylex", 4, W, Keys::ONE, |v, a, o| remove(v, a, o, By::Lex)),
];

/// What the two ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range, its ends in the order of the set.
enum Range<'a> {
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

fn range<'a>(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Range<'a>, Fail> {
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
struct Pick {
    reverse: bool,
    skip: u64,
    take: u64,
}

impl Pick {
    const ALL: Self = Self { reverse: false, skip: 0, take: u64::MAX };

    /// LIMIT's offset and count: a negative offset is nothing, a negative count is all.
    fn limited(reverse: bool, offset: i64, count: i64) -> Self {
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
        Range::Names(low, high) => {
            return names(view, key, head, *low, *high, direction).map(Some);
        }
        Range::Nothing => return Ok(None),
    };
    let (low, high) = (low.as_ref().map(|b| &b[..]), high.as_ref().map(|b| &b[..]));
    view.iterate(Cf::Score, key, head.at.version, low, high, direction).map(Some)
}

/// Where names are looked for: behind the score of the first member.
fn names<'v>(
    view: &mut View<'v>,
    key: Key<'_>,
    head: &Head,
    low: Bound<&[u8]>,
    high: Bound<&[u8]>,
    direction: Direction,
) -> Result<Entries<'v>, Fail> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut first = view.iterate(Cf::Score, key, head.at.version, all.0, all.1, Direction::Up)?;
    let score = match first.step()? {
        Some((subkey, _)) => split(subkey)?.0.bytes().to_vec(),
        None => Vec::new(),
    };
    let with = |bound: Bound<&[u8]>| bound.map(|name| [&score[..], name].concat());
    let (low, high) = (with(low), with(high));
    let (low, high) = (low.as_ref().map(|b| &b[..]), high.as_ref().map(|b| &b[..]));
    view.iterate(Cf::Score, key, head.at.version, low, high, direction)
}

/// A score key's subkey: the score, then the member.
pub(super) fn split(subkey: &[u8]) -> Result<(Score, &[u8]), Fail> {
    let (score, member) = subkey.split_at_checked(Score::LEN).unwrap_or((subkey, b""));
    Ok((Score::decode(score)?, member))
}

/// Looks at the members of a range, in order.
fn each(
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
        if index >= pick.skip {
            let (score, member) = split(subkey)?;
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

fn answer(
    view: &mut View<'_>,
    key: Key<'_>,
    out: &mut Writer<'_>,
    range: &Range<'_>,
    pick: Pick,
    with_scores: bool,
) -> Answer {
    let Some(head) = view.head(key, Type::Zset)? else {
        out.array(0);
        return Ok(());
    };
    let mut found = Vec::new();
    each(view, key, &head, range, pick, |score, member| found.push((score, member.to_vec())))?;
    write_members(out, &found, with_scores);
    Ok(())
}

/// Members, perhaps with scores: pairs in RESP3, one after the other in RESP2.
pub(super) fn write_members(out: &mut Writer<'_>, found: &[(Score, Vec<u8>)], with_scores: bool) {
    let nested = with_scores && out.version() == Version::V3;
    out.array(if with_scores && !nested { found.len() * 2 } else { found.len() });
    for (score, member) in found {
        if nested {
            out.array(2);
        }
        out.bulk(member);
        if with_scores {
            out.double(score.number());
        }
    }
}

/// The options of the range commands.
#[derive(Default)]
struct Options {
    by: Option<By>,
    reverse: bool,
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

fn options(args: &Args<'_>, all: bool) -> Result<Options, Fail> {
    let mut options = Options::default();
    let mut at = 4;
    while at < args.len() {
        if args.is(at, "withscores") {
            options.with_scores = true;
        } else if args.is(at, "limit") && at + 2 < args.len() {
            options.limit = Some((args.integer(at + 1)?, args.integer(at + 2)?));
            at += 2;
        } else if all && args.is(at, "byscore") && options.by.is_none() {
            options.by = Some(By::Score);
        } else if all && args.is(at, "bylex") && options.by.is_none() {
            options.by = Some(By::Lex);
        } else if all && args.is(at, "rev") {
            options.reverse = true;
        } else {
            return Err(Fail::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

fn zrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let Options { by, reverse, limit, with_scores } = options(args, true)?;
    let by = by.unwrap_or(By::Rank);
    if limit.is_some() && by == By::Rank {
        return Err(Fail::text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Lex {
        return Err(Fail::text(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    // With REV the first end is the higher one, but ranks are counted from that side anyway.
    let (low, high) = match reverse && by != By::Rank {
        true => (args.at(3), args.at(2)),
        false => (args.at(2), args.at(3)),
    };
    let range = range(by, low, high)?;
    let (offset, count) = limit.unwrap_or((0, -1));
    answer(view, args.key(1), out, &range, Pick::limited(reverse, offset, count), with_scores)
}

fn zrevrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let with_scores = args.len() == 5 && args.is(4, "withscores");
    if args.len() > 4 && !with_scores {
        return Err(Fail::Syntax);
    }
    let range = range(By::Rank, args.at(2), args.at(3))?;
    answer(view, args.key(1), out, &range, Pick { reverse: true, ..Pick::ALL }, with_scores)
}

fn legacy(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    by: By,
    reverse: bool,
) -> Answer {
    let (low, high) = match reverse {
        true => (args.at(3), args.at(2)),
        false => (args.at(2), args.at(3)),
    };
    let Options { limit, with_scores, .. } = options(args, false)?;
    let range = range(by, low, high)?;
    if with_scores && by == By::Lex {
        return Err(Fail::Syntax);
    }
    let (offset, count) = limit.unwrap_or((0, -1));
    answer(view, args.key(1), out, &range, Pick::limited(reverse, offset, count), with_scores)
}

fn count(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, by: By) -> Answer {
    let range = range(by, args.at(2), args.at(3))?;
    let key = args.key(1);
    let mut found = 0;
    if let Some(head) = view.head(key, Type::Zset)? {
        each(view, key, &head, &range, Pick::ALL, |_, _| found += 1)?;
    }
    out.integer(found);
    Ok(())
}

fn remove(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, by: By) -> Answer {
    let range = range(by, args.at(2), args.at(3))?;
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Zset)? else {
        out.integer(0);
        return Ok(());
    };
    let mut found = Vec::new();
    each(view, key, &head, &range, Pick::ALL, |score, member| {
        found.push((score, member.to_vec()))
    })?;
    take_out(view, key, &mut head, &found);
    out.integer(found.len() as i64);
    Ok(())
}

/// Removes members that are there, and stores the head.
pub(super) fn take_out(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &mut Head,
    members: &[(Score, Vec<u8>)],
) {
    for (score, member) in members {
        view.delete_data(key, head.at.version, member);
        view.delete_score(key, head.at.version, *score, member);
        head.at.size = head.at.size.saturating_sub(1);
    }
    if !members.is_empty() {
        view.put_head(key, head);
    }
}
