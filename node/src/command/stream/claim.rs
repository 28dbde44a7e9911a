//! XCLAIM and XAUTOCLAIM: pending entries get another consumer.

use keyspace::stream::{Entry, StreamId};
use resp::reply::Writer;

use super::group::{Delivery, Group};
use super::id;
use super::log::{Stream, counted, write};
use super::pending::{find, no_group};
use crate::command::{Answer, Args, Fail};
use crate::worker::{Direction, View};

/// How claimed entries are filed and answered.
struct Claim<'a> {
    consumer: &'a [u8],
    /// Only what was not delivered for so long.
    idle_ms: u64,
    delivered_ms: u64,
    /// RETRYCOUNT; else one more than before, unless only ids are answered.
    deliveries: Option<u64>,
    /// JUSTID.
    only_ids: bool,
}

/// What became of an entry that was to be claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claimed {
    /// It is answered.
    Yes,
    /// It was delivered too short a time ago, or is not pending.
    No,
    /// It is not in the stream any more, and not pending any more either.
    Deleted,
}

impl Claim<'_> {
    /// Claims one entry. `create`: even if it is not pending.
    fn take(
        &self,
        view: &mut View<'_>,
        (stream, group): (&Stream<'_>, &mut Group<'_>),
        (id, before): (StreamId, Option<Delivery>),
        create: bool,
        out: &mut Writer<'_>,
    ) -> Result<Claimed, Fail> {
        let now_ms = view.now_ms;
        let Some(entry) = stream.entry(view, id)? else {
            let Some(before) = before else { return Ok(Claimed::No) };
            group.release(view, id, &before.consumer)?;
            return Ok(Claimed::Deleted);
        };
        let idle = |before: &Delivery| now_ms.saturating_sub(before.delivered_ms) >= self.idle_ms;
        match &before {
            None if !create => return Ok(Claimed::No),
            Some(before) if !idle(before) => return Ok(Claimed::No),
            _ => {}
        }
        match self.only_ids {
            true => id::write(id, out),
            false => write(id, &Entry::decode(&entry)?, out)?,
        }
        drop(entry);
        // What is filed by FORCE counts as delivered once already.
        let deliveries = before.as_ref().map_or(1, |before| before.deliveries);
        let counted = deliveries.saturating_add(u64::from(!self.only_ids));
        let now = Delivery {
            delivered_ms: self.delivered_ms,
            deliveries: self.deliveries.unwrap_or(counted),
            consumer: self.consumer.to_vec(),
        };
        group.deliver(view, id, before.as_ref(), &now)?;
        if let Some(consumer) = group.consumer(view, self.consumer)? {
            consumer.active_ms = Some(now_ms);
        }
        Ok(Claimed::Yes)
    }
}

fn idle(args: &Args<'_>, name: &str) -> Result<u64, Fail> {
    let bad = || Fail::text(format!("ERR Invalid min-idle-time argument for {name}"));
    Ok(u64::try_from(args.integer(4).map_err(|_| bad())?).unwrap_or(0))
}

