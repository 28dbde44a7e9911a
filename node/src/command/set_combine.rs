//! Sets out of several: unions, intersections, differences.

use std::collections::BTreeSet;

use keyspace::meta::Type;
use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Entries, Key, View};

const G: &str = "set";
const D: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "sinter", -2, R, Keys::ALL, |v, a, o| show(v, a, o, Operation::Inter)),
    Spec::data(G, "sunion", -2, R, Keys::ALL, |v, a, o| show(v, a, o, Operation::Union)),
    Spec::data(G, "sdiff", -2, R, Keys::ALL, |v, a, o| show(v, a, o, Operation::Diff)),
    Spec::data(G, "sinterstore", -3, D, Keys::ALL, |v, a, o| keep(v, a, o, Operation::Inter)),
    Spec::data(G, "sunionstore", -3, D, Keys::ALL, |v, a, o| keep(v, a, o, Operation::Union)),
    Spec::data(G, "sdiffstore", -3, D, Keys::ALL, |v, a, o| keep(v, a, o, Operation::Diff)),
    Spec::data(G, "sintercard", -3, R.and(Flags::MOVABLE_KEYS), Keys::COUNTED, sintercard),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

type Members = BTreeSet<Vec<u8>>;

fn each_member(entries: &mut Entries<'_>, mut look: impl FnMut(&[u8])) -> Answer {
    while let Some((member, _)) = entries.step()? {
        look(member);
    }
    Ok(())
}

/// The members that come out of several sets. It holds the result and no more; all sets are read
/// in their keys' order, which is sorted.
fn combine(view: &mut View<'_>, keys: &[Key<'_>], operation: Operation) -> Result<Members, Fail> {
    let mut heads = Vec::with_capacity(keys.len());
    for key in keys {
        // The types of all are checked, whatever the result will be.
        heads.push(view.head(*key, Type::Set)?);
    }
    let mut result = Members::new();
    let sets: Vec<_> = keys.iter().zip(heads).collect();
    match operation {
        Operation::Union => {
            for (key, head) in sets {
                let Some(head) = head else { continue };
                let mut entries = view.entries(*key, head.at.version)?;
                each_member(&mut entries, |m| {
                    result.insert(m.to_vec());
                })?;
            }
        }
        Operation::Diff => {
            let Some(((first, Some(head)), others)) = sets.split_first() else {
                return Ok(result);
            };
            let mut entries = view.entries(**first, head.at.version)?;
            each_member(&mut entries, |m| {
                result.insert(m.to_vec());
            })?;
            for (key, head) in others {
                let Some(head) = head else { continue };
                let mut entries = view.entries(**key, head.at.version)?;
                each_member(&mut entries, |m| {
                    result.remove(m);
                })?;
            }
        }
        Operation::Inter => {
            let sets = sets.into_iter().map(|(key, head)| head.map(|head| (*key, head)));
            let Some(mut sets) = sets.collect::<Option<Vec<_>>>() else { return Ok(result) };
            sets.sort_by_key(|(_, head)| head.at.size);
            let Some(((key, head), others)) = sets.split_first() else { return Ok(result) };
            let mut entries = view.entries(*key, head.at.version)?;
            each_member(&mut entries, |m| {
                result.insert(m.to_vec());
            })?;
            for (key, head) in others {
                let mut missing = Vec::new();
                for member in &result {
                    if !view.has(*key, head.at.version, member)? {
                        missing.push(member.clone());
                    }
                }
                missing.iter().for_each(|member| {
                    result.remove(member);
                });
            }
        }
    }
    Ok(result)
}

fn show(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    operation: Operation,
) -> Answer {
    let keys: Vec<_> = args.from(1).map(Key::new).collect();
    let result = combine(view, &keys, operation)?;
    out.set(result.len());
    result.iter().for_each(|member| out.bulk(member));
    Ok(())
}

fn keep(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    operation: Operation,
) -> Answer {
    let target = args.key(1);
    let keys: Vec<_> = args.from(2).map(Key::new).collect();
    let result = combine(view, &keys, operation)?;
    let replaced = view.is_replaced(target)?;
    let mut head = view.create(Type::Set);
    for member in &result {
        view.put_data(target, head.at.version, member, b"");
    }
    head.at.size = result.len() as u64;
    // An empty result deletes the target.
    view.put_head(target, &head);
    let event = match operation {
        Operation::Inter => "sinterstore",
        Operation::Union => "sunionstore",
        Operation::Diff => "sdiffstore",
    };
    view.notify_replaced(Class::SET, event, target, (result.len(), replaced));
    out.integer(result.len() as i64);
    Ok(())
}

fn sintercard(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let positive = || Fail::text("ERR numkeys should be greater than 0");
    let count = args.integer(1).map_err(|_| positive())?;
    let count = usize::try_from(count).ok().filter(|&n| n > 0).ok_or(positive())?;
    if count > args.len() - 2 {
        return Err(Fail::text("ERR Number of keys can't be greater than number of args"));
    }
    let limit = match args.len() - 2 - count {
        0 => 0,
        2 if args.is(2 + count, "limit") => {
            let negative = || Fail::text("ERR LIMIT can't be negative");
            let limit = args.integer(3 + count).map_err(|_| negative())?;
            usize::try_from(limit).map_err(|_| negative())?
        }
        _ => return Err(Fail::Syntax),
    };
    let keys: Vec<_> = args.from(2).take(count).map(Key::new).collect();
    let found = combine(view, &keys, Operation::Inter)?.len();
    out.integer(if limit == 0 { found } else { found.min(limit) } as i64);
    Ok(())
}
