//! DUMP and RESTORE: a key's value as bytes that Redis reads too.

use std::collections::{BTreeMap, BTreeSet};

use keyspace::meta::{Collection, Type};
use keyspace::score::Score;
use resp::reply::Writer;

use super::rdb::{Dump, Form, Load};
use super::{Answer, Args, Fail, Flags, Keys, Spec, stream, unpack};
use crate::worker::{Class, Key, View};

const G: &str = "generic";

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "dump", 2, Flags::READONLY, Keys::ONE, dump),
    Spec::data(G, "restore", -4, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, restore),
];

fn dump(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    match payload(view, args.key(1))? {
        Some(payload) => out.bulk(&payload),
        None => out.null(),
    }
    Ok(())
}

/// What DUMP answers; `None`: there is no such key.
pub(super) fn payload(view: &mut View<'_>, key: Key<'_>) -> Result<Option<Vec<u8>>, Fail> {
    let Some(entry) = view.entry(key)? else { return Ok(None) };
    let Some(at) = entry.at else {
        let mut dump = Dump::new(Form::String);
        if let Some(text) = view.string(key)? {
            dump.string(&text);
        }
        return Ok(Some(dump.end()));
    };
    if at.fields_expire_ms != 0 {
        return dump_fields(view, key, &at);
    }
    if at.kind == Type::Stream {
        return Ok(Some(stream::dump(view, key)?));
    }
    let mut dump = Dump::new(match at.kind {
        Type::List => Form::List,
        Type::Set | Type::String | Type::Stream => Form::Set,
        Type::Hash => Form::Hash,
        Type::Zset => Form::Zset,
    });
    dump.length(at.size);
    let mut entries = view.entries(key, at.version)?;
    while let Some((subkey, value)) = entries.step()? {
        if at.kind != Type::List {
            dump.string(subkey);
        }
        match at.kind {
            Type::List | Type::Hash => dump.string(value),
            Type::Zset => dump.double(Score::decode(value)?.number()),
            Type::Set | Type::String | Type::Stream => {}
        }
    }
    Ok(Some(dump.end()))
}

/// A hash that has, or had, fields that expire.
fn dump_fields(
    view: &mut View<'_>,
    key: Key<'_>,
    at: &Collection,
) -> Result<Option<Vec<u8>>, Fail> {
    let (mut fields, mut earliest_ms) = (Vec::new(), u64::MAX);
    let mut entries = view.entries(key, at.version)?;
    while let Some((field, value)) = entries.step_field()? {
        if value.expire_ms != 0 {
            earliest_ms = earliest_ms.min(value.expire_ms);
        }
        fields.push((field.to_vec(), value.bytes.to_vec(), value.expire_ms));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let expires = earliest_ms != u64::MAX;
    let mut dump = Dump::new(if expires { Form::HashFields } else { Form::Hash });
    if expires {
        dump.time(earliest_ms);
    }
    dump.length(fields.len() as u64);
    for (field, value, expire_ms) in &fields {
        if expires {
            dump.length(if *expire_ms == 0 { 0 } else { expire_ms - earliest_ms + 1 });
        }
        dump.string(field);
        dump.string(value);
    }
    Ok(Some(dump.end()))
}

/// A value that was read whole before anything is written.
pub(super) enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    /// Values, and when they expire.
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, u64)>),
    Zset(BTreeMap<Vec<u8>, Score>),
    Stream(Box<stream::Loaded>),
}

