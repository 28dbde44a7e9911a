//! Hashes: a data record for each field.

use std::ops::Range;

use keyspace::Hlc;
use keyspace::meta::Type;
use resp::Version;
use resp::reply::Writer;

use super::counter::{add_floats, overflow};
use super::page::scan_collection;
use super::pick::{Picks, live, picks};
use super::{Answer, Args, Fail, Flags, Keys, Spec, float};
use crate::worker::{Class, Entries, Head, Key, View};

const G: &str = "hash";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::READONLY.and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "hset", -4, W, Keys::ONE, hset),
    Spec::data(G, "hmset", -4, W, Keys::ONE, hmset),
    Spec::data(G, "hsetnx", 4, W, Keys::ONE, hsetnx),
    Spec::data(G, "hget", 3, F, Keys::ONE, hget),
    Spec::data(G, "hmget", -3, F, Keys::ONE, hmget),
    Spec::data(G, "hdel", -3, Flags::WRITE.and(Flags::FAST), Keys::ONE, hdel),
    Spec::data(G, "hlen", 2, F, Keys::ONE, hlen),
    Spec::data(G, "hexists", 3, F, Keys::ONE, hexists),
    Spec::data(G, "hstrlen", 3, F, Keys::ONE, hstrlen),
    Spec::data(G, "hgetall", 2, R, Keys::ONE, |v, a, o| all(v, a, o, Show::Both)),
    Spec::data(G, "hkeys", 2, R, Keys::ONE, |v, a, o| all(v, a, o, Show::Fields)),
    Spec::data(G, "hvals", 2, R, Keys::ONE, |v, a, o| all(v, a, o, Show::Values)),
    Spec::data(G, "hincrby", 4, W, Keys::ONE, hincrby),
    Spec::data(G, "hincrbyfloat", 4, W, Keys::ONE, hincrbyfloat),
    Spec::data(G, "hscan", -3, R, Keys::ONE, hscan),
    Spec::data(G, "hrandfield", -2, R, Keys::ONE, hrandfield),
];

/// Hashes of at most so many fields are shown in the order in which those were last written: about
/// what Redis shows of small ones, up to its default of `hash-max-listpack-entries`.
const IN_ORDER_MAX: u64 = 128;
/// The most bytes of fields and values that are put in that order.
const IN_ORDER_BYTES_MAX: usize = 256 << 10;

/// Sets all pairs; how many fields are new.
fn set_pairs(view: &mut View<'_>, args: &Args<'_>, name: &str) -> Result<i64, Fail> {
    if args.len() % 2 == 1 {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(Fail::text(text));
    }
    let key = args.key(1);
    let mut head = view.head_or_create(key, Type::Hash)?;
    let (fresh, before, mut new) = (head.at.size == 0, head.at.size, 0);
    for (field, value) in args.pairs(2) {
        // In a new hash only the command itself can have set a field.
        let found = match fresh && args.len() == 4 {
            true => Found::Nothing,
            false => find(view, key, &head, field)?,
        };
        new += i64::from(found != Found::Live);
        head.at.size += u64::from(found == Found::Nothing);
        // Each new field has a stamp of its own where they are shown in that order.
        if args.len() > 4 && found == Found::Nothing && head.at.size <= IN_ORDER_MAX {
            view.restamp();
        }
        view.put_data(key, head.at.version, field, value);
    }
    if head.at.size != before {
        view.put_head(key, &head);
    }
    view.notify(Class::HASH, "hset", key);
    Ok(new)
}

/// What there is of a field. One that has expired counts for its hash until it is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Expired,
    Live,
}

fn find(view: &mut View<'_>, key: Key<'_>, head: &Head, field: &[u8]) -> Result<Found, Fail> {
    let now_ms = view.now_ms;
    Ok(match view.stored(key, head.at.version, field)? {
        None => Found::Nothing,
        Some(text) if text.is_live(now_ms) => Found::Live,
        Some(_) => Found::Expired,
    })
}

fn hset(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.integer(set_pairs(view, args, "hset")?);
    Ok(())
}

fn hmset(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    set_pairs(view, args, "hmset")?;
    out.simple("OK");
    Ok(())
}

