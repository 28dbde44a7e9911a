//! What RESTORE is given by a Redis: its packed forms of small collections (crate [`packed`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use keyspace::score::Score;
use packed::Entries;

use super::dump::Value;
use super::float;
use super::rdb::{Form, Load};

/// A node of a list: one long element, or a listpack of several.
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

/// The value in a packed form; `Some(None)`: the form is a general one. `None`: the bytes make no
/// sense, or something is in them twice.
pub(super) fn read(load: &mut Load<'_>, form: Form) -> Option<Option<Value>> {
    let bytes = match form {
        Form::ListQuicklist | Form::ListQuicklist2 => return quicklist(load, form).map(Some),
        Form::ZsetText => return zset_of_texts(load).map(Some),
        Form::HashListpackTimes => {
            let _earliest_ms = load.time()?;
            load.string()?
        }
        Form::HashZipmap
        | Form::ListZiplist
        | Form::SetIntset
        | Form::ZsetZiplist
        | Form::HashZiplist
        | Form::HashListpack
        | Form::ZsetListpack
        | Form::SetListpack => load.string()?,
        _ => return Some(None),
    };
    let entries = match form {
        Form::HashZipmap => packed::zipmap(&bytes),
        Form::SetIntset => packed::intset(&bytes),
        Form::ListZiplist | Form::ZsetZiplist | Form::HashZiplist => packed::ziplist(&bytes),
        _ => packed::listpack(&bytes),
    };
    let entries = entries.ok().filter(|entries| !entries.is_empty())?;
    Some(Some(match form {
        Form::ListZiplist => Value::List(owned(entries).collect()),
        Form::SetIntset | Form::SetListpack => set(entries)?,
        Form::ZsetZiplist | Form::ZsetListpack => zset(entries)?,
        Form::HashListpackTimes => hash_with_times(entries)?,
        _ => hash(entries)?,
    }))
}

fn owned(entries: Entries<'_>) -> impl Iterator<Item = Vec<u8>> {
    entries.into_iter().map(Cow::into_owned)
}

fn set(entries: Entries<'_>) -> Option<Value> {
    let count = entries.len();
    let members: BTreeSet<_> = owned(entries).collect();
    (members.len() == count).then_some(Value::Set(members))
}

fn hash(entries: Entries<'_>) -> Option<Value> {
    let mut fields = BTreeMap::new();
    let mut entries = owned(entries);
    while let Some(field) = entries.next() {
        if fields.insert(field, (entries.next()?, 0)).is_some() {
            return None;
        }
    }
    Some(Value::Hash(fields))
}

/// Each value is followed by its time in Unix milliseconds, 0 for never.
fn hash_with_times(entries: Entries<'_>) -> Option<Value> {
    let mut fields = BTreeMap::new();
    let mut entries = owned(entries);
    while let Some(field) = entries.next() {
        let value = entries.next()?;
        let at_ms = u64::try_from(resp::integer(&entries.next()?)?).ok()?;
        if fields.insert(field, (value, at_ms)).is_some() {
            return None;
        }
    }
    Some(Value::Hash(fields))
}

fn zset(entries: Entries<'_>) -> Option<Value> {
    let mut members = BTreeMap::new();
    let mut entries = owned(entries);
    while let Some(member) = entries.next() {
        let score = Score::new(float(&entries.next()?)?)?;
        if members.insert(member, score).is_some() {
            return None;
        }
    }
    Some(Value::Zset(members))
}

/// Scores as texts behind a byte of length, as Redis wrote them up to 3.2.
fn zset_of_texts(load: &mut Load<'_>) -> Option<Value> {
    const MINUS_INFINITY: u8 = 255;
    const INFINITY: u8 = 254;
    const NAN: u8 = 253;
    let count = load.length().filter(|&count| count > 0)?;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let member = load.string()?;
        let number = match load.number::<1>()?[0] {
            MINUS_INFINITY => f64::NEG_INFINITY,
            INFINITY => f64::INFINITY,
            NAN => return None,
            length => float(load.take(length.into())?)?,
        };
        if members.insert(member, Score::new(number)?).is_some() {
            return None;
        }
    }
    Some(Value::Zset(members))
}

fn quicklist(load: &mut Load<'_>, form: Form) -> Option<Value> {
    let count = load.length().filter(|&count| count > 0)?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let kind = if form == Form::ListQuicklist2 { load.length()? } else { PACKED };
        let node = load.string()?;
        match kind {
            PLAIN => elements.push(node),
            PACKED if form == Form::ListQuicklist => {
                elements.extend(owned(packed::ziplist(&node).ok()?));
            }
            PACKED => elements.extend(owned(packed::listpack(&node).ok()?)),
            _ => return None,
        }
        if elements.len() > packed::ENTRIES_MAX {
            return None;
        }
    }
    (!elements.is_empty()).then_some(Value::List(elements))
}
