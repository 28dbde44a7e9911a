//! XINFO.

use keyspace::stream::{Consumer, Group as Record, StreamId, Subkey};
use resp::reply::Writer;

use super::create::{bad_options, check, no_group};
use super::group::{Delivery, Group};
use super::id;
use super::log::{Stream, collect, counted, damaged, write};
use super::pending::ALL;
use crate::command::{Answer, Args, Fail};
use crate::worker::{Direction, View};

pub(super) fn xinfo(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    check(args, "xinfo", &[("consumers", 4), ("groups", 3), ("stream", -3)])?;
    let stream = Stream::load(view, args.key(2))?.ok_or(Fail::NoKey)?;
    match () {
        () if args.is(1, "consumers") => consumers(view, &stream, args.at(3), out),
        () if args.is(1, "groups") => groups(view, &stream, out),
        () => match count(args)? {
            None => brief(view, &stream, out),
            Some(most) => full(view, &stream, most, out),
        },
    }
}

/// XINFO STREAM's options: `None` without FULL, else how many of each to show.
fn count(args: &Args<'_>) -> Result<Option<usize>, Fail> {
    const DEFAULT: usize = 10;
    match args.len() {
        3 => Ok(None),
        4 if args.is(3, "full") => Ok(Some(DEFAULT)),
        6 if args.is(3, "full") && args.is(4, "count") => match args.integer(5)? {
            0 => Ok(Some(usize::MAX)),
            number => Ok(Some(usize::try_from(number).unwrap_or(DEFAULT))),
        },
        _ => Err(bad_options(args, "XINFO")),
    }
}

fn number(name: &str, value: u64, out: &mut Writer<'_>) {
    out.bulk(name.as_bytes());
    out.integer(value.cast_signed());
}

fn optional(name: &str, value: Option<i64>, out: &mut Writer<'_>) {
    out.bulk(name.as_bytes());
    match value {
        Some(value) => out.integer(value),
        None => out.null(),
    }
}

fn stream_id(name: &str, value: StreamId, out: &mut Writer<'_>) {
    out.bulk(name.as_bytes());
    id::write(value, out);
}

/// What FULL and the brief answer begin with.
fn header(view: &mut View<'_>, stream: &Stream<'_>, out: &mut Writer<'_>) -> Answer {
    let of = &stream.header;
    let mut first = stream.walk(view, StreamId::MIN, StreamId::MAX, Direction::Up)?;
    // Blocks are what Redis's nodes are.
    let blocks = first.step()?.map_or(0, |(_, entry)| of.block.saturating_sub(entry.block) + 1);
    number("length", of.length, out);
    number("radix-tree-keys", blocks, out);
    number("radix-tree-nodes", blocks + 1, out);
    stream_id("last-generated-id", of.last, out);
    stream_id("max-deleted-entry-id", of.max_deleted, out);
    number("entries-added", of.added, out);
    stream_id("recorded-first-entry-id", of.first, out);
    Ok(())
}

fn brief(view: &mut View<'_>, stream: &Stream<'_>, out: &mut Writer<'_>) -> Answer {
    out.map(10);
    header(view, stream, out)?;
    number("groups", stream.header.groups, out);
    for (name, direction) in [("first-entry", Direction::Up), ("last-entry", Direction::Down)] {
        out.bulk(name.as_bytes());
        let mut walk = stream.walk(view, StreamId::MIN, StreamId::MAX, direction)?;
        match walk.step()? {
            Some((id, entry)) => write(id, &entry, out)?,
            None => out.null(),
        }
    }
    Ok(())
}

/// The names and records of a stream's groups.
fn all_groups(view: &mut View<'_>, stream: &Stream<'_>) -> Result<Vec<(Vec<u8>, Record)>, Fail> {
    let mut records = stream.records(view, &Subkey::GROUPS, &Subkey::GROUPS)?;
    let mut groups = Vec::new();
    while let Some((subkey, value)) = records.step()? {
        groups.push((subkey[Subkey::GROUPS.len()..].to_vec(), Record::decode(value)?));
    }
    Ok(groups)
}

/// The names and records of a group's consumers.
fn all_consumers(
    view: &mut View<'_>,
    stream: &Stream<'_>,
    group: &Record,
) -> Result<Vec<(Vec<u8>, Consumer)>, Fail> {
    let prefix = Subkey::consumers(group.version);
    let mut records = stream.records(view, &prefix, &prefix)?;
    let mut consumers = Vec::new();
    while let Some((subkey, value)) = records.step()? {
        consumers.push((subkey[prefix.len()..].to_vec(), Consumer::decode(value)?));
    }
    Ok(consumers)
}

