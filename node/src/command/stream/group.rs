//! A consumer group, its consumers and its pending entries.

use std::collections::BTreeMap;
use std::ops::Bound;

use keyspace::stream::{Consumer, Group as Record, Pending, StreamId, Subkey};
use keyspace::{Cf, Hlc};

use super::log::Stream;
use crate::command::Fail;
use crate::worker::{Class, Direction, Entries, Key, View};

/// A group, as its records said when it was loaded. What a command changes, it [saves](Self::save).
pub(super) struct Group<'k> {
    key: Key<'k>,
    version: Hlc,
    pub(super) name: &'k [u8],
    pub(super) record: Record,
    /// Consumers that were looked at, by name; `None`: there is none.
    consumers: BTreeMap<Vec<u8>, Option<Consumer>>,
}

/// A pending entry.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// When it was last delivered.
    pub(super) delivered_ms: u64,
    /// How often it was delivered.
    pub(super) deliveries: u64,
    /// To whom; empty names are names too.
    pub(super) consumer: Vec<u8>,
}

impl From<Pending<'_>> for Delivery {
    fn from(pending: Pending<'_>) -> Self {
        let Pending { delivered_ms, deliveries, consumer } = pending;
        Self { delivered_ms, deliveries, consumer: consumer.to_vec() }
    }
}

impl<'k> Group<'k> {
    /// `None`: the stream has no group of this name.
    pub(super) fn load(
        view: &mut View<'_>,
        stream: &Stream<'k>,
        name: &'k [u8],
    ) -> Result<Option<Self>, Fail> {
        let version = stream.version();
        let Some(value) = view.data(stream.key, version, &Subkey::Group(name).bytes())? else {
            return Ok(None);
        };
        let record = Record::decode(&value)?;
        Ok(Some(Self::of(stream, name, record)))
    }

    /// The group that a record is of.
    pub(super) fn of(stream: &Stream<'k>, name: &'k [u8], record: Record) -> Self {
        let (key, version) = (stream.key, stream.version());
        Self { key, version, name, record, consumers: BTreeMap::new() }
    }

    /// Writes the group and the consumers that were looked at.
    pub(super) fn save(&self, view: &mut View<'_>) {
        let mut bytes = Vec::with_capacity(80);
        self.record.encode(&mut bytes);
        view.put_data(self.key, self.version, &Subkey::Group(self.name).bytes(), &bytes);
        for (name, consumer) in &self.consumers {
            let Some(consumer) = consumer else { continue };
            bytes.clear();
            consumer.encode(&mut bytes);
            let subkey = Subkey::Consumer(self.record.version, name).bytes();
            view.put_data(self.key, self.version, &subkey, &bytes);
        }
    }

    /// A consumer, to be looked at and changed.
    pub(super) fn consumer(
        &mut self,
        view: &mut View<'_>,
        name: &[u8],
    ) -> Result<Option<&mut Consumer>, Fail> {
        if !self.consumers.contains_key(name) {
            let subkey = Subkey::Consumer(self.record.version, name).bytes();
            let value = view.data(self.key, self.version, &subkey)?;
            let consumer = value.map(|value| Consumer::decode(&value)).transpose()?;
            self.consumers.insert(name.to_vec(), consumer);
        }
        Ok(self.consumers.get_mut(name).and_then(Option::as_mut))
    }

    /// A consumer that is asking for something now, and whether it is new.
    pub(super) fn seen(
        &mut self,
        view: &mut View<'_>,
        name: &[u8],
    ) -> Result<(&mut Consumer, bool), Fail> {
        let now_ms = view.now_ms;
        let new = self.consumer(view, name)?.is_none();
        self.record.consumers += u64::from(new);
        if new {
            view.notify(Class::STREAM, "xgroup-createconsumer", self.key);
        }
        let unseen = Consumer { seen_ms: now_ms, active_ms: None, pending: 0 };
        let slot = self.consumers.entry(name.to_vec()).or_default();
        let consumer = slot.get_or_insert(unseen);
        consumer.seen_ms = now_ms;
        Ok((consumer, new))
    }

    /// A consumer as it was elsewhere.
    pub(super) fn put_consumer(&mut self, name: &[u8], consumer: Consumer) {
        self.record.consumers += 1;
        self.consumers.insert(name.to_vec(), Some(consumer));
    }

    /// A pending entry.
    pub(super) fn delivery(
        &self,
        view: &mut View<'_>,
        id: StreamId,
    ) -> Result<Option<Delivery>, Fail> {
        // Nearly all that is delivered is delivered for the first time.
        if self.record.pending == 0 || id > self.record.top {
            return Ok(None);
        }
        let subkey = Subkey::Pending(self.record.version, id).bytes();
        let Some(value) = view.data(self.key, self.version, &subkey)? else { return Ok(None) };
        Ok(Some(Pending::decode(&value)?.into()))
    }

