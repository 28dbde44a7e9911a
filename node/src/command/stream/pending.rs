//! XACK and XPENDING.

use keyspace::stream::{Consumer, StreamId, Subkey};
use resp::reply::Writer;

use super::group::{Group, Walk};
use super::id;
use super::log::{Stream, counted, damaged};
use crate::command::{Answer, Args, Fail};
use crate::worker::{Direction, View};

pub(super) const ALL: (StreamId, StreamId) = (StreamId::MIN, StreamId::MAX);

/// The stream and the group of a command.
pub(super) fn find<'k>(
    view: &mut View<'_>,
    args: &Args<'k>,
    key: usize,
) -> Result<Option<(Stream<'k>, Group<'k>)>, Fail> {
    let Some(stream) = Stream::load(view, args.key(key))? else { return Ok(None) };
    let group = Group::load(view, &stream, args.at(key + 1))?;
    Ok(group.map(|group| (stream, group)))
}

/// Where there is no such stream or group.
pub(super) fn no_group(args: &Args<'_>) -> Fail {
    let (key, group) = (String::from_utf8_lossy(args.at(1)), String::from_utf8_lossy(args.at(2)));
    Fail::text(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

pub(super) fn xack(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let Some((_, mut group)) = find(view, args, 1)? else {
        out.integer(0);
        return Ok(());
    };
    let ids: Vec<_> = args.from(3).map(id::strict).collect::<Result<_, _>>()?;
    let mut acknowledged = 0;
    for id in ids {
        if let Some(delivery) = group.delivery(view, id)? {
            group.release(view, id, &delivery.consumer)?;
            acknowledged += 1;
        }
    }
    if acknowledged > 0 {
        group.save(view);
    }
    out.integer(acknowledged);
    Ok(())
}

/// A part of what is pending.
struct Window<'a> {
    idle_ms: u64,
    range: (StreamId, StreamId),
    most: u64,
    consumer: Option<&'a [u8]>,
}

impl<'a> Window<'a> {
    fn read(args: &Args<'a>) -> Result<Self, Fail> {
        let mut at = 3;
        let mut idle_ms = 0;
        if args.is(at, "idle") {
            idle_ms = u64::try_from(args.integer(at + 1)?).unwrap_or(0);
            if args.len() < 8 {
                return Err(Fail::Syntax);
            }
            at += 2;
        }
        let most = u64::try_from(args.integer(at + 2)?).unwrap_or(0);
        let range = (id::start(args.at(at))?, id::end(args.at(at + 1))?);
        Ok(Self { idle_ms, range, most, consumer: args.get(at + 3) })
    }
}

pub(super) fn xpending(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    if args.len() != 3 && !(6..=9).contains(&args.len()) {
        return Err(Fail::Syntax);
    }
    let window = if args.len() > 3 { Some(Window::read(args)?) } else { None };
    let (stream, mut group) = find(view, args, 1)?.ok_or_else(|| no_group(args))?;
    let Some(window) = window else { return summary(view, &stream, &group, out) };
    if let Some(consumer) = window.consumer
        && group.consumer(view, consumer)?.is_none()
    {
        out.array(0);
        return Ok(());
    }
    let mut walk = group.walk(view, window.consumer, window.range, Direction::Up)?;
    counted(out, |out| {
        let mut left = window.most;
        let mut count = 0;
        while left > 0
            && let Some((id, delivery)) = walk.step()?
        {
            // A consumer's own order has ids only.
            let delivery = match delivery {
                Some(delivery) => delivery,
                None => group.delivery(view, id)?.ok_or_else(|| damaged("a pending entry"))?,
            };
            let idle_ms = view.now_ms.saturating_sub(delivery.delivered_ms);
            if window.idle_ms > 0 && idle_ms < window.idle_ms {
                continue;
            }
            left -= 1;
            count += 1;
            out.array(4);
            id::write(id, out);
            out.bulk(&delivery.consumer);
            out.integer(idle_ms.cast_signed());
            out.integer(delivery.deliveries.cast_signed());
        }
        Ok(count)
    })?;
    Ok(())
}

fn summary(
    view: &mut View<'_>,
    stream: &Stream<'_>,
    group: &Group<'_>,
    out: &mut Writer<'_>,
) -> Answer {
    out.array(4);
    out.integer(group.record.pending.cast_signed());
    let mut edge = |direction| -> Result<_, Fail> {
        let mut walk: Walk<'_> = group.walk(view, None, ALL, direction)?;
        Ok(walk.step()?.map(|(id, _)| id))
    };
    let (Some(first), Some(last)) = (edge(Direction::Up)?, edge(Direction::Down)?) else {
        out.null();
        out.null();
        out.null_array();
        return Ok(());
    };
    id::write(first, out);
    id::write(last, out);
    let prefix = Subkey::consumers(group.record.version);
    let mut consumers = stream.records(view, &prefix, &prefix)?;
    counted(out, |out| {
        let mut count = 0;
        while let Some((subkey, value)) = consumers.step()? {
            let pending = Consumer::decode(value)?.pending;
            if pending > 0 {
                count += 1;
                out.array(2);
                out.bulk(&subkey[prefix.len()..]);
                out.bulk(itoa::Buffer::new().format(pending).as_bytes());
            }
        }
        Ok(count)
    })?;
    Ok(())
}
