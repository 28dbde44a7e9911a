//! Keys of any type.

use keyspace::meta::{Collection, Type};
use keyspace::score::Score;
use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Entry, Key, View};

const G: &str = "generic";
const W: Flags = Flags::WRITE;
const R: Flags = Flags::READONLY;
const F: Flags = Flags::FAST;
const OBJECT: Keys = Keys::range(2, 2, 1);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "del", -2, W, Keys::ALL, del),
    Spec::data(G, "unlink", -2, W.and(F), Keys::ALL, del),
    Spec::data(G, "exists", -2, R.and(F), Keys::ALL, exists),
    Spec::data(G, "touch", -2, R.and(F), Keys::ALL, exists),
    Spec::data(G, "type", 2, R.and(F), Keys::ONE, kind),
    Spec::data(G, "rename", 3, W, Keys::TWO, rename),
    Spec::data(G, "renamenx", 3, W.and(F), Keys::TWO, renamenx),
    Spec::data(G, "copy", -3, W.and(Flags::DENYOOM), Keys::TWO, copy),
    Spec::data(G, "move", 3, W.and(F), Keys::ONE, move_to),
    Spec::data(G, "object", -3, R, OBJECT, object),
];

fn del(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut deleted = 0;
    for name in args.from(1) {
        let key = Key::new(name);
        if view.entry(key)?.is_some() {
            view.delete(key);
            view.notify(Class::GENERIC, "del", key);
            deleted += 1;
        }
    }
    out.integer(deleted);
    Ok(())
}

fn exists(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut found = 0;
    for name in args.from(1) {
        found += i64::from(view.entry(Key::new(name))?.is_some());
    }
    out.integer(found);
    Ok(())
}

fn kind(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.simple(view.entry(args.key(1))?.map_or("none", |entry| entry.kind.name()));
    Ok(())
}

/// Writes what `from` holds under `to` too, in place of what was there. A collection's entries are
/// copied: they are filed under their key.
fn duplicate(view: &mut View<'_>, from: Key<'_>, to: Key<'_>, entry: &Entry) -> Answer {
    let Some(at) = entry.at else {
        let Some(text) = view.string(from)? else { return Err(Fail::NoKey) };
        let bytes = text.to_vec();
        drop(text);
        view.put_string(to, &bytes, entry.expire_ms);
        return Ok(());
    };
    let mut entries = view.entries(from, at.version)?;
    let mut new = view.create(at.kind);
    new.expire_ms = entry.expire_ms;
    new.at = Collection { version: new.at.version, size: 0, ..at };
    while let Some((subkey, value)) = entries.step_field()? {
        view.put_field(to, new.at.version, subkey, value.bytes, value.expire_ms);
        if at.kind == Type::Zset {
            view.put_score(to, new.at.version, Score::decode(value.bytes)?, subkey);
        }
        new.at.size += 1;
    }
    // Without the fields that had expired there may be nothing left.
    view.put_head(to, &new);
    Ok(())
}

/// Renames; `None` if `unless_taken` and the new name is.
fn rename_to(view: &mut View<'_>, args: &Args<'_>, unless_taken: bool) -> Result<bool, Fail> {
    let (from, to) = (args.key(1), args.key(2));
    let entry = view.entry(from)?.ok_or(Fail::NoKey)?;
    if unless_taken && view.entry(to)?.is_some() {
        return Ok(false);
    }
    if from != to {
        duplicate(view, from, to, &entry)?;
        view.delete(from);
        view.notify(Class::GENERIC, "rename_from", from);
        view.notify(Class::GENERIC, "rename_to", to);
    }
    Ok(true)
}

fn rename(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    rename_to(view, args, false)?;
    out.simple("OK");
    Ok(())
}

fn renamenx(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let renamed = rename_to(view, args, true)?;
    out.integer(i64::from(renamed));
    Ok(())
}

fn copy(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (from, to) = (args.key(1), args.key(2));
    let mut replace = false;
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
            at += 1;
        } else if args.is(at, "db") && at + 1 < args.len() {
            if args.integer(at + 1)? != 0 {
                return Err(Fail::text("ERR DB index is out of range"));
            }
            at += 2;
        } else {
            return Err(Fail::Syntax);
        }
    }
    if from == to {
        return Err(Fail::text("ERR source and destination objects are the same"));
    }
    let Some(entry) = view.entry(from)? else {
        out.integer(0);
        return Ok(());
    };
    let free = replace || view.entry(to)?.is_none();
    if free {
        duplicate(view, from, to, &entry)?;
        view.notify(Class::GENERIC, "copy_to", to);
    }
    out.integer(i64::from(free));
    Ok(())
}

/// There is one database, so no other to move a key to.
fn move_to(_: &mut View<'_>, args: &Args<'_>, _: &mut Writer<'_>) -> Answer {
    Err(match args.integer(2)? {
        0 => Fail::text("ERR source and destination objects are the same"),
        _ => Fail::text("ERR DB index is out of range"),
    })
}

/// What can be said honestly: there are no shared objects, access times or counters.
fn object(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let sub = args.at(1).to_ascii_lowercase();
    if args.len() != 3 {
        return Err(Fail::text("ERR wrong number of arguments for 'object' command"));
    }
    if !["encoding", "refcount", "idletime", "freq"].iter().any(|known| args.is(1, known)) {
        let sub = String::from_utf8_lossy(args.at(1));
        return Err(Fail::text(format!("ERR unknown subcommand '{sub}'. Try OBJECT HELP.")));
    }
    let key = args.key(2);
    let Some(entry) = view.entry(key)? else {
        out.null();
        return Ok(());
    };
    match &sub[..] {
        b"encoding" => out.bulk(super::encoding::name(view, key, &entry)?.as_bytes()),
        b"refcount" => out.integer(1),
        b"idletime" => return Err(Fail::text("ERR access times are not kept by this server")),
        _ => {
            return Err(Fail::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
    }
    Ok(())
}