fn hsetnx(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (key, field) = (args.key(1), args.at(2));
    let mut head = view.head_or_create(key, Type::Hash)?;
    let found = find(view, key, &head, field)?;
    let missing = found != Found::Live;
    if missing {
        head.at.size += u64::from(found == Found::Nothing);
        view.put_data(key, head.at.version, field, args.at(3));
        view.put_head(key, &head);
        view.notify(Class::HASH, "hset", key);
    }
    out.integer(i64::from(missing));
    Ok(())
}

fn hget(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Hash)? else {
        out.null();
        return Ok(());
    };
    match view.data(key, head.at.version, args.at(2))? {
        Some(value) => out.bulk(&value),
        None => out.null(),
    }
    Ok(())
}

fn hmget(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let head = view.head(key, Type::Hash)?;
    out.array(args.len() - 2);
    for field in args.from(2) {
        let value = match &head {
            Some(head) => view.data(key, head.at.version, field)?,
            None => None,
        };
        match value {
            Some(value) => out.bulk(&value),
            None => out.null(),
        }
    }
    Ok(())
}

fn hdel(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Hash)? else {
        out.integer(0);
        return Ok(());
    };
    let (before, mut deleted) = (head.at.size, 0);
    for field in args.from(2) {
        let found = find(view, key, &head, field)?;
        if found != Found::Nothing {
            view.delete_data(key, head.at.version, field);
            head.at.size -= 1;
        }
        deleted += i64::from(found == Found::Live);
    }
    if head.at.size != before {
        view.put_head(key, &head);
        view.notify_shrunk(Class::HASH, "hdel", key, head.at.size);
    }
    out.integer(deleted);
    Ok(())
}

fn hlen(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.integer(view.head(args.key(1), Type::Hash)?.map_or(0, |head| head.at.size as i64));
    Ok(())
}

/// The length of a field's value; `None` if it is not there.
fn length(view: &mut View<'_>, args: &Args<'_>) -> Result<Option<usize>, Fail> {
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Hash)? else { return Ok(None) };
    Ok(view.data(key, head.at.version, args.at(2))?.map(|value| value.len()))
}

fn hexists(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let found = length(view, args)?.is_some();
    out.integer(i64::from(found));
    Ok(())
}

fn hstrlen(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let length = length(view, args)?.unwrap_or(0);
    out.integer(length as i64);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Fields,
    Values,
    Both,
}

impl Show {
    fn one(self, (field, value): (&[u8], &[u8]), out: &mut Writer<'_>) {
        if self != Self::Values {
            out.bulk(field);
        }
        if self != Self::Fields {
            out.bulk(value);
        }
    }
}

fn all(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>, show: Show) -> Answer {
    let key = args.key(1);
    let head = view.head(key, Type::Hash)?;
    let size = match &head {
        Some(head) => live(view, key, head)? as usize,
        None => 0,
    };
    match show {
        Show::Both => out.map(size),
        Show::Fields | Show::Values => out.array(size),
    }
    let Some(head) = head else { return Ok(()) };
    let mut entries = view.entries(key, head.at.version)?;
    if head.at.size <= IN_ORDER_MAX {
        let seen = in_order(&mut entries, |entry| show.one(entry, out))?;
        return super::page::check_size(size, seen);
    }
    let mut seen = 0;
    while let Some(entry) = entries.step()? {
        seen += 1;
        show.one(entry, out);
    }
    super::page::check_size(size, seen)
}

/// Shows the fields of a hash of few in the order in which they were last written, as far as their
/// stamps tell, unless they are long; how many there are. Fields that one command wrote again share
/// its stamp with the last new one before them.
fn in_order(
    entries: &mut Entries<'_>,
    mut show: impl FnMut((&[u8], &[u8])),
) -> Result<usize, Fail> {
    const ROOM: usize = 1 << 10;
    let (mut bytes, mut found) = (Vec::with_capacity(ROOM), Vec::<Shown>::new());
    while bytes.len() <= IN_ORDER_BYTES_MAX {
        let Some((field, value)) = entries.step_field()? else {
            // Those of one stamp stay in the order of their bytes.
            found.sort_by_key(|(stamp, ..)| *stamp);
            show_all(&bytes, &found, &mut show);
            return Ok(found.len());
        };
        let start = bytes.len();
        bytes.extend_from_slice(field);
        let middle = bytes.len();
        bytes.extend_from_slice(value.bytes);
        found.push((value.stamp, start..middle, middle..bytes.len()));
    }
    // What is long is not kept twice: it comes as the fields of larger hashes do.
    show_all(&bytes, &found, &mut show);
    let mut seen = found.len();
    while let Some(entry) = entries.step()? {
        seen += 1;
        show(entry);
    }
    Ok(seen)
}

