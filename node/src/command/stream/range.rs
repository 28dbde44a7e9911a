//! XLEN, XRANGE, XREVRANGE, XDEL and XSETID.

use std::collections::BTreeMap;

use keyspace::stream::{Entry, StreamId};
use resp::reply::Writer;

use super::id;
use super::log::{Stream, collect};
use crate::command::{Answer, Args, Fail};
use crate::worker::{Class, Direction, View};

pub(super) fn xlen(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let stream = Stream::load(view, args.key(1))?;
    out.integer(stream.map_or(0, |stream| stream.header.length.cast_signed()));
    Ok(())
}

pub(super) fn xrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (from, to) = (id::start(args.at(2))?, id::end(args.at(3))?);
    range(view, args, out, (from, to), Direction::Up)
}

pub(super) fn xrevrange(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (from, to) = (id::start(args.at(3))?, id::end(args.at(2))?);
    range(view, args, out, (from, to), Direction::Down)
}

fn range(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    (from, to): (StreamId, StreamId),
    direction: Direction,
) -> Answer {
    let mut most = None;
    let mut at = 4;
    while at < args.len() {
        if !args.is(at, "count") || at + 1 == args.len() {
            return Err(Fail::Syntax);
        }
        most = Some(args.integer(at + 1)?.max(0));
        at += 2;
    }
    let Some(stream) = Stream::load(view, args.key(1))? else {
        out.array(0);
        return Ok(());
    };
    if most == Some(0) {
        out.null_array();
        return Ok(());
    }
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut walk = stream.walk(view, from, to, direction)?;
    let (count, replies) = collect(&mut walk, most, out.version(), |_| {})?;
    out.array(count);
    out.raw(&replies);
    Ok(())
}

pub(super) fn xdel(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let Some(mut stream) = Stream::load(view, args.key(1))? else {
        out.integer(0);
        return Ok(());
    };
    let ids: Vec<_> = args.from(2).map(id::strict).collect::<Result<_, _>>()?;
    // Those that are there, each once, with the number of its block.
    let mut there = BTreeMap::new();
    for id in ids {
        if let Some(entry) = stream.entry(view, id)? {
            there.insert(id, Entry::decode(&entry)?.block);
        }
    }
    let Some((&greatest, _)) = there.last_key_value() else {
        out.integer(0);
        return Ok(());
    };
    if there.contains_key(&stream.header.first) {
        let mut walk = stream.walk(view, stream.header.first, StreamId::MAX, Direction::Up)?;
        let mut first = StreamId::MIN;
        while let Some((id, _)) = walk.step()? {
            if !there.contains_key(&id) {
                first = id;
                break;
            }
        }
        stream.header.first = first;
    }
    let header = &mut stream.header;
    let of_head = there.values().filter(|&&block| block == header.head_block).count() as u64;
    // Without a first block the next one has to be counted.
    header.head_entries = header.head_entries.saturating_sub(of_head);
    header.length = header.length.saturating_sub(there.len() as u64);
    header.max_deleted = header.max_deleted.max(greatest);
    there.keys().for_each(|&id| stream.delete_entry(view, id));
    stream.save(view);
    view.notify(Class::STREAM, "xdel", stream.key);
    out.integer(there.len() as i64);
    Ok(())
}

pub(super) fn xsetid(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let last = id::strict(args.at(2))?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while at < args.len() {
        let more = at + 1 < args.len();
        if more && args.is(at, "entriesadded") {
            let number = args.integer(at + 1)?;
            let negative = |_| Fail::text("ERR entries_added must be positive");
            added = Some(u64::try_from(number).map_err(negative)?);
        } else if more && args.is(at, "maxdeletedid") {
            max_deleted = id::strict(args.at(at + 1))?;
            if last < max_deleted {
                return Err(smaller("the provided max_deleted_entry_id"));
            }
        } else {
            return Err(Fail::Syntax);
        }
        at += 2;
    }
    let mut stream = Stream::load(view, args.key(1))?.ok_or(Fail::NoKey)?;
    if last < stream.header.max_deleted {
        return Err(smaller("current max_deleted_entry_id"));
    }
    if stream.header.length > 0 {
        let mut walk = stream.walk(view, StreamId::MIN, StreamId::MAX, Direction::Down)?;
        if walk.step()?.is_some_and(|(top, _)| last < top) {
            return Err(smaller("the target stream top item"));
        }
        if added.is_some_and(|added| added < stream.header.length) {
            return Err(Fail::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    let header = &mut stream.header;
    header.last = last;
    header.added = added.unwrap_or(header.added);
    if max_deleted != StreamId::MIN {
        header.max_deleted = max_deleted;
    }
    stream.save(view);
    view.notify(Class::STREAM, "xsetid", stream.key);
    out.simple("OK");
    Ok(())
}

fn smaller(than: &str) -> Fail {
    Fail::text(format!("ERR The ID specified in XSETID is smaller than {than}"))
}
