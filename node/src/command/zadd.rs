//! ZADD and ZINCRBY.

use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Class, Head, Key, View};

const G: &str = "sorted-set";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zadd", -4, W, Keys::ONE, zadd),
    Spec::data(G, "zincrby", 4, W, Keys::ONE, zincrby),
];

/// ZADD's options.
#[derive(Clone, Copy, Default)]
pub(super) struct Options {
    pub(super) if_missing: bool,
    pub(super) if_present: bool,
    if_greater: bool,
    if_less: bool,
    pub(super) count_changed: bool,
    increment: bool,
}

/// A member's score.
pub(super) fn score_of(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    member: &[u8],
) -> Result<Option<Score>, Fail> {
    match view.data(key, head.at.version, member)? {
        Some(bytes) => Ok(Some(Score::decode(&bytes)?)),
        None => Ok(None),
    }
}

/// What happened to one member.
enum Outcome {
    /// The options did not allow it.
    Nothing,
    Added(Score),
    Changed(Score),
    Same(Score),
}

fn put(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &mut Head,
    member: &[u8],
    number: f64,
    options: Options,
) -> Result<Outcome, Fail> {
    let old = match head.at.size {
        0 => None,
        _ => score_of(view, key, head, member)?,
    };
    if old.is_some() && options.if_missing || old.is_none() && options.if_present {
        return Ok(Outcome::Nothing);
    }
    let number = match old {
        Some(old) if options.increment => old.number() + number,
        _ => number,
    };
    let nan = || Fail::text("ERR resulting score is not a number (NaN)");
    let score = Score::new(number).ok_or_else(nan)?;
    if let Some(old) = old {
        if options.if_greater && score <= old || options.if_less && score >= old {
            return Ok(Outcome::Nothing);
        }
        if score == old {
            return Ok(Outcome::Same(score));
        }
        view.delete_score(key, head.at.version, old, member);
    } else {
        head.at.size += 1;
    }
    view.put_data(key, head.at.version, member, score.bytes());
    view.put_score(key, head.at.version, score, member);
    Ok(if old.is_some() { Outcome::Changed(score) } else { Outcome::Added(score) })
}

fn options(args: &Args<'_>) -> Result<(Options, usize), Fail> {
    let mut options = Options::default();
    let mut at = 2;
    while at < args.len() {
        match &args.at(at).to_ascii_lowercase()[..] {
            b"nx" => options.if_missing = true,
            b"xx" => options.if_present = true,
            b"gt" => options.if_greater = true,
            b"lt" => options.if_less = true,
            b"ch" => options.count_changed = true,
            b"incr" => options.increment = true,
            _ => break,
        }
        at += 1;
    }
    let pairs = args.len() - at;
    if pairs == 0 || pairs % 2 == 1 {
        return Err(Fail::Syntax);
    }
    let Options { if_missing, if_present, if_greater, if_less, increment, .. } = options;
    let text = if if_missing && if_present {
        "ERR XX and NX options at the same time are not compatible"
    } else if if_greater && (if_less || if_missing) || if_less && if_missing {
        "ERR GT, LT, and/or NX options at the same time are not compatible"
    } else if increment && pairs > 2 {
        "ERR INCR option supports a single increment-element pair"
    } else {
        return Ok((options, at));
    };
    Err(Fail::text(text))
}

fn zadd(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (options, at) = options(args)?;
    // All scores are read before anything is written.
    for (score, _) in args.pairs(at) {
        float(score).ok_or(Fail::NotFloat)?;
    }
    let pairs = args
        .pairs(at)
        .map(|(score, member)| float(score).map(|number| (number, member)).ok_or(Fail::NotFloat));
    add(view, args.key(1), options, pairs, out)
}

/// Adds members with their scores, as the options say, and answers.
pub(super) fn add<'a>(
    view: &mut View<'_>,
    key: Key<'_>,
    options: Options,
    pairs: impl Iterator<Item = Result<(f64, &'a [u8]), Fail>>,
    out: &mut Writer<'_>,
) -> Answer {
    let mut head = match view.head(key, Type::Zset)? {
        Some(head) => head,
        None if options.if_present => {
            if options.increment {
                out.null()
            } else {
                out.integer(0)
            }
            return Ok(());
        }
        None => view.create(Type::Zset),
    };
    let before = head.at.size;
    let (mut added, mut changed, mut last) = (0, 0, None);
    for pair in pairs {
        let (number, member) = pair?;
        match put(view, key, &mut head, member, number, options)? {
            Outcome::Nothing => {}
            Outcome::Added(score) => (added, last) = (added + 1, Some(score)),
            Outcome::Changed(score) => (changed, last) = (changed + 1, Some(score)),
            Outcome::Same(score) => last = Some(score),
        }
    }
    if head.at.size != before {
        view.put_head(key, &head);
    }
    if added + changed > 0 {
        view.notify(Class::ZSET, if options.increment { "zincr" } else { "zadd" }, key);
    }
    match (options.increment, last) {
        (true, Some(score)) => out.double(score.number()),
        (true, None) => out.null(),
        (false, _) => out.integer(if options.count_changed { added + changed } else { added }),
    }
    Ok(())
}

fn zincrby(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let number = float(args.at(2)).ok_or(Fail::NotFloat)?;
    let (key, member) = (args.key(1), args.at(3));
    let mut head = view.head_or_create(key, Type::Zset)?;
    let before = head.at.size;
    let options = Options { increment: true, ..Options::default() };
    let (score, changed) = match put(view, key, &mut head, member, number, options)? {
        Outcome::Added(score) | Outcome::Changed(score) => (score.number(), true),
        Outcome::Same(score) => (score.number(), false),
        Outcome::Nothing => (number, false),
    };
    if head.at.size != before {
        view.put_head(key, &head);
    }
    if changed {
        view.notify(Class::ZSET, "zincr", key);
    }
    out.double(score);
    Ok(())
}
