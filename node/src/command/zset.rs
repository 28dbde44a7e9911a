//! Sorted sets: a data record with the score for each member, and a score record that orders it.

use std::ops::Bound;

use keyspace::Cf;
use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::page::scan_collection;
use super::zadd::score_of;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Direction, View};

const G: &str = "sorted-set";
const W: Flags = Flags::WRITE.and(Flags::FAST);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::READONLY.and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zrem", -3, W, Keys::ONE, zrem),
    Spec::data(G, "zscore", 3, F, Keys::ONE, zscore),
    Spec::data(G, "zmscore", -3, F, Keys::ONE, zmscore),
    Spec::data(G, "zcard", 2, F, Keys::ONE, zcard),
    Spec::data(G, "zrank", -3, F, Keys::ONE, |v, a, o| rank(v, a, o, Direction::Up)),
    Spec::data(G, "zrevrank", -3, F, Keys::ONE, |v, a, o| rank(v, a, o, Direction::Down)),
    Spec::data(G, "zscan", -3, R, Keys::ONE, zscan),
];

fn zrem(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Zset)? else {
        out.integer(0);
        return Ok(());
    };
    let before = head.at.size;
    for member in args.from(2) {
        if let Some(score) = score_of(view, key, &head, member)? {
            view.delete_data(key, head.at.version, member);
            view.delete_score(key, head.at.version, score, member);
            head.at.size -= 1;
        }
    }
    if head.at.size != before {
        view.put_head(key, &head);
        view.notify_shrunk(Class::ZSET, "zrem", key, head.at.size);
    }
    out.integer((before - head.at.size) as i64);
    Ok(())
}

fn zscore(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let score = match view.head(key, Type::Zset)? {
        Some(head) => score_of(view, key, &head, args.at(2))?,
        None => None,
    };
    match score {
        Some(score) => out.double(score.number()),
        None => out.null(),
    }
    Ok(())
}

fn zmscore(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let head = view.head(key, Type::Zset)?;
    out.array(args.len() - 2);
    for member in args.from(2) {
        let score = match &head {
            Some(head) => score_of(view, key, head, member)?,
            None => None,
        };
        match score {
            Some(score) => out.double(score.number()),
            None => out.null(),
        }
    }
    Ok(())
}

fn zcard(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.integer(view.head(args.key(1), Type::Zset)?.map_or(0, |head| head.at.size as i64));
    Ok(())
}

/// Counts the members before this one: its time grows with the rank.
fn rank(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, from: Direction) -> Answer {
    let with_score = args.len() == 4 && args.is(3, "withscore");
    if args.len() > 4 || args.len() == 4 && !with_score {
        return Err(Fail::Syntax);
    }
    let (key, member) = (args.key(1), args.at(2));
    let head = view.head(key, Type::Zset)?;
    let score = match &head {
        Some(head) => score_of(view, key, head, member)?,
        None => None,
    };
    let Some((head, score)) = head.zip(score) else {
        if with_score {
            out.null_array()
        } else {
            out.null()
        }
        return Ok(());
    };
    let end = [&score.bytes()[..], member].concat();
    let (low, high) = match from {
        Direction::Up => (Bound::Unbounded, Bound::Excluded(&end[..])),
        Direction::Down => (Bound::Excluded(&end[..]), Bound::Unbounded),
    };
    let mut before = view.iterate(Cf::Score, key, head.at.version, low, high, from)?;
    let mut rank = 0;
    while before.step()?.is_some() {
        rank += 1;
    }
    if with_score {
        out.array(2);
    }
    out.integer(rank);
    if with_score {
        out.double(score.number());
    }
    Ok(())
}

fn zscan(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    scan_collection(view, args, out, Type::Zset, 2, |member, score, out| {
        let mut text = resp::reply::Double::new();
        out.bulk(member);
        out.bulk(text.format(Score::decode(score)?.number()));
        Ok(())
    })
}
