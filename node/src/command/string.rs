//! Strings: whole values.

use resp::reply::Writer;

use super::expire::{Unit, deadline};
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Key, View};

/// The longest string, in bytes: `proto-max-bulk-len` of Redis.
pub(super) const STRING_BYTES_MAX: u64 = 512 << 20;

const G: &str = "string";
const W: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::FAST;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "get", 2, R.and(F), Keys::ONE, get),
    Spec::data(G, "set", -3, W, Keys::ONE, set),
    Spec::data(G, "setnx", 3, W.and(F), Keys::ONE, setnx),
    Spec::data(G, "setex", 4, W, Keys::ONE, setex),
    Spec::data(G, "psetex", 4, W, Keys::ONE, psetex),
    Spec::data(G, "getset", 3, W.and(F), Keys::ONE, getset),
    Spec::data(G, "getdel", 2, Flags::WRITE.and(F), Keys::ONE, getdel),
    Spec::data(G, "getex", -2, Flags::WRITE.and(F), Keys::ONE, getex),
    Spec::data(G, "mget", -2, R.and(F), Keys::ALL, mget),
    Spec::data(G, "mset", -3, W, Keys::PAIRS, mset),
    Spec::data(G, "msetnx", -3, W, Keys::PAIRS, msetnx),
];

fn reply_string(view: &mut View<'_>, key: Key<'_>, out: &mut Writer<'_>) -> Answer {
    match view.string(key)? {
        Some(text) => out.bulk(&text),
        None => out.null(),
    }
    Ok(())
}

fn get(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    reply_string(view, args.key(1), out)
}

/// SET's options.
#[derive(Default)]
struct SetOptions {
    if_missing: bool,
    if_present: bool,
    answer_old: bool,
    keep_ttl: bool,
    expire_ms: Option<u64>,
}

fn set_options(view: &View<'_>, args: &Args<'_>) -> Result<SetOptions, Fail> {
    let mut options = SetOptions::default();
    let mut at = 3;
    while at < args.len() {
        let unit = Unit::parse(args.at(at));
        if args.is(at, "nx") && !options.if_present {
            options.if_missing = true;
        } else if args.is(at, "xx") && !options.if_missing {
            options.if_present = true;
        } else if args.is(at, "get") {
            options.answer_old = true;
        } else if args.is(at, "keepttl") && options.expire_ms.is_none() {
            options.keep_ttl = true;
        } else if let Some(unit) = unit
            && at + 1 < args.len()
            && !options.keep_ttl
            && options.expire_ms.is_none()
        {
            at += 1;
            options.expire_ms = Some(deadline(args.integer(at)?, unit, view.now_ms, "set")?);
        } else {
            return Err(Fail::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

fn set(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    if args.len() == 3 {
        // Nothing to know of what was there: no read before the write.
        view.put_string(key, args.at(2), 0);
        view.notify(Class::STRING, "set", key);
        out.simple("OK");
        return Ok(());
    }
    let options = set_options(view, args)?;
    let mut expire_ms = options.expire_ms.unwrap_or(0);
    let mut found = false;
    if options.answer_old {
        match view.string(key)? {
            Some(old) => {
                found = true;
                out.bulk(&old);
            }
            None => out.null(),
        }
    }
    if options.if_missing || options.if_present || options.keep_ttl {
        let entry = view.entry(key)?;
        found = entry.is_some();
        if options.keep_ttl {
            expire_ms = entry.map_or(0, |e| e.expire_ms);
        }
    }
    let refused = found && options.if_missing || !found && options.if_present;
    if !refused {
        view.put_string(key, args.at(2), expire_ms);
        view.notify(Class::STRING, "set", key);
        if options.expire_ms.is_some() {
            view.notify(Class::GENERIC, "expire", key);
        }
    }
    match (options.answer_old, refused) {
        (true, _) => {}
        (false, true) => out.null(),
        (false, false) => out.simple("OK"),
    }
    Ok(())
}

fn setnx(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let missing = view.entry(key)?.is_none();
    if missing {
        view.put_string(key, args.at(2), 0);
        view.notify(Class::STRING, "set", key);
    }
    out.integer(i64::from(missing));
    Ok(())
}

fn setex(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    set_expiring(view, args, out, Unit::Seconds, "setex")
}

fn psetex(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    set_expiring(view, args, out, Unit::Milliseconds, "psetex")
}

fn set_expiring(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    unit: Unit,
    name: &str,
) -> Answer {
    let expire_ms = deadline(args.integer(2)?, unit, view.now_ms, name)?;
    let key = args.key(1);
    view.put_string(key, args.at(3), expire_ms);
    view.notify(Class::STRING, "set", key);
    view.notify(Class::GENERIC, "expire", key);
    out.simple("OK");
    Ok(())
}

fn getset(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    reply_string(view, key, out)?;
    view.put_string(key, args.at(2), 0);
    view.notify(Class::STRING, "set", key);
    Ok(())
}

fn getdel(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(text) = view.string(key)? else {
        out.null();
        return Ok(());
    };
    out.bulk(&text);
    drop(text);
    view.delete(key);
    view.notify(Class::GENERIC, "del", key);
    Ok(())
}

fn getex(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let unit = args.get(2).and_then(Unit::parse);
    let persists = args.len() == 3 && args.is(2, "persist");
    if !(args.len() == 2 || persists || args.len() == 4 && unit.is_some()) {
        return Err(Fail::Syntax);
    }
    let now_ms = view.now_ms;
    let Some(text) = view.string(key)? else {
        out.null();
        return Ok(());
    };
    let expire_ms = match unit {
        Some(unit) => Some(deadline(args.integer(3)?, unit, now_ms, "getex")?),
        None => persists.then_some(0),
    };
    out.bulk(&text);
    let Some(expire_ms) = expire_ms.filter(|&ms| ms != text.expire_ms) else { return Ok(()) };
    let bytes = text.to_vec();
    drop(text);
    if expire_ms != 0 && expire_ms <= now_ms {
        view.delete(key);
        view.notify(Class::GENERIC, "del", key);
    } else {
        view.put_string(key, &bytes, expire_ms);
        view.notify(Class::GENERIC, if persists { "persist" } else { "expire" }, key);
    }
    Ok(())
}

fn mget(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.array(args.len() - 1);
    for name in args.from(1) {
        match view.string(Key::new(name)) {
            Ok(Some(text)) => out.bulk(&text),
            Ok(None) | Err(Fail::WrongType) => out.null(),
            Err(fail) => return Err(fail),
        }
    }
    Ok(())
}

fn check_pairs(args: &Args<'_>, name: &str) -> Answer {
    if args.len() % 2 == 1 {
        return Ok(());
    }
    Err(Fail::text(format!("ERR wrong number of arguments for '{name}' command")))
}

fn mset(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    check_pairs(args, "mset")?;
    for (name, value) in args.pairs(1) {
        let key = Key::new(name);
        view.put_string(key, value, 0);
        view.notify(Class::STRING, "set", key);
    }
    out.simple("OK");
    Ok(())
}

fn msetnx(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    check_pairs(args, "msetnx")?;
    for (name, _) in args.pairs(1) {
        if view.entry(Key::new(name))?.is_some() {
            out.integer(0);
            return Ok(());
        }
    }
    for (name, value) in args.pairs(1) {
        let key = Key::new(name);
        view.put_string(key, value, 0);
        view.notify(Class::STRING, "set", key);
    }
    out.integer(1);
    Ok(())
}
