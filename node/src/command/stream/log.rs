//! A stream and its entries.

use std::ops::Bound;

use keyspace::meta::{Collection, Type};
use keyspace::stream::{Entry, Header, StreamId, Subkey, write_entry};
use keyspace::{Cf, Hlc};
use resp::Version;
use resp::reply::Writer;

use super::id;
use crate::command::Fail;
use crate::command::encoding::{STREAM_NODE_BYTES, STREAM_NODE_ENTRIES};
use crate::worker::{Direction, Entries, Head, Key, Text, View};

/// A stream, as its records said when it was loaded. What a command changes, it [saves](Self::save).
pub(super) struct Stream<'k> {
    pub(super) key: Key<'k>,
    head: Head,
    pub(super) header: Header,
    /// Its key is not there yet.
    new: bool,
}

/// What is missing from a stream that has it.
pub(super) fn damaged(what: &str) -> Fail {
    Fail::text(format!("ERR this stream is damaged: {what} is missing"))
}

impl<'k> Stream<'k> {
    /// `None`: there is none. An error if the key is of another type.
    pub(super) fn load(view: &mut View<'_>, key: Key<'k>) -> Result<Option<Self>, Fail> {
        let Some(head) = view.head(key, Type::Stream)? else { return Ok(None) };
        let header = view.data(key, head.at.version, &Subkey::HEADER)?;
        let header = Header::decode(&header.ok_or_else(|| damaged("its header"))?)?;
        Ok(Some(Self { key, head, header, new: false }))
    }

    /// An empty one, where there is none.
    pub(super) fn create(view: &mut View<'_>, key: Key<'k>) -> Self {
        let mut head = view.create(Type::Stream);
        // The header: a stream without entries is a key all the same.
        head.at.size = 1;
        Self { key, head, header: Header::default(), new: true }
    }

    /// What its records are filed under.
    pub(super) fn version(&self) -> Hlc {
        self.head.at.version
    }

    /// Whether its key is not there yet.
    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// When its key expires; set before a new one is saved.
    pub(super) fn set_expiry(&mut self, expire_ms: u64) {
        self.head.expire_ms = expire_ms;
    }

    /// Writes the header, and the key if that is new.
    pub(super) fn save(&self, view: &mut View<'_>) {
        if self.new {
            view.put_head(self.key, &self.head);
        }
        let mut bytes = Vec::with_capacity(80);
        self.header.encode(&mut bytes);
        view.put_data(self.key, self.version(), &Subkey::HEADER, &bytes);
    }

    /// Counts an entry that is added at the end, `bytes` long; the number of its block. The caller
    /// writes it.
    pub(super) fn count(&mut self, id: StreamId, bytes: usize) -> u64 {
        let (header, bytes) = (&mut self.header, bytes as u64);
        let is_past =
            |limit: i64, count: u64| u64::try_from(limit).is_ok_and(|l| l > 0 && count > l);
        let full = is_past(STREAM_NODE_ENTRIES.get(), header.block_entries + 1)
            || is_past(STREAM_NODE_BYTES.get(), header.block_bytes + bytes);
        if header.block_entries > 0 && full {
            header.block += 1;
            (header.block_entries, header.block_bytes) = (0, 0);
        }
        header.block_entries += 1;
        header.block_bytes += bytes;
        header.length += 1;
        header.added += 1;
        header.last = id;
        if header.length == 1 {
            header.first = id;
            (header.head_block, header.head_entries) = (header.block, 1);
        } else if header.head_entries > 0 && header.head_block == header.block {
            header.head_entries += 1;
        }
        header.block
    }

