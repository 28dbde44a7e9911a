//! XADD and XTRIM.

use keyspace::stream::StreamId;
use resp::reply::Writer;

use super::id::{self, Wanted};
use super::log::Stream;
use super::trim::{To, Trim, Trimmed};
use crate::command::encoding::STREAM_NODE_ENTRIES;
use crate::command::{Answer, Args, Fail};
use crate::worker::{Class, View};

/// The most bytes of fields and values that an entry may have.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// What stands before the fields.
struct Options {
    trim: Option<Trim>,
    /// NOMKSTREAM: nothing is added where there is no stream.
    unless_missing: bool,
    /// XADD's id; `None` if the arguments end before it.
    id: Option<Wanted>,
    /// Where the fields begin.
    fields_at: usize,
}

impl Options {
    fn read(args: &Args<'_>, adds: bool) -> Result<Self, Fail> {
        let mut options =
            Self { trim: None, unless_missing: false, id: None, fields_at: args.len() };
        let mut limit = None;
        let mut at = 2;
        while at < args.len() {
            let more = at + 1 < args.len();
            if more && (args.is(at, "maxlen") || args.is(at, "minid")) {
                if options.trim.is_some() {
                    return Err(Fail::text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let by_length = args.is(at, "maxlen");
                let marked = at + 2 < args.len() && matches!(args.at(at + 1), b"~" | b"=");
                let blocks = marked && args.at(at + 1) == b"~";
                at += 1 + usize::from(marked);
                let to = match by_length {
                    true => To::Length(not_negative(args, at, "MAXLEN")?),
                    false => To::Id(id::strict(args.at(at))?),
                };
                options.trim = Some(Trim { to, blocks, limit: 0 });
            } else if more && args.is(at, "limit") {
                at += 1;
                limit = Some(not_negative(args, at, "LIMIT")?);
            } else if adds && args.is(at, "nomkstream") {
                options.unless_missing = true;
            } else if adds {
                options.id = Some(Wanted::parse(args.at(at))?);
                options.fields_at = at + 1;
                break;
            } else {
                return Err(Fail::Syntax);
            }
            at += 1;
        }
        options.limit(limit, adds)
    }

    fn limit(mut self, limit: Option<u64>, adds: bool) -> Result<Self, Fail> {
        let Some(trim) = &mut self.trim else {
            if limit.is_some_and(|limit| limit > 0) {
                return Err(Fail::text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            if !adds {
                return Err(Fail::text(
                    "ERR syntax error, XTRIM must be called with a trimming strategy",
                ));
            }
            return Ok(self);
        };
        match limit {
            Some(_) if !trim.blocks => {
                return Err(Fail::text(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            Some(limit) => trim.limit = limit,
            None if trim.blocks => trim.limit = default_limit(),
            None => {}
        }
        Ok(self)
    }
}

/// A hundred blocks, so that one command does not take too long.
fn default_limit() -> u64 {
    const BLOCKS: u64 = 100;
    const WITHOUT_BLOCKS: u64 = 10_000;
    const MOST: u64 = 1_000_000;
    match u64::try_from(STREAM_NODE_ENTRIES.get()) {
        Ok(entries) if entries > 0 => entries.saturating_mul(BLOCKS).min(MOST),
        _ => WITHOUT_BLOCKS,
    }
}

fn not_negative(args: &Args<'_>, at: usize, name: &str) -> Result<u64, Fail> {
    let negative = || Fail::text(format!("ERR The {name} argument must be >= 0."));
    u64::try_from(args.integer(at)?).map_err(|_| negative())
}

/// The id that an entry gets behind `last`.
fn next_id(wanted: Wanted, last: StreamId, now_ms: u64) -> Result<StreamId, Fail> {
    let too_small = || {
        Fail::text(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        )
    };
    if last == StreamId::MAX {
        return Err(Fail::text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = match wanted {
        Wanted::This(id) => id,
        Wanted::NextOf(ms) if ms == last.ms => {
            StreamId::new(ms, last.seq.checked_add(1).ok_or_else(too_small)?)
        }
        Wanted::NextOf(ms) => StreamId::new(ms, 0),
        // The clock may have stepped back.
        Wanted::Next if now_ms > last.ms => StreamId::new(now_ms, 0),
        Wanted::Next => last.next().ok_or_else(too_small)?,
    };
    if id > last { Ok(id) } else { Err(too_small()) }
}

pub(super) fn xadd(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let options = Options::read(args, true)?;
    let count = args.len() - options.fields_at;
    let wanted = options.id.filter(|_| count >= 2 && count.is_multiple_of(2));
    let wanted = wanted.ok_or(Fail::text("ERR wrong number of arguments for 'xadd' command"))?;
    if wanted == Wanted::This(StreamId::MIN) {
        return Err(Fail::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = args.key(1);
    let mut stream = match Stream::load(view, key)? {
        Some(stream) => stream,
        None if options.unless_missing => {
            out.null();
            return Ok(());
        }
        None => Stream::create(view, key),
    };
    let id = next_id(wanted, stream.header.last, view.now_ms)?;
    let bytes = args.from(options.fields_at).map(<[u8]>::len).sum();
    if bytes > ENTRY_BYTES_MAX {
        return Err(Fail::text("ERR Elements are too large to be stored"));
    }
    let block = stream.count(id, bytes);
    let trimmed = match &options.trim {
        Some(trim) => trim.run(view, &mut stream, Some((id, block)))?,
        None => Trimmed::default(),
    };
    if !trimmed.added {
        stream.put_entry(view, id, args.pairs(options.fields_at));
    }
    stream.save(view);
    view.notify(Class::STREAM, "xadd", key);
    if trimmed.deleted > 0 {
        view.notify(Class::STREAM, "xtrim", key);
    }
    id::write(id, out);
    Ok(())
}

pub(super) fn xtrim(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let options = Options::read(args, false)?;
    let (stream, trim) = (Stream::load(view, args.key(1))?, options.trim);
    let deleted = match (stream, trim) {
        (Some(mut stream), Some(trim)) => {
            let before = stream.header;
            let trimmed = trim.run(view, &mut stream, None)?;
            // What was counted is remembered.
            if stream.header != before {
                stream.save(view);
            }
            if trimmed.deleted > 0 {
                view.notify(Class::STREAM, "xtrim", stream.key);
            }
            trimmed.deleted
        }
        _ => 0,
    };
    out.integer(deleted.cast_signed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_whatever_the_clock_does() {
        let id = StreamId::new;
        let next = |wanted, last| next_id(wanted, last, 100).ok();
        assert_eq!(next(Wanted::Next, id(99, 5)), Some(id(100, 0)));
        assert_eq!(next(Wanted::Next, id(100, 5)), Some(id(100, 6)));
        assert_eq!(next(Wanted::Next, id(200, u64::MAX)), Some(id(201, 0)));
        assert_eq!(next(Wanted::NextOf(0), StreamId::MIN), Some(id(0, 1)));
        assert_eq!(next(Wanted::NextOf(7), id(7, 7)), Some(id(7, 8)));
        assert_eq!(next(Wanted::NextOf(7), id(8, 0)), None);
        assert_eq!(next(Wanted::NextOf(7), id(7, u64::MAX)), None);
        assert_eq!(next(Wanted::This(id(7, 7)), id(7, 7)), None);
        assert_eq!(next(Wanted::Next, StreamId::MAX), None);
    }
}