/// `None`: the bytes make no sense, or something is in them twice.
pub(super) fn read(load: &mut Load<'_>) -> Option<Value> {
    let form = load.form()?;
    if form == Form::String {
        return Some(Value::String(load.string()?)).filter(|_| load.end().is_some());
    }
    if let Some(value) = unpack::read(load, form)? {
        return load.end().map(|()| value);
    }
    if matches!(form, Form::Stream1 | Form::Stream2 | Form::Stream3) {
        let loaded = stream::Loaded::read(load, form)?;
        return load.end().map(|()| Value::Stream(Box::new(loaded)));
    }
    let earliest_ms = if form == Form::HashFields { load.time()? } else { 0 };
    // At least a byte for each: no length makes more work than the payload has bytes.
    let count = load.length().filter(|&count| count > 0)?;
    let mut value = match form {
        Form::Set => Value::Set(BTreeSet::new()),
        Form::Hash | Form::HashFields => Value::Hash(BTreeMap::new()),
        Form::Zset => Value::Zset(BTreeMap::new()),
        _ => Value::List(Vec::new()),
    };
    for _ in 0..count {
        let expire_ms = match form {
            Form::HashFields => match load.length()? {
                0 => 0,
                later => earliest_ms.checked_add(later - 1)?,
            },
            _ => 0,
        };
        let first = load.string()?;
        let fresh = match &mut value {
            Value::String(_) | Value::Stream(_) => false,
            Value::List(list) => {
                list.push(first);
                true
            }
            Value::Set(set) => set.insert(first),
            Value::Hash(hash) => hash.insert(first, (load.string()?, expire_ms)).is_none(),
            Value::Zset(zset) => zset.insert(first, Score::new(load.double()?)?).is_none(),
        };
        if !fresh {
            return None;
        }
    }
    load.end()?;
    Some(value)
}

fn write(view: &mut View<'_>, key: Key<'_>, value: Value, expire_ms: u64) -> Answer {
    let kind = match &value {
        Value::String(bytes) => {
            view.put_string(key, bytes, expire_ms);
            return Ok(());
        }
        Value::Stream(_) => Type::Stream,
        Value::List(_) => Type::List,
        Value::Set(_) => Type::Set,
        Value::Hash(_) => Type::Hash,
        Value::Zset(_) => Type::Zset,
    };
    if let Value::Stream(loaded) = value {
        return loaded.write(view, key, expire_ms);
    }
    let mut head = view.create(kind);
    head.expire_ms = expire_ms;
    let version = head.at.version;
    match value {
        Value::String(_) | Value::Stream(_) => {}
        Value::List(list) => {
            for element in list {
                view.put_data(key, version, &head.at.tail.to_be_bytes(), &element);
                head.at.tail += 1;
                head.at.size += 1;
            }
        }
        Value::Set(set) => {
            head.at.size = set.len() as u64;
            set.iter().for_each(|member| view.put_data(key, version, member, b""));
        }
        Value::Hash(hash) => {
            let now_ms = view.now_ms;
            let live = hash.iter().filter(|(_, (_, at_ms))| *at_ms == 0 || *at_ms > now_ms);
            for (field, (value, at_ms)) in live {
                view.put_field(key, version, field, value, *at_ms);
                head.at.size += 1;
                let earliest_ms = &mut head.at.fields_expire_ms;
                if *at_ms != 0 && (*earliest_ms == 0 || at_ms < earliest_ms) {
                    *earliest_ms = *at_ms;
                }
            }
        }
        Value::Zset(zset) => {
            head.at.size = zset.len() as u64;
            for (member, score) in &zset {
                view.put_data(key, version, member, score.bytes());
                view.put_score(key, version, *score, member);
            }
        }
    }
    view.put_head(key, &head);
    Ok(())
}

fn restore(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (mut replace, mut absolute) = (false, false);
    for option in args.from(4) {
        match &option.to_ascii_lowercase()[..] {
            b"replace" => replace = true,
            b"absttl" => absolute = true,
            _ => return Err(Fail::Syntax),
        }
    }
    let key = args.key(1);
    if !replace && view.entry(key)?.is_some() {
        return Err(Fail::text("BUSYKEY Target key name already exists."));
    }
    let ttl = u64::try_from(args.integer(2)?)
        .map_err(|_| Fail::text("ERR Invalid TTL value, must be >= 0"))?;
    let wrong = || Fail::text("ERR DUMP payload version or checksum are wrong");
    let mut load = Load::new(args.at(3)).ok_or_else(wrong)?;
    let value = read(&mut load).ok_or(Fail::text("ERR Bad data format"))?;
    let expire_ms = match ttl {
        0 => 0,
        ttl if absolute => ttl,
        ttl => ttl.saturating_add(view.now_ms),
    };
    if expire_ms > 0 && expire_ms <= view.now_ms {
        let replaced = view.is_replaced(key)?;
        view.delete(key);
        view.notify_replaced(Class::GENERIC, "restore", key, (0, replaced));
    } else {
        write(view, key, value, expire_ms)?;
        view.notify(Class::GENERIC, "restore", key);
    }
    out.simple("OK");
    Ok(())
}
