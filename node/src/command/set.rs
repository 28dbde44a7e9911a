//! Sets: a data record without a value for each member.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::page::scan_collection;
use super::pick::picks;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Head, Key, View};

const G: &str = "set";
const W: Flags = Flags::WRITE;
const D: Flags = Flags::WRITE.and(Flags::DENYOOM);
const R: Flags = Flags::READONLY;
const F: Flags = Flags::FAST;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "sadd", -3, D.and(F), Keys::ONE, sadd),
    Spec::data(G, "srem", -3, W.and(F), Keys::ONE, srem),
    Spec::data(G, "scard", 2, R.and(F), Keys::ONE, scard),
    Spec::data(G, "smembers", 2, R, Keys::ONE, smembers),
    Spec::data(G, "sismember", 3, R.and(F), Keys::ONE, sismember),
    Spec::data(G, "smismember", -3, R.and(F), Keys::ONE, smismember),
    Spec::data(G, "spop", -2, W.and(F), Keys::ONE, spop),
    Spec::data(G, "srandmember", -2, R, Keys::ONE, srandmember),
    Spec::data(G, "smove", 4, W.and(F), Keys::TWO, smove),
    Spec::data(G, "sscan", -3, R, Keys::ONE, sscan),
];

fn sadd(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let mut head = view.head_or_create(key, Type::Set)?;
    let before = head.at.size;
    for member in args.from(2) {
        let fresh = before == 0 && head.at.size == 0;
        if fresh || !view.has(key, head.at.version, member)? {
            view.put_data(key, head.at.version, member, b"");
            head.at.size += 1;
        }
    }
    if head.at.size != before {
        view.put_head(key, &head);
        view.notify(Class::SET, "sadd", key);
    }
    out.integer((head.at.size - before) as i64);
    Ok(())
}

/// Takes a member out of a set whose head is stored by the caller.
fn remove(view: &mut View<'_>, key: Key<'_>, head: &mut Head, member: &[u8]) -> Result<bool, Fail> {
    let found = view.has(key, head.at.version, member)?;
    if found {
        view.delete_data(key, head.at.version, member);
        head.at.size -= 1;
    }
    Ok(found)
}

fn srem(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Set)? else {
        out.integer(0);
        return Ok(());
    };
    let mut removed = 0;
    for member in args.from(2) {
        removed += i64::from(remove(view, key, &mut head, member)?);
    }
    if removed > 0 {
        view.put_head(key, &head);
        view.notify_shrunk(Class::SET, "srem", key, head.at.size);
    }
    out.integer(removed);
    Ok(())
}

fn scard(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    out.integer(view.head(args.key(1), Type::Set)?.map_or(0, |head| head.at.size as i64));
    Ok(())
}

fn smembers(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Set)? else {
        out.set(0);
        return Ok(());
    };
    out.set(head.at.size as usize);
    let mut members = view.entries(key, head.at.version)?;
    let mut seen = 0;
    while let Some((member, _)) = members.step()? {
        seen += 1;
        out.bulk(member);
    }
    super::page::check_size(head.at.size as usize, seen)
}

fn is_member(view: &mut View<'_>, key: Key<'_>, member: &[u8]) -> Result<bool, Fail> {
    match view.head(key, Type::Set)? {
        Some(head) => view.has(key, head.at.version, member),
        None => Ok(false),
    }
}

fn sismember(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let found = is_member(view, args.key(1), args.at(2))?;
    out.integer(i64::from(found));
    Ok(())
}

fn smismember(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    out.array(args.len() - 2);
    for member in args.from(2) {
        let found = is_member(view, key, member)?;
        out.integer(i64::from(found));
    }
    Ok(())
}

fn spop(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let count = match args.len() {
        2 => None,
        3 => Some(i64::try_from(args.positive(2)?).unwrap_or(i64::MAX)),
        _ => return Err(Fail::Syntax),
    };
    let key = args.key(1);
    let Some(mut head) = view.head(key, Type::Set)? else {
        if count.is_some() {
            out.set(0)
        } else {
            out.null()
        }
        return Ok(());
    };
    let picked = picks(view, key, &head, count.unwrap_or(1))?.entries;
    for (member, _) in &picked {
        view.delete_data(key, head.at.version, member);
        head.at.size -= 1;
    }
    if !picked.is_empty() {
        view.put_head(key, &head);
        view.notify_shrunk(Class::SET, "spop", key, head.at.size);
    }
    if count.is_some() {
        out.set(picked.len());
    } else if picked.is_empty() {
        out.null();
    }
    picked.iter().for_each(|(member, _)| out.bulk(member));
    Ok(())
}

fn srandmember(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let count = match args.len() {
        2 => None,
        3 => Some(args.integer(2)?),
        _ => return Err(Fail::Syntax),
    };
    if count.is_some_and(|n| n < -i64::MAX / 2) {
        return Err(Fail::text("ERR value is out of range"));
    }
    let key = args.key(1);
    let Some(head) = view.head(key, Type::Set)? else {
        if count.is_some() {
            out.array(0)
        } else {
            out.null()
        }
        return Ok(());
    };
    let picked = picks(view, key, &head, count.unwrap_or(1))?.entries;
    if count.is_some() {
        out.array(picked.len());
    } else if picked.is_empty() {
        out.null();
    }
    picked.iter().for_each(|(member, _)| out.bulk(member));
    Ok(())
}

fn smove(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (from, to, member) = (args.key(1), args.key(2), args.at(3));
    let source = view.head(from, Type::Set)?;
    let Some(mut source) = source else {
        out.integer(0);
        return Ok(());
    };
    let mut target = view.head_or_create(to, Type::Set)?;
    if from == to {
        let found = view.has(from, source.at.version, member)?;
        out.integer(i64::from(found));
        return Ok(());
    }
    if !remove(view, from, &mut source, member)? {
        out.integer(0);
        return Ok(());
    }
    view.put_head(from, &source);
    view.notify_shrunk(Class::SET, "srem", from, source.at.size);
    if target.at.size == 0 || !view.has(to, target.at.version, member)? {
        view.put_data(to, target.at.version, member, b"");
        target.at.size += 1;
        view.put_head(to, &target);
        view.notify(Class::SET, "sadd", to);
    }
    out.integer(1);
    Ok(())
}

fn sscan(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    scan_collection(view, args, out, Type::Set, 1, |member, _, out| {
        out.bulk(member);
        Ok(())
    })
}