    /// Files an entry as pending, in place of how it was `before`.
    pub(super) fn deliver(
        &mut self,
        view: &mut View<'_>,
        id: StreamId,
        before: Option<&Delivery>,
        now: &Delivery,
    ) -> Result<(), Fail> {
        if before.is_none_or(|before| before.consumer != now.consumer) {
            if let Some(before) = before {
                self.take_from(view, id, &before.consumer)?;
            } else {
                let record = &mut self.record;
                record.floor = if record.pending == 0 { id } else { record.floor.min(id) };
                record.top = record.top.max(id);
                record.pending += 1;
            }
            if let Some(consumer) = self.consumer(view, &now.consumer)? {
                consumer.pending += 1;
            }
            let owned = Subkey::Owned(self.record.version, &now.consumer, id).bytes();
            view.put_data(self.key, self.version, &owned, b"");
        }
        let Delivery { delivered_ms, deliveries, ref consumer } = *now;
        let mut bytes = Vec::with_capacity(16 + consumer.len());
        Pending { delivered_ms, deliveries, consumer }.encode(&mut bytes);
        let subkey = Subkey::Pending(self.record.version, id).bytes();
        view.put_data(self.key, self.version, &subkey, &bytes);
        Ok(())
    }

    fn take_from(
        &mut self,
        view: &mut View<'_>,
        id: StreamId,
        consumer: &[u8],
    ) -> Result<(), Fail> {
        if let Some(consumer) = self.consumer(view, consumer)? {
            consumer.pending = consumer.pending.saturating_sub(1);
        }
        let owned = Subkey::Owned(self.record.version, consumer, id).bytes();
        view.delete_data(self.key, self.version, &owned);
        Ok(())
    }

    /// An entry is pending no more.
    pub(super) fn release(
        &mut self,
        view: &mut View<'_>,
        id: StreamId,
        consumer: &[u8],
    ) -> Result<(), Fail> {
        self.take_from(view, id, consumer)?;
        let subkey = Subkey::Pending(self.record.version, id).bytes();
        view.delete_data(self.key, self.version, &subkey);
        let record = &mut self.record;
        record.pending = record.pending.saturating_sub(1);
        record.acked = if record.pending == 0 { 0 } else { record.acked + 1 };
        Ok(())
    }

    /// Deletes the group's records and those of its consumers. All that is read is read before it.
    pub(super) fn delete_all(&self, view: &mut View<'_>, stream: &Stream<'_>) -> Result<(), Fail> {
        let version = self.record.version;
        let prefixes =
            [Subkey::consumers(version), Subkey::pending(version), Subkey::owned(version)];
        let walk = |prefix: &[u8; 9]| stream.records(view, prefix, prefix);
        let walks = prefixes.iter().map(walk).collect::<Result<Vec<_>, _>>()?;
        for mut walk in walks {
            while let Some((subkey, _)) = walk.step()? {
                view.delete_data(self.key, self.version, subkey);
            }
        }
        view.delete_data(self.key, self.version, &Subkey::Group(self.name).bytes());
        Ok(())
    }

    /// Forgets a consumer, whose pending entries the caller has released.
    pub(super) fn delete_consumer(&mut self, view: &mut View<'_>, name: &[u8]) {
        self.consumers.insert(name.to_vec(), None);
        self.record.consumers = self.record.consumers.saturating_sub(1);
        let subkey = Subkey::Consumer(self.record.version, name).bytes();
        view.delete_data(self.key, self.version, &subkey);
    }

    /// Pending entries from one id to another, both included, of one consumer or of all. To be called
    /// before the command's first write.
    pub(super) fn walk<'a>(
        &self,
        view: &mut View<'a>,
        consumer: Option<&[u8]>,
        (from, to): (StreamId, StreamId),
        direction: Direction,
    ) -> Result<Walk<'a>, Fail> {
        // What was acknowledged below is not looked at again.
        let (from, to) = (from.max(self.record.floor), to.min(self.record.top));
        if self.record.pending == 0 || from > to {
            return Ok(Walk(None));
        }
        let version = self.record.version;
        let subkey = |id| match consumer {
            Some(name) => Subkey::Owned(version, name, id).bytes(),
            None => Subkey::Pending(version, id).bytes(),
        };
        let (from, to) = (subkey(from), subkey(to));
        let (from, to) = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        view.iterate(Cf::Data, self.key, self.version, from, to, direction)
            .map(|records| Walk(Some(records)))
    }
}

/// Pending entries, one after the other.
pub(super) struct Walk<'a>(Option<Entries<'a>>);

impl Walk<'_> {
    /// The next id; and how it was delivered, if not only one consumer's are asked for.
    pub(super) fn step(&mut self) -> Result<Option<(StreamId, Option<Delivery>)>, Fail> {
        let Some(records) = &mut self.0 else { return Ok(None) };
        let Some((subkey, value)) = records.step()? else { return Ok(None) };
        match Subkey::decode(subkey)? {
            Subkey::Pending(_, id) => Ok(Some((id, Some(Pending::decode(value)?.into())))),
            Subkey::Owned(_, _, id) => Ok(Some((id, None))),
            _ => Err(super::log::damaged("a pending entry's id")),
        }
    }
}
