//! Sorted sets out of several: unions, intersections, differences. A plain set counts as a sorted
//! set whose scores are all 1.

use std::collections::BTreeMap;

use keyspace::meta::Type;
use keyspace::score::Score;
use resp::reply::Writer;

use super::zput::{store, write_members};
use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Head, Key, View};

const G: &str = "sorted-set";
const R: Flags = Flags::READONLY.and(Flags::MOVABLE_KEYS);
const W: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::MOVABLE_KEYS);
const FROM: Keys = Keys::COUNTED;
const TO: Keys = Keys::TO_COUNTED;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "zunion", -3, R, FROM, |v, a, o| show(v, a, o, Operation::Union, "zunion")),
    Spec::data(G, "zinter", -3, R, FROM, |v, a, o| show(v, a, o, Operation::Inter, "zinter")),
    Spec::data(G, "zdiff", -3, R, FROM, |v, a, o| show(v, a, o, Operation::Diff, "zdiff")),
    Spec::data(G, "zintercard", -3, R, FROM, zintercard),
    Spec::data(G, "zunionstore", -4, W, TO, |v, a, o| {
        keep(v, a, o, Operation::Union, "zunionstore")
    }),
    Spec::data(G, "zinterstore", -4, W, TO, |v, a, o| {
        keep(v, a, o, Operation::Inter, "zinterstore")
    }),
    Spec::data(G, "zdiffstore", -4, W, TO, |v, a, o| keep(v, a, o, Operation::Diff, "zdiffstore")),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

/// How the scores of one member in several sets become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => number(a + b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

/// Infinities that cancel out are zero, as Redis has it.
fn number(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// What is to be combined, and how.
struct Job<'a> {
    operation: Operation,
    keys: Vec<Key<'a>>,
    /// One for each key.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// The most members that are counted; 0: all.
    limit: u64,
}

/// Which options a command has beside those of its operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Show,
    Keep,
    Count,
}

fn job<'a>(args: &Args<'a>, operation: Operation, form: Form, name: &str) -> Result<Job<'a>, Fail> {
    let Ok(count @ 1..) = usize::try_from(args.integer(1)?) else {
        return Err(Fail::text(format!("ERR at least 1 input key is needed for '{name}' command")));
    };
    if count > args.len() - 2 {
        return Err(Fail::Syntax);
    }
    let mut job = Job {
        operation,
        keys: args.from(2).take(count).map(Key::new).collect(),
        weights: vec![1.0; count],
        aggregate: Aggregate::Sum,
        with_scores: false,
        limit: 0,
    };
    let merges = operation != Operation::Diff && form != Form::Count;
    let mut at = 2 + count;
    while at < args.len() {
        let left = args.len() - at - 1;
        if merges && left >= count && args.is(at, "weights") {
            for (weight, text) in job.weights.iter_mut().zip(args.from(at + 1)) {
                *weight = float(text).ok_or(Fail::text("ERR weight value is not a float"))?;
            }
            at += count;
        } else if merges && left >= 1 && args.is(at, "aggregate") {
            at += 1;
            job.aggregate = match () {
                () if args.is(at, "sum") => Aggregate::Sum,
                () if args.is(at, "min") => Aggregate::Min,
                () if args.is(at, "max") => Aggregate::Max,
                () => return Err(Fail::Syntax),
            };
        } else if form == Form::Show && args.is(at, "withscores") {
            job.with_scores = true;
        } else if form == Form::Count && left >= 1 && args.is(at, "limit") {
            at += 1;
            let bad = || Fail::text("ERR LIMIT can't be negative");
            let limit = args.integer(at).map_err(|_| bad())?;
            job.limit = u64::try_from(limit).map_err(|_| bad())?;
        } else {
            return Err(Fail::Syntax);
        }
        at += 1;
    }
    Ok(job)
}

/// A set or a sorted set.
fn head(view: &mut View<'_>, key: Key<'_>) -> Result<Option<Head>, Fail> {
    let Some(entry) = view.entry(key)? else { return Ok(None) };
    match entry.at {
        Some(at) if matches!(at.kind, Type::Set | Type::Zset) => {
            Ok(Some(Head { at, expire_ms: entry.expire_ms }))
        }
        _ => Err(Fail::WrongType),
    }
}