/// How far a group has read, and how many entries are left.
fn progress(stream: &Stream<'_>, group: &Group<'_>, out: &mut Writer<'_>) {
    optional("entries-read", group.record.read.map(u64::cast_signed), out);
    optional("lag", group.lag(&stream.header), out);
}

fn groups(view: &mut View<'_>, stream: &Stream<'_>, out: &mut Writer<'_>) -> Answer {
    let groups = all_groups(view, stream)?;
    out.array(groups.len());
    for (name, record) in &groups {
        let group = Group::of(stream, name, *record);
        out.map(6);
        out.bulk(b"name");
        out.bulk(name);
        number("consumers", record.consumers, out);
        number("pending", record.pending, out);
        stream_id("last-delivered-id", record.last, out);
        progress(stream, &group, out);
    }
    Ok(())
}

fn consumers(
    view: &mut View<'_>,
    stream: &Stream<'_>,
    name: &[u8],
    out: &mut Writer<'_>,
) -> Answer {
    let group = Group::load(view, stream, name)?;
    let group = group.ok_or_else(|| no_group(stream.key.name, name))?;
    let consumers = all_consumers(view, stream, &group.record)?;
    out.array(consumers.len());
    for (name, consumer) in &consumers {
        let since = |ms: u64| view.now_ms.cast_signed().saturating_sub(ms.cast_signed());
        out.map(4);
        out.bulk(b"name");
        out.bulk(name);
        number("pending", consumer.pending, out);
        optional("idle", Some(since(consumer.seen_ms).max(0)), out);
        optional("inactive", Some(consumer.active_ms.map_or(-1, since)), out);
    }
    Ok(())
}

fn full(view: &mut View<'_>, stream: &Stream<'_>, most: usize, out: &mut Writer<'_>) -> Answer {
    out.map(9);
    header(view, stream, out)?;
    out.bulk(b"entries");
    let mut walk = stream.walk(view, StreamId::MIN, StreamId::MAX, Direction::Up)?;
    let (count, entries) = collect(&mut walk, most, out.version(), |_| {})?;
    out.array(count);
    out.raw(&entries);
    out.bulk(b"groups");
    let groups = all_groups(view, stream)?;
    out.array(groups.len());
    for (name, record) in &groups {
        full_group(view, stream, &Group::of(stream, name, *record), most, out)?;
    }
    Ok(())
}

fn full_group(
    view: &mut View<'_>,
    stream: &Stream<'_>,
    group: &Group<'_>,
    most: usize,
    out: &mut Writer<'_>,
) -> Answer {
    out.map(7);
    out.bulk(b"name");
    out.bulk(group.name);
    stream_id("last-delivered-id", group.record.last, out);
    progress(stream, group, out);
    number("pel-count", group.record.pending, out);
    deliveries(view, group, None, most, out)?;
    out.bulk(b"consumers");
    let consumers = all_consumers(view, stream, &group.record)?;
    out.array(consumers.len());
    for (name, consumer) in &consumers {
        out.map(5);
        out.bulk(b"name");
        out.bulk(name);
        number("seen-time", consumer.seen_ms, out);
        optional("active-time", Some(consumer.active_ms.map_or(-1, u64::cast_signed)), out);
        number("pel-count", consumer.pending, out);
        deliveries(view, group, Some(name), most, out)?;
    }
    Ok(())
}

/// The first pending entries of a group or of one of its consumers.
fn deliveries(
    view: &mut View<'_>,
    group: &Group<'_>,
    consumer: Option<&[u8]>,
    most: usize,
    out: &mut Writer<'_>,
) -> Answer {
    out.bulk(b"pending");
    let mut walk = group.walk(view, consumer, ALL, Direction::Up)?;
    counted(out, |out| {
        let mut count = 0;
        while count < most
            && let Some((id, delivery)) = walk.step()?
        {
            let Delivery { delivered_ms, deliveries, consumer: owner } = match delivery {
                Some(delivery) => delivery,
                None => group.delivery(view, id)?.ok_or_else(|| damaged("a pending entry"))?,
            };
            out.array(if consumer.is_none() { 4 } else { 3 });
            id::write(id, out);
            if consumer.is_none() {
                out.bulk(&owner);
            }
            out.integer(delivered_ms.cast_signed());
            out.integer(deliveries.cast_signed());
            count += 1;
        }
        Ok(count)
    })?;
    Ok(())
}
