//! XGROUP: groups and consumers are made, moved and deleted.

use keyspace::stream::{Group as Record, StreamId};
use resp::reply::Writer;

use super::group::Group;
use super::id;
use super::log::Stream;
use crate::command::{Answer, Args, Fail};
use crate::worker::{Class, Direction, View};

/// The error of a subcommand with the wrong number of arguments, or of one that is unknown. `known`:
/// their names and arities, both with the command's own name counted.
pub(super) fn check(args: &Args<'_>, command: &str, known: &[(&str, i32)]) -> Result<(), Fail> {
    let count = args.len() as i32;
    let sub = known.iter().find(|(sub, _)| args.is(1, sub));
    let Some((sub, arity)) = sub else {
        let sub = String::from_utf8_lossy(args.at(1));
        let upper = command.to_ascii_uppercase();
        return Err(Fail::text(format!("ERR unknown subcommand '{sub}'. Try {upper} HELP.")));
    };
    if *arity < 0 && count >= -arity || count == *arity {
        return Ok(());
    }
    let text = format!("ERR wrong number of arguments for '{command}|{sub}' command");
    Err(Fail::text(text))
}

/// What Redis says of options that a subcommand does not have.
pub(super) fn bad_options(args: &Args<'_>, command: &str) -> Fail {
    let sub = String::from_utf8_lossy(args.at(1));
    Fail::text(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {command} HELP."
    ))
}

/// Where there is no such group in the stream of `key`.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> Fail {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Fail::text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

pub(super) fn xgroup(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    check(
        args,
        "xgroup",
        &[("create", -5), ("setid", -5), ("destroy", 4), ("createconsumer", 5), ("delconsumer", 5)],
    )?;
    match &args.at(1).to_ascii_lowercase()[..] {
        b"create" => create(view, args, out),
        b"setid" => set_id(view, args, out),
        b"destroy" => destroy(view, args, out),
        b"createconsumer" => create_consumer(view, args, out),
        b"delconsumer" => delete_consumer(view, args, out),
        _ => Err(bad_options(args, "XGROUP")),
    }
}

/// The options of CREATE and SETID: MKSTREAM and ENTRIESREAD.
fn options(args: &Args<'_>, may_make: bool) -> Result<(bool, Option<u64>), Fail> {
    let (mut make, mut read) = (false, None);
    let mut at = 5;
    while at < args.len() {
        if may_make && args.is(at, "mkstream") {
            make = true;
            at += 1;
        } else if args.is(at, "entriesread") && at + 1 < args.len() {
            let number = args.integer(at + 1)?;
            if number < -1 {
                return Err(Fail::text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            read = u64::try_from(number).ok();
            at += 2;
        } else {
            return Err(bad_options(args, "XGROUP"));
        }
    }
    Ok((make, read))
}

/// The stream of the command, which has to be there.
fn stream<'k>(view: &mut View<'_>, args: &Args<'k>) -> Result<Stream<'k>, Fail> {
    Stream::load(view, args.key(2))?.ok_or(Fail::text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
    ))
}

/// The stream and the group of the command, which have to be there.
fn both<'k>(view: &mut View<'_>, args: &Args<'k>) -> Result<(Stream<'k>, Group<'k>), Fail> {
    let stream = stream(view, args)?;
    let group = Group::load(view, &stream, args.at(3))?;
    Ok((stream, group.ok_or_else(|| no_group(args.at(2), args.at(3)))?))
}

fn create(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (make, read) = options(args, true)?;
    let mut stream = match make {
        true => match Stream::load(view, args.key(2))? {
            Some(stream) => stream,
            None => Stream::create(view, args.key(2)),
        },
        false => stream(view, args)?,
    };
    let last = match args.at(4) {
        b"$" => stream.header.last,
        text => id::strict(text)?,
    };
    let name = args.at(3);
    if !stream.is_new() && Group::load(view, &stream, name)?.is_some() {
        return Err(Fail::text("BUSYGROUP Consumer Group name already exists"));
    }
    let record = Record::new(view.version(), last, read);
    stream.header.groups += 1;
    stream.save(view);
    Group::of(&stream, name, record).save(view);
    view.notify(Class::STREAM, "xgroup-create", stream.key);
    out.simple("OK");
    Ok(())
}

fn set_id(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (_, read) = options(args, false)?;
    let (stream, mut group) = both(view, args)?;
    group.record.last = match args.at(4) {
        b"$" => stream.header.last,
        text => id::loose(text, 0)?,
    };
    group.record.read = read;
    group.save(view);
    view.notify(Class::STREAM, "xgroup-setid", stream.key);
    out.simple("OK");
    Ok(())
}

fn destroy(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let mut stream = stream(view, args)?;
    let group = Group::load(view, &stream, args.at(3))?;
    if let Some(group) = &group {
        group.delete_all(view, &stream)?;
        stream.header.groups = stream.header.groups.saturating_sub(1);
        stream.save(view);
        view.notify(Class::STREAM, "xgroup-destroy", stream.key);
    }
    out.integer(i64::from(group.is_some()));
    Ok(())
}

fn create_consumer(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (_, mut group) = both(view, args)?;
    let is_there = group.consumer(view, args.at(4))?.is_some();
    if !is_there {
        group.seen(view, args.at(4))?;
        group.save(view);
    }
    out.integer(i64::from(!is_there));
    Ok(())
}

fn delete_consumer(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (stream, mut group) = both(view, args)?;
    let name = args.at(4);
    if group.consumer(view, name)?.is_none() {
        out.integer(0);
        return Ok(());
    }
    let all = (StreamId::MIN, StreamId::MAX);
    let mut walk = group.walk(view, Some(name), all, Direction::Up)?;
    let mut pending = 0;
    while let Some((id, _)) = walk.step()? {
        group.release(view, id, name)?;
        pending += 1;
    }
    group.delete_consumer(view, name);
    group.save(view);
    view.notify(Class::STREAM, "xgroup-delconsumer", stream.key);
    out.integer(pending);
    Ok(())
}
