//! Commands on ranges of sorted sets: by rank, by score, by name.

use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::zput::{store, take_out, write_members};
use super::zspan::{By, Pick, Range, each, range};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Key, View};

const G: &str = "sorted-set";
const R: Flags = Flags::READONLY;
const W: Flags = Flags::WRITE;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zrange", -4, R, Keys::ONE, zrange),
    Spec::data(G, "zrevrange", -4, R, Keys::ONE, zrevrange),
    Spec::data(G, "zrangestore", -5, W.and(Flags::DENYOOM), Keys::TWO, zrangestore),
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

/// The options of the range commands.
#[derive(Default)]
struct Options {
    by: Option<By>,
    reverse: bool,
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

/// The options from the fourth argument on; not all commands have all.
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

/// What ZRANGE's arguments mean, the key first among them.
fn wanted<'a>(args: &Args<'a>) -> Result<(Range<'a>, Pick, bool), Fail> {
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
    Ok((range, Pick::limited(reverse, offset, count), with_scores))
}

fn zrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (range, pick, with_scores) = wanted(args)?;
    answer(view, args.key(1), out, &range, pick, with_scores)
}

fn zrangestore(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (range, pick, with_scores) = wanted(&args.rest(1))?;
    if with_scores {
        return Err(Fail::Syntax);
    }
    let (target, source) = (args.key(1), args.key(2));
    let mut found: Vec<(Score, Vec<u8>)> = Vec::new();
    if let Some(head) = view.head(source, Type::Zset)? {
        let look = |score, member: &[u8]| found.push((score, member.to_vec()));
        each(view, source, &head, &range, pick, look)?;
    }
    store(view, target, &found, "zrangestore")?;
    out.integer(found.len() as i64);
    Ok(())
}

fn zrevrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let with_scores = args.len() == 5 && args.is(4, "withscores");
    if args.len() > 4 && !with_scores {
        return Err(Fail::Syntax);
    }
    let range = range(By::Rank, args.at(2), args.at(3))?;
    answer(view, args.key(1), out, &range, Pick::limited(true, 0, -1), with_scores)
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
    if !found.is_empty() {
        let event = match by {
            By::Rank => "zremrangebyrank",
            By::Score => "zremrangebyscore",
            By::Lex => "zremrangebylex",
        };
        view.notify_shrunk(Class::ZSET, event, key, head.at.size);
    }
    out.integer(found.len() as i64);
    Ok(())
}
