//! When fields of hashes end, as Redis 7.4 has it: HEXPIRE and its kin.
//!
//! A field's record has the time, and the hash's record a time before which no field expires, so
//! that only hashes that have something to delete are looked through. A field that has expired is
//! hidden from every command at once, counted by HLEN until it is deleted, and deleted by the node
//! that may write (`worker/fields.rs`), through the log.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::expire::{Unit, conditions_met};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Head, Key, View};

const G: &str = "hash";
const W: Flags = Flags::WRITE.and(Flags::FAST);
const D: Flags = W.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY.and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "hexpire", -6, D, Keys::ONE, |v, a, o| set(v, a, o, Unit::Seconds, "hexpire")),
    Spec::data(G, "hpexpire", -6, D, Keys::ONE, |v, a, o| {
        set(v, a, o, Unit::Milliseconds, "hpexpire")
    }),
    Spec::data(G, "hexpireat", -6, D, Keys::ONE, |v, a, o| {
        set(v, a, o, Unit::AtSeconds, "hexpireat")
    }),
    Spec::data(G, "hpexpireat", -6, D, Keys::ONE, |v, a, o| {
        set(v, a, o, Unit::AtMilliseconds, "hpexpireat")
    }),
    Spec::data(G, "httl", -5, R, Keys::ONE, |v, a, o| {
        times(v, a, o, |at, now| (at - now + 999) / 1000)
    }),
    Spec::data(G, "hpttl", -5, R, Keys::ONE, |v, a, o| times(v, a, o, |at, now| at - now)),
    Spec::data(G, "hexpiretime", -5, R, Keys::ONE, |v, a, o| {
        times(v, a, o, |at, _| (at + 999) / 1000)
    }),
    Spec::data(G, "hpexpiretime", -5, R, Keys::ONE, |v, a, o| times(v, a, o, |at, _| at)),
    Spec::data(G, "hpersist", -5, W, Keys::ONE, persist),
];

/// The latest time that a field can have, in Unix milliseconds.
const TIME_MS_MAX: i64 = 1 << 46;

/// What is answered for a field.
const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// `FIELDS count field...` from this argument on to the end: the fields.
fn fields<'a>(
    args: &Args<'a>,
    at: usize,
    not_positive: &'static str,
) -> Result<impl Iterator<Item = &'a [u8]> + Clone + 'a, Fail> {
    if !args.is(at, "fields") {
        return Err(Fail::text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = args.get(at + 1).and_then(resp::integer).and_then(|n| usize::try_from(n).ok());
    let count = count.filter(|&n| n > 0).ok_or(Fail::text(not_positive))?;
    if count != args.len() - at - 2 {
        return Err(Fail::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(args.from(at + 2))
}

/// A field that is there: its value and its time.
fn field(
    view: &mut View<'_>,
    key: Key<'_>,
    head: &Head,
    name: &[u8],
) -> Result<Option<(Vec<u8>, u64)>, Fail> {
    let found = view.data(key, head.at.version, name)?;
    Ok(found.map(|value| (value.to_vec(), value.expire_ms)))
}

/// Answers one number for each field.
fn each<'a>(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    fields: impl Iterator<Item = &'a [u8]> + Clone,
    mut answer: impl FnMut(&mut View<'_>, &mut Head, &[u8]) -> Result<i64, Fail>,
) -> Answer {
    let mut head = view.head(args.key(1), Type::Hash)?;
    out.array(fields.clone().count());
    for name in fields {
        out.integer(match &mut head {
            Some(head) => answer(view, head, name)?,
            None => NO_FIELD,
        });
    }
    Ok(())
}

fn deadline(args: &Args<'_>, unit: Unit, now_ms: u64, command: &str) -> Result<u64, Fail> {
    let number = args.integer(2)?;
    if number < 0 {
        return Err(Fail::text("ERR invalid expire time, must be >= 0"));
    }
    let at = unit.resolve(number, now_ms).filter(|&at| at <= TIME_MS_MAX);
    let invalid = || Fail::text(format!("ERR invalid expire time in '{command}' command"));
    at.and_then(|at| u64::try_from(at).ok()).ok_or_else(invalid)
}

fn set(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    unit: Unit,
    command: &str,
) -> Answer {
    let (key, now_ms) = (args.key(1), view.now_ms);
    let at_ms = deadline(args, unit, now_ms, command)?;
    let condition = ["nx", "xx", "gt", "lt"].into_iter().find(|word| args.is(3, word));
    let from = if condition.is_some() { 4 } else { 3 };
    let fields = fields(args, from, "ERR Parameter `numFields` should be greater than 0")?;
    let mut changed = None;
    each(view, args, out, fields, |view, head, name| {
        let Some((value, old_ms)) = field(view, key, head, name)? else { return Ok(NO_FIELD) };
        if !condition.is_none_or(|word| conditions_met(word, old_ms, at_ms)) {
            return Ok(NOT_MET);
        }
        let passed = at_ms <= now_ms;
        if passed {
            view.delete_data(key, head.at.version, name);
            head.at.size -= 1;
        } else {
            view.put_field(key, head.at.version, name, &value, at_ms);
            head.at.fields_expire_ms = match head.at.fields_expire_ms {
                0 => at_ms,
                earliest => earliest.min(at_ms),
            };
        }
        changed = Some(*head);
        Ok(if passed { DELETED } else { DONE })
    })?;
    if let Some(head) = changed {
        view.put_head(key, &head);
        if at_ms > now_ms {
            view.notify(Class::HASH, "hexpire", key);
        } else {
            view.notify_shrunk(Class::HASH, "hdel", key, head.at.size);
        }
    }
    Ok(())
}

const FIELDS_NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

fn times(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    show: fn(i64, i64) -> i64,
) -> Answer {
    let (key, now) = (args.key(1), i64::try_from(view.now_ms).unwrap_or(i64::MAX));
    each(view, args, out, fields(args, 2, FIELDS_NOT_POSITIVE)?, |view, head, name| {
        Ok(match view.data(key, head.at.version, name)? {
            None => NO_FIELD,
            Some(value) if value.expire_ms == 0 => NO_TIME,
            Some(value) => show(i64::try_from(value.expire_ms).unwrap_or(i64::MAX), now),
        })
    })
}

fn persist(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let mut changed = false;
    each(view, args, out, fields(args, 2, FIELDS_NOT_POSITIVE)?, |view, head, name| {
        Ok(match field(view, key, head, name)? {
            None => NO_FIELD,
            Some((_, 0)) => NO_TIME,
            Some((value, _)) => {
                view.put_data(key, head.at.version, name, &value);
                changed = true;
                DONE
            }
        })
    })?;
    if changed {
        view.notify(Class::HASH, "hpersist", key);
    }
    Ok(())
}