/// A field: when it was written, and where it and its value are in the bytes that were kept.
type Shown = (Hlc, Range<usize>, Range<usize>);

fn show_all(bytes: &[u8], found: &[Shown], show: &mut impl FnMut((&[u8], &[u8]))) {
    for (_, field, value) in found {
        show((&bytes[field.clone()], &bytes[value.clone()]));
    }
}

fn hincrby(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (key, field, by) = (args.key(1), args.at(2), args.integer(3)?);
    let mut head = view.head_or_create(key, Type::Hash)?;
    let now_ms = view.now_ms;
    let stored = view.stored(key, head.at.version, field)?;
    let is_new = stored.is_none();
    let (old, expire_ms) = match stored.filter(|value| value.is_live(now_ms)) {
        Some(value) => {
            let bad = || Fail::text("ERR hash value is not an integer");
            (resp::integer(&value).ok_or_else(bad)?, value.expire_ms)
        }
        None => (0, 0),
    };
    let new = old.checked_add(by).ok_or(overflow())?;
    let mut text = itoa::Buffer::new();
    view.put_field(key, head.at.version, field, text.format(new).as_bytes(), expire_ms);
    if is_new {
        head.at.size += 1;
        view.put_head(key, &head);
    }
    view.notify(Class::HASH, "hincrby", key);
    out.integer(new);
    Ok(())
}

fn hincrbyfloat(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (key, field) = (args.key(1), args.at(2));
    if !float(args.at(3)).ok_or(Fail::NotFloat)?.is_finite() {
        return Err(Fail::text("ERR value is NaN or Infinity"));
    }
    let mut head = view.head_or_create(key, Type::Hash)?;
    let bad = Fail::text("ERR hash value is not a float");
    let now_ms = view.now_ms;
    let stored = view.stored(key, head.at.version, field)?;
    let is_new = stored.is_none();
    let (sum, expire_ms) = match stored.filter(|value| value.is_live(now_ms)) {
        Some(value) => (add_floats(&value, args.at(3), bad)?, value.expire_ms),
        None => (add_floats(b"0", args.at(3), bad)?, 0),
    };
    view.put_field(key, head.at.version, field, sum.as_bytes(), expire_ms);
    if is_new {
        head.at.size += 1;
        view.put_head(key, &head);
    }
    view.notify(Class::HASH, "hincrbyfloat", key);
    out.bulk(sum.as_bytes());
    Ok(())
}

fn hscan(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    scan_collection(view, args, out, Type::Hash, 2, |field, value, out| {
        out.bulk(field);
        out.bulk(value);
        Ok(())
    })
}

fn hrandfield(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let with_values = args.len() == 4 && args.is(3, "withvalues");
    if args.len() > 4 || args.len() == 4 && !with_values {
        return Err(Fail::Syntax);
    }
    let count = if args.len() > 2 { Some(args.integer(2)?) } else { None };
    if with_values && count.is_some_and(|n| !(i64::MIN / 2..=i64::MAX / 2).contains(&n)) {
        return Err(Fail::text("ERR value is out of range"));
    }
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Hash)? else {
        if count.is_some() {
            out.array(0)
        } else {
            out.null()
        }
        return Ok(());
    };
    let Picks { entries } = picks(view, key, &head, count.unwrap_or(1))?;
    if count.is_none() {
        match entries.first() {
            Some((field, _)) => out.bulk(field),
            None => out.null(),
        }
        return Ok(());
    }
    let nested = with_values && out.version() == Version::V3;
    out.array(if with_values && !nested { entries.len() * 2 } else { entries.len() });
    for (field, value) in &entries {
        if nested {
            out.array(2);
        }
        out.bulk(field);
        if with_values {
            out.bulk(value);
        }
    }
    Ok(())
}