    /// Writes an entry of the last block.
    pub(super) fn put_entry<'a>(
        &self,
        view: &mut View<'_>,
        id: StreamId,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ) {
        let mut bytes = Vec::with_capacity(128);
        write_entry(self.header.block, pairs, &mut bytes);
        view.put_data(self.key, self.version(), &Subkey::entry(id), &bytes);
    }

    /// An entry's value.
    pub(super) fn entry<'v>(
        &self,
        view: &'v mut View<'_>,
        id: StreamId,
    ) -> Result<Option<Text<'v>>, Fail> {
        view.data(self.key, self.version(), &Subkey::entry(id))
    }

    /// Deletes an entry; the header is the caller's.
    pub(super) fn delete_entry(&self, view: &mut View<'_>, id: StreamId) {
        view.delete_data(self.key, self.version(), &Subkey::entry(id));
    }

    /// Its entries from one id to another, both included. To be called before the command's first
    /// write.
    pub(super) fn walk<'a>(
        &self,
        view: &mut View<'a>,
        from: StreamId,
        to: StreamId,
        direction: Direction,
    ) -> Result<Walk<'a>, Fail> {
        // What was trimmed off the head is not looked at again.
        let (from, to) = (from.max(self.header.first), to.min(self.header.last));
        if self.header.length == 0 || from > to {
            return Ok(Walk(None));
        }
        let (from, to) = (Subkey::entry(from), Subkey::entry(to));
        let (from, to) = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        view.iterate(Cf::Data, self.key, self.version(), from, to, direction)
            .map(|entries| Walk(Some(entries)))
    }

    /// Its records whose subkeys begin with `prefix`. To be called before the command's first write.
    pub(super) fn records<'a>(
        &self,
        view: &mut View<'a>,
        prefix: &[u8],
        from: &[u8],
    ) -> Result<Entries<'a>, Fail> {
        let mut end = prefix.to_vec();
        // No prefix is all 0xff: it begins with the record's kind.
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let (from, to) = (Bound::Included(from), Bound::Excluded(&end[..]));
        view.iterate(Cf::Data, self.key, self.version(), from, to, Direction::Up)
    }
}

/// Entries, one after the other.
pub(super) struct Walk<'a>(Option<Entries<'a>>);

impl Walk<'_> {
    /// The next one.
    pub(super) fn step(&mut self) -> Result<Option<(StreamId, Entry<'_>)>, Fail> {
        let Some(entries) = &mut self.0 else { return Ok(None) };
        let Some((subkey, value)) = entries.step()? else { return Ok(None) };
        match Subkey::decode(subkey)? {
            Subkey::Entry(id) => Ok(Some((id, Entry::decode(value)?))),
            _ => Err(damaged("an entry's id")),
        }
    }
}

/// Answers an entry: its id, then its fields and values.
pub(super) fn write(id: StreamId, entry: &Entry<'_>, out: &mut Writer<'_>) -> Result<(), Fail> {
    out.array(2);
    id::write(id, out);
    out.array(usize::try_from(entry.fields).unwrap_or(0) * 2);
    for pair in entry.pairs() {
        let (field, value) = pair?;
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}

/// The answers of the next entries, so many at most, and how many they are; `each` hears of their ids.
pub(super) fn collect(
    walk: &mut Walk<'_>,
    most: usize,
    version: Version,
    mut each: impl FnMut(StreamId),
) -> Result<(usize, Vec<u8>), Fail> {
    let (mut count, mut bytes) = (0, Vec::new());
    let mut out = Writer::new(&mut bytes, version);
    while count < most
        && let Some((id, entry)) = walk.step()?
    {
        write(id, &entry, &mut out)?;
        each(id);
        count += 1;
    }
    Ok((count, bytes))
}

/// Answers an array whose length is known when `body` has written it.
pub(super) fn counted(
    out: &mut Writer<'_>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<usize, Fail>,
) -> Result<usize, Fail> {
    let mut bytes = Vec::new();
    let count = body(&mut Writer::new(&mut bytes, out.version()))?;
    out.array(count);
    out.raw(&bytes);
    Ok(count)
}

/// What a stream's records take, in bytes: entries by a sample of at most so many.
pub(in crate::command) fn memory(
    view: &mut View<'_>,
    key: Key<'_>,
    at: &Collection,
    samples: u64,
    record_bytes: u64,
) -> Result<u64, Fail> {
    let Some(stream) = Stream::load(view, key)? else { return Ok(0) };
    let mut walk = view.entries(key, at.version)?;
    let (mut seen, mut sampled, mut others) = (0, 0, 0);
    while let Some((subkey, value)) = walk.step()? {
        let bytes = record_bytes + subkey.len() as u64 + value.len() as u64;
        match Subkey::decode(subkey)? {
            Subkey::Header => others += bytes,
            Subkey::Entry(_) if seen < samples => (seen, sampled) = (seen + 1, sampled + bytes),
            _ => break,
        }
    }
    let mut groups = stream.records(view, &Subkey::GROUPS, &Subkey::GROUPS)?;
    while let Some((subkey, value)) = groups.step()? {
        let group = keyspace::stream::Group::decode(value)?;
        // A pending entry is filed twice, with its id, its group's version and some numbers.
        const PENDING_BYTES: u64 = 2 * (1 + 8 + 16) + 10;
        others += record_bytes + subkey.len() as u64 + value.len() as u64;
        others += (2 * record_bytes + PENDING_BYTES) * group.pending;
        others += record_bytes * group.consumers;
    }
    let entries = u128::from(sampled) * u128::from(stream.header.length) / u128::from(seen.max(1));
    Ok(u64::try_from(entries).unwrap_or(u64::MAX).saturating_add(others))
}
