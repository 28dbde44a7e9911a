//! XREADGROUP: what a group has not delivered yet, or what a consumer has not acknowledged.

use keyspace::meta::Type;
use keyspace::stream::{Entry, StreamId};
use resp::reply::Writer;

use super::group::{Delivery, Group};
use super::id;
use super::log::{Stream, collect, counted, write};
use super::read::{Options, write_key, write_streams};
use crate::command::{Answer, Args, Fail};
use crate::worker::{Direction, Until, View};

/// The floor of a group's pending entries is looked for once so many were acknowledged: what is
/// deleted below it is not looked at again.
const ACKED_MAX: u64 = 64;

/// What is asked of one stream.
enum Ask {
    /// `>`: what no consumer has got.
    New,
    /// What this consumer has not acknowledged, above an id.
    History(StreamId),
}

/// A stream and its group, and what is to be written when all has been read.
struct Turn<'k> {
    stream: Stream<'k>,
    group: Group<'k>,
    /// Entries that no consumer had.
    delivered: Vec<StreamId>,
    /// Entries that the consumer had before.
    again: Vec<StreamId>,
    /// The first pending entry, where it was looked for.
    floor: Option<StreamId>,
}

fn ask(text: &[u8]) -> Result<Ask, Fail> {
    match text {
        b">" => Ok(Ask::New),
        b"$" => Err(Fail::text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        _ => id::strict(text).map(Ask::History),
    }
}

/// Where there is no such stream or group.
fn no_group(key: &[u8], group: &[u8]) -> Fail {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Fail::text(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
    ))
}

pub(super) fn xreadgroup(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let options = Options::read(args, true)?;
    let missing = || Fail::text("ERR Missing GROUP option for XREADGROUP");
    let (name, consumer) = options.group.ok_or_else(missing)?;
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(options.keys.len());
    let mut asks = Vec::with_capacity(options.keys.len());
    for (key, text) in options.pairs(args) {
        // The same stream may be named twice.
        let known = turns.iter().position(|turn| turn.stream.key == key);
        if known.is_none() {
            let stream = Stream::load(view, key)?.ok_or_else(|| no_group(key.name, name))?;
            let group =
                Group::load(view, &stream, name)?.ok_or_else(|| no_group(key.name, name))?;
            let (delivered, again) = (Vec::new(), Vec::new());
            turns.push(Turn { stream, group, delivered, again, floor: None });
        }
        asks.push((known.unwrap_or(turns.len() - 1), ask(text)?));
    }
    // All is read before anything is written.
    let mut replies = Vec::new();
    let mut body = Writer::new(&mut replies, out.version());
    let mut served = 0;
    for (turn, ask) in asks {
        let turn = &mut turns[turn];
        let most = options.most;
        served += usize::from(match ask {
            Ask::New => turn.read_new(view, most, &mut body)?,
            Ask::History(after) => turn.read_again(view, consumer, (after, most), &mut body)?,
        });
    }
    // Who waits has been seen when that began; a write of each look would wake all others who wait.
    if served > 0 || view.note().is_none() {
        for turn in &mut turns {
            turn.write(view, consumer, options.no_ack)?;
        }
    }
    match options.block {
        Some(timeout) if served == 0 => {
            let until = Until::keys(options.keys, Type::Stream, timeout);
            view.wait(Until { any_change: true, ..until }, out)
        }
        _ => {
            write_streams(served, &replies, out);
            Ok(())
        }
    }
}

impl Turn<'_> {
    fn read_new(
        &mut self,
        view: &mut View<'_>,
        most: usize,
        out: &mut Writer<'_>,
    ) -> Result<bool, Fail> {
        let Some(from) = self.group.record.last.next() else { return Ok(false) };
        let mut walk = self.stream.walk(view, from, StreamId::MAX, Direction::Up)?;
        let Self { stream, group, delivered, .. } = self;
        let (count, entries) = collect(&mut walk, most, out.version(), |id| {
            group.advance(&stream.header, id);
            delivered.push(id);
        })?;
        if count == 0 {
            return Ok(false);
        }
        write_key(stream.key, out);
        out.array(count);
        out.raw(&entries);
        if self.group.record.acked >= ACKED_MAX {
            let all = (StreamId::MIN, StreamId::MAX);
            let mut pending = self.group.walk(view, None, all, Direction::Up)?;
            self.floor = pending.step()?.map(|(id, _)| id);
        }
        Ok(true)
    }

    fn read_again(
        &mut self,
        view: &mut View<'_>,
        consumer: &[u8],
        (after, most): (StreamId, usize),
        out: &mut Writer<'_>,
    ) -> Result<bool, Fail> {
        write_key(self.stream.key, out);
        let Some(from) = after.next() else {
            out.array(0);
            return Ok(true);
        };
        let range = (from, StreamId::MAX);
        let mut walk = self.group.walk(view, Some(consumer), range, Direction::Up)?;
        counted(out, |out| {
            let mut count = 0;
            while count < most
                && let Some((id, _)) = walk.step()?
            {
                count += 1;
                match self.stream.entry(view, id)? {
                    Some(entry) => {
                        write(id, &Entry::decode(&entry)?, out)?;
                        self.again.push(id);
                    }
                    None => {
                        // Deleted, and still pending.
                        out.array(2);
                        id::write(id, out);
                        out.null_array();
                    }
                }
            }
            Ok(count)
        })?;
        Ok(true)
    }

    fn write(&mut self, view: &mut View<'_>, name: &[u8], no_ack: bool) -> Result<(), Fail> {
        let now_ms = view.now_ms;
        let (consumer, _) = self.group.seen(view, name)?;
        if !no_ack && !self.delivered.is_empty() {
            consumer.active_ms = Some(now_ms);
        }
        if let Some(floor) = self.floor {
            (self.group.record.floor, self.group.record.acked) = (floor, 0);
        }
        let delivered = self.delivered.iter().filter(|_| !no_ack);
        for &id in delivered {
            // XGROUP SETID may have gone back to what is pending.
            let before = self.group.delivery(view, id)?;
            let now = Delivery { delivered_ms: now_ms, deliveries: 1, consumer: name.to_vec() };
            self.group.deliver(view, id, before.as_ref(), &now)?;
        }
        for &id in &self.again {
            let Some(before) = self.group.delivery(view, id)? else { continue };
            let deliveries = before.deliveries.saturating_add(1);
            let now = Delivery { delivered_ms: now_ms, deliveries, ..before.clone() };
            self.group.deliver(view, id, Some(&before), &now)?;
        }
        self.group.save(view);
        Ok(())
    }
}
