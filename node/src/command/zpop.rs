//! Members off an end of a sorted set, and random ones.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use keyspace::score::Score;
use resp::Version;
use resp::reply::Writer;

use super::args::Many;
use super::pick::picks;
use super::zput::{take_out, write_members};
use super::zspan::split;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Direction, Head, Key, View};

const G: &str = "sorted-set";
const W: Flags = Flags::WRITE.and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zpopmin", -2, W, Keys::ONE, |v, a, o| pop(v, a, o, Direction::Up)),
    Spec::data(G, "zpopmax", -2, W, Keys::ONE, |v, a, o| pop(v, a, o, Direction::Down)),
    Spec::data(G, "zmpop", -4, Flags::WRITE.and(Flags::MOVABLE_KEYS), Keys::COUNTED, zmpop),
    Spec::data(G, "zrandmember", -2, Flags::READONLY, Keys::ONE, zrandmember),
];

/// Takes up to `count` members off an end.
pub(super) fn take(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &mut Head,
    count: u64,
    from: Direction,
) -> Result<Vec<(Score, Vec<u8>)>, Fail> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut members = view.iterate(Cf::Score, key, head.at.version, all.0, all.1, from)?;
    let wanted = count.min(head.at.size);
    let mut popped = Vec::new();
    while (popped.len() as u64) < wanted
        && let Some((subkey, _)) = members.step()?
    {
        let (score, member) = split(subkey)?;
        popped.push((score, member.to_vec()));
    }
    take_out(view, key, head, &popped);
    if !popped.is_empty() {
        let event = if from == Direction::Up { "zpopmin" } else { "zpopmax" };
        view.notify_shrunk(Class::ZSET, event, key, head.at.size);
    }
    Ok(popped)
}

fn pop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, from: Direction) -> Answer {
    let count = match args.len() {
        2 => None,
        3 => Some(args.positive(2)?),
        _ => return Err(Fail::Syntax),
    };
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Zset)? else {
        out.array(0);
        return Ok(());
    };
    let popped = take(view, key, &mut head, count.unwrap_or(1), from)?;
    // Without a count RESP3 has one flat pair, with one it has pairs.
    let nested = count.is_some() && out.version() == Version::V3;
    out.array(if nested { popped.len() } else { popped.len() * 2 });
    for (score, member) in &popped {
        if nested {
            out.array(2);
        }
        out.bulk(member);
        out.double(score.number());
    }
    Ok(())
}

fn zmpop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    if !pop_many(view, &Many::read(args)?, out)? {
        out.null_array();
    }
    Ok(())
}

/// Pops from the first sorted set that is there. False: none is, and nothing was answered.
pub(super) fn pop_many(
    view: &mut View<'_>,
    many: &Many<'_>,
    out: &mut Writer<'_>,
) -> Result<bool, Fail> {
    let from = match many.end {
        end if end.eq_ignore_ascii_case(b"min") => Direction::Up,
        end if end.eq_ignore_ascii_case(b"max") => Direction::Down,
        _ => return Err(Fail::Syntax),
    };
    for &name in &many.keys {
        let key = Key::new(name);
        let Some(mut head) = view.head(key, Type::Zset)? else { continue };
        let popped = take(view, key, &mut head, many.count, from)?;
        out.array(2);
        out.bulk(name);
        out.array(popped.len());
        for (score, member) in &popped {
            out.array(2);
            out.bulk(member);
            out.double(score.number());
        }
        return Ok(true);
    }
    Ok(false)
}

fn zrandmember(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let with_scores = args.len() == 4 && args.is(3, "withscores");
    if args.len() > 4 || args.len() == 4 && !with_scores {
        return Err(Fail::Syntax);
    }
    let count = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    let least = if with_scores { -i64::MAX / 2 } else { -i64::MAX };
    if count.is_some_and(|count| count < least) {
        return Err(Fail::text("ERR value is out of range"));
    }
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Zset)? else {
        if count.is_some() {
            out.array(0)
        } else {
            out.null()
        }
        return Ok(());
    };
    let found = picks(view, key, &head, count.unwrap_or(1))?.entries;
    if count.is_none() {
        match found.first() {
            Some((member, _)) => out.bulk(member),
            None => out.null(),
        }
        return Ok(());
    }
    let scored = |(member, score): (Vec<u8>, Vec<u8>)| Ok((Score::decode(&score)?, member));
    let found = found.into_iter().map(scored).collect::<Result<Vec<_>, Fail>>()?;
    write_members(out, &found, with_scores);
    Ok(())
}
