//! XREAD, and the arguments that it has in common with XREADGROUP.

use std::ops::Range;
use std::time::Duration;

use keyspace::meta::Type;
use keyspace::stream::StreamId;
use resp::Version;
use resp::reply::Writer;

use super::id;
use super::log::{Stream, collect};
use crate::command::args::after;
use crate::command::{Answer, Args, Fail};
use crate::worker::{Direction, Key, Until, View};

/// What XREAD and XREADGROUP are asked for.
pub(super) struct Options<'a> {
    /// The most entries of each stream.
    pub(super) most: usize,
    /// For how long to wait where there is nothing; the inner `None`: for ever.
    pub(super) block: Option<Option<Duration>>,
    /// XREADGROUP: the group and the consumer.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
    /// XREADGROUP: what is read does not have to be acknowledged.
    pub(super) no_ack: bool,
    /// Which arguments are keys; as many ids follow.
    pub(super) keys: Range<usize>,
}

impl<'a> Options<'a> {
    pub(super) fn read(args: &Args<'a>, of_group: bool) -> Result<Self, Fail> {
        let (most, keys) = (usize::MAX, 0..0);
        let mut options = Self { most, block: None, group: None, no_ack: false, keys };
        let only = |option: &str| {
            Fail::text(format!(
                "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
            ))
        };
        let mut at = 1;
        while at < args.len() {
            let more = args.len() - at - 1;
            if more > 0 && args.is(at, "block") {
                options.block = Some(timeout(args.at(at + 1))?);
                at += 2;
            } else if more > 0 && args.is(at, "count") {
                let most = args.integer(at + 1)?.max(0);
                options.most = usize::try_from(most).ok().filter(|&n| n > 0).unwrap_or(usize::MAX);
                at += 2;
            } else if more > 0 && args.is(at, "streams") {
                if more % 2 == 1 {
                    return Err(unbalanced(of_group));
                }
                options.keys = at + 1..at + 1 + more / 2;
                break;
            } else if more > 1 && args.is(at, "group") {
                if !of_group {
                    return Err(only("GROUP"));
                }
                options.group = Some((args.at(at + 1), args.at(at + 2)));
                at += 3;
            } else if args.is(at, "noack") {
                if !of_group {
                    return Err(only("NOACK"));
                }
                options.no_ack = true;
                at += 1;
            } else {
                return Err(Fail::Syntax);
            }
        }
        if options.keys.is_empty() {
            return Err(Fail::Syntax);
        }
        Ok(options)
    }

    /// Each key and its id, as they are spelled.
    pub(super) fn pairs(&self, args: &Args<'a>) -> Vec<(Key<'a>, &'a [u8])> {
        let count = self.keys.len();
        self.keys.clone().map(|at| (args.key(at), args.at(at + count))).collect()
    }
}

fn unbalanced(of_group: bool) -> Fail {
    let (name, sign) = if of_group { ("xreadgroup", '>') } else { ("xread", '$') };
    Fail::text(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
    ))
}

/// Milliseconds; 0 for ever.
fn timeout(text: &[u8]) -> Result<Option<Duration>, Fail> {
    let bad = || Fail::text("ERR timeout is not an integer or out of range");
    let ms = resp::integer(text).ok_or_else(bad)?;
    after(u64::try_from(ms).map_err(|_| Fail::text("ERR timeout is negative"))?)
}

/// Answers streams by their keys: pairs, or a map in RESP3. A null array if there are none.
pub(super) fn write_streams(count: usize, replies: &[u8], out: &mut Writer<'_>) {
    match (count, out.version()) {
        (0, _) => out.null_array(),
        (_, Version::V2) => out.array(count),
        (_, Version::V3) => out.map(count),
    }
    out.raw(replies);
}

/// Answers the key of a stream, before its entries.
pub(super) fn write_key(key: Key<'_>, out: &mut Writer<'_>) {
    if out.version() == Version::V2 {
        out.array(2);
    }
    out.bulk(key.name);
}

/// The id that a client has read up to.
fn read_up_to(stream: Option<&Stream<'_>>, text: &[u8]) -> Result<StreamId, Fail> {
    match text {
        b"$" => Ok(stream.map_or(StreamId::MIN, |stream| stream.header.last)),
        b">" => Err(Fail::text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        )),
        _ => id::strict(text),
    }
}

pub(super) fn xread(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let options = Options::read(args, false)?;
    // What `$` was when the call began to wait.
    let note = view.note();
    let mut noted = note.iter().flat_map(|note| note.as_chunks().0);
    let mut wanted = Vec::with_capacity(options.keys.len());
    for (key, text) in options.pairs(args) {
        let stream = Stream::load(view, key)?;
        if let Some(&id) = noted.next() {
            wanted.push((StreamId::from_bytes(id), stream));
            continue;
        }
        wanted.push((read_up_to(stream.as_ref(), text)?, stream));
    }
    let mut replies = Vec::new();
    let mut body = Writer::new(&mut replies, out.version());
    let mut served = 0;
    for (after, stream) in &wanted {
        let (Some(stream), Some(from)) = (stream, after.next()) else { continue };
        let mut walk = stream.walk(view, from, StreamId::MAX, Direction::Up)?;
        let (count, entries) = collect(&mut walk, options.most, body.version(), |_| {})?;
        if count > 0 {
            served += 1;
            write_key(stream.key, &mut body);
            body.array(count);
            body.raw(&entries);
        }
    }
    match options.block {
        Some(timeout) if served == 0 => {
            let note = wanted.iter().flat_map(|(after, _)| after.bytes()).collect();
            let until = Until::keys(options.keys, Type::Stream, timeout);
            view.wait(Until { note, ..until }, out)
        }
        _ => {
            write_streams(served, &replies, out);
            Ok(())
        }
    }
}