pub(super) fn xclaim(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (stream, mut group) = find(view, args, 1)?.ok_or_else(|| no_group(args))?;
    let now_ms = view.now_ms;
    let idle_ms = idle(args, "XCLAIM")?;
    let (consumer, mut delivered) = (args.at(3), None);
    let (mut deliveries, mut force, mut only_ids) = (None, false, false);
    let ids: Vec<_> = args.from(5).map_while(|arg| id::strict(arg).ok()).collect();
    let mut at = 5 + ids.len();
    let mut last = StreamId::MIN;
    while at < args.len() {
        let number = |name: &str| {
            let bad = || Fail::text(format!("ERR Invalid {name} option argument for XCLAIM"));
            args.integer(at + 1).map_err(|_| bad())
        };
        let more = at + 1 < args.len();
        match &args.at(at).to_ascii_lowercase()[..] {
            b"force" => force = true,
            b"justid" => only_ids = true,
            b"idle" if more => delivered = Some(now_ms.cast_signed().wrapping_sub(number("IDLE")?)),
            b"time" if more => delivered = Some(number("TIME")?),
            b"retrycount" if more => deliveries = u64::try_from(number("RETRYCOUNT")?).ok(),
            b"lastid" if more => last = id::strict(args.at(at + 1))?,
            _ => {
                let option = String::from_utf8_lossy(args.at(at));
                return Err(Fail::text(format!("ERR Unrecognized XCLAIM option '{option}'")));
            }
        }
        let alone = args.is(at, "force") || args.is(at, "justid");
        at += if alone { 1 } else { 2 };
    }
    // A time that makes no sense is now: a client's clock may be ahead of ours.
    let sensible = |ms: &u64| *ms <= now_ms;
    let delivered_ms = delivered.and_then(|ms| u64::try_from(ms).ok()).filter(sensible);
    let delivered_ms = delivered_ms.unwrap_or(now_ms);
    let claim = Claim { consumer, idle_ms, delivered_ms, deliveries, only_ids };
    group.record.last = group.record.last.max(last);
    group.seen(view, consumer)?;
    counted(out, |out| {
        let mut count = 0;
        for id in ids {
            let before = group.delivery(view, id)?;
            let both = (&stream, &mut group);
            let claimed = claim.take(view, both, (id, before), force, out)?;
            count += usize::from(claimed == Claimed::Yes);
        }
        Ok(count)
    })?;
    group.save(view);
    Ok(())
}

pub(super) fn xautoclaim(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    /// How many pending entries are looked at for each one that is wanted.
    const LOOKED_AT: u64 = 10;
    const COUNT_DEFAULT: u64 = 100;
    const COUNT_MAX: i64 = i64::MAX / StreamId::LEN as i64;
    let idle_ms = idle(args, "XAUTOCLAIM")?;
    let start = id::start(args.at(5))?;
    let (mut count, mut only_ids) = (COUNT_DEFAULT, false);
    let mut at = 6;
    while at < args.len() {
        if at + 1 < args.len() && args.is(at, "count") {
            let number = resp::integer(args.at(at + 1)).filter(|n| (1..=COUNT_MAX).contains(n));
            count = number.ok_or(Fail::text("ERR COUNT must be > 0"))?.unsigned_abs();
            at += 2;
        } else if args.is(at, "justid") {
            only_ids = true;
            at += 1;
        } else {
            return Err(Fail::Syntax);
        }
    }
    let (stream, mut group) = find(view, args, 1)?.ok_or_else(|| no_group(args))?;
    let (consumer, delivered_ms) = (args.at(3), view.now_ms);
    let claim = Claim { consumer, idle_ms, delivered_ms, deliveries: None, only_ids };
    let mut walk = group.walk(view, None, (start, StreamId::MAX), Direction::Up)?;
    let from_floor = start <= group.record.floor;
    group.seen(view, consumer)?;
    let (mut left, mut looks) = (count, count.saturating_mul(LOOKED_AT));
    let (mut cursor, mut deleted) = (StreamId::MIN, Vec::new());
    let mut replies = Vec::new();
    let mut body = Writer::new(&mut replies, out.version());
    let mut claimed = 0;
    let mut floor = None;
    while let Some((id, before)) = walk.step()? {
        if left == 0 || looks == 0 {
            cursor = id;
            floor = floor.or(Some(id));
            break;
        }
        looks -= 1;
        match claim.take(view, (&stream, &mut group), (id, before), false, &mut body)? {
            Claimed::Deleted => {
                deleted.push(id);
                left -= 1;
            }
            taken => {
                floor = floor.or(Some(id));
                claimed += usize::from(taken == Claimed::Yes);
                left -= u64::from(taken == Claimed::Yes);
            }
        }
    }
    if let Some(floor) = floor.filter(|_| from_floor) {
        (group.record.floor, group.record.acked) = (floor, 0);
    }
    group.save(view);
    out.array(3);
    id::write(cursor, out);
    out.array(claimed);
    out.raw(&replies);
    out.array(deleted.len());
    deleted.iter().for_each(|&id| id::write(id, out));
    Ok(())
}