fn score_in(head: &Head, value: &[u8]) -> Result<f64, Fail> {
    Ok(if head.at.kind == Type::Set { 1.0 } else { Score::decode(value)?.number() })
}

fn each(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    mut look: impl FnMut(&[u8], f64),
) -> Answer {
    let mut entries = view.entries(key, head.at.version)?;
    while let Some((member, value)) = entries.step()? {
        look(member, score_in(head, value)?);
    }
    Ok(())
}

/// The score of a member, if it is there.
fn score(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    member: &[u8],
) -> Result<Option<f64>, Fail> {
    let Some(value) = view.data(key, head.at.version, member)? else { return Ok(None) };
    score_in(head, &value).map(Some)
}

/// The result, by score and then by name.
fn combine(view: &mut View<'_>, job: &Job<'_>) -> Result<Vec<(Score, Vec<u8>)>, Fail> {
    let mut sets = Vec::with_capacity(job.keys.len());
    for (key, weight) in job.keys.iter().zip(&job.weights) {
        // The types of all are checked, whatever the result will be.
        sets.push((*key, head(view, *key)?, *weight));
    }
    let mut found: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
    match job.operation {
        Operation::Union => {
            for (key, head, weight) in sets {
                let Some(head) = head else { continue };
                each(view, key, &head, |member, score| {
                    let score = number(score * weight);
                    let merge = |old: &mut f64| *old = job.aggregate.of(*old, score);
                    found.entry(member.to_vec()).and_modify(merge).or_insert(score);
                })?;
            }
        }
        Operation::Inter => {
            let sets = sets.into_iter().map(|(k, head, w)| head.map(|head| (k, head, w)));
            let Some(mut sets) = sets.collect::<Option<Vec<_>>>() else { return Ok(Vec::new()) };
            sets.sort_by_key(|(_, head, _)| head.at.size);
            let Some(((key, first, weight), others)) = sets.split_first() else {
                return Ok(Vec::new());
            };
            each(view, *key, first, |member, score| {
                found.insert(member.to_vec(), number(score * weight));
            })?;
            for (key, head, weight) in others {
                let mut missing = Vec::new();
                for (member, sum) in &mut found {
                    match score(view, *key, head, member)? {
                        Some(score) => *sum = job.aggregate.of(*sum, number(score * weight)),
                        None => missing.push(member.clone()),
                    }
                }
                missing.iter().for_each(|member| {
                    found.remove(member);
                });
            }
        }
        Operation::Diff => {
            let Some(((key, Some(first), _), others)) = sets.split_first() else {
                return Ok(Vec::new());
            };
            each(view, *key, first, |member, score| {
                found.insert(member.to_vec(), score);
            })?;
            for (key, head, _) in others {
                let Some(head) = head else { continue };
                each(view, *key, head, |member, _| {
                    found.remove(member);
                })?;
            }
        }
    }
    let scored = |(member, number)| Score::new(number).map(|score| (score, member));
    let mut found: Vec<_> = found.into_iter().filter_map(scored).collect();
    found.sort_unstable();
    Ok(found)
}

fn show(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    operation: Operation,
    name: &str,
) -> Answer {
    let job = job(args, operation, Form::Show, name)?;
    let found = combine(view, &job)?;
    write_members(out, &found, job.with_scores);
    Ok(())
}

fn keep(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    operation: Operation,
    name: &'static str,
) -> Answer {
    let job = job(&args.rest(1), operation, Form::Keep, name)?;
    let found = combine(view, &job)?;
    store(view, args.key(1), &found, name)?;
    out.integer(found.len() as i64);
    Ok(())
}

fn zintercard(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let job = job(args, Operation::Inter, Form::Count, "zintercard")?;
    let found = combine(view, &job)?.len() as u64;
    out.integer(if job.limit == 0 { found } else { found.min(job.limit) } as i64);
    Ok(())
}
