//! RESTORE of a stream: versions 1, 2 and 3 of its form (Redis: rdb.c).

use std::borrow::Cow;
use std::collections::BTreeMap;

use keyspace::stream::{Consumer, Group as Record, Header, StreamId};
use wal::batch::MAX_BATCH;

use super::dump::SAME_FIELDS;
use super::group::{Delivery, Group};
use super::log::Stream;
use super::progress::place;
use crate::command::Fail;
use crate::command::rdb::{Form, Load};
use crate::worker::{Key, View};

/// An entry's flag in a packed list: it is none any more.
const DELETED: i64 = 1;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream that was read whole before anything is written.
pub(in crate::command) struct Loaded {
    header: Header,
    entries: Vec<(StreamId, Pairs)>,
    groups: BTreeMap<Vec<u8>, LoadedGroup>,
}

struct LoadedGroup {
    last: StreamId,
    read: Option<u64>,
    pending: BTreeMap<StreamId, Delivery>,
    consumers: BTreeMap<Vec<u8>, (u64, Option<u64>)>,
}

fn id(load: &mut Load<'_>) -> Option<StreamId> {
    Some(StreamId::new(load.length()?, load.length()?))
}

fn raw_id(load: &mut Load<'_>) -> Option<StreamId> {
    load.number().map(StreamId::from_bytes)
}

/// Milliseconds; below zero: never.
fn time(load: &mut Load<'_>) -> Option<Option<u64>> {
    load.number().map(|bytes| u64::try_from(i64::from_le_bytes(bytes)).ok())
}

/// What is left of a packed list.
struct Elements<'a>(std::vec::IntoIter<Cow<'a, [u8]>>);

impl Elements<'_> {
    fn bytes(&mut self) -> Option<Vec<u8>> {
        self.0.next().map(Cow::into_owned)
    }

    fn integer(&mut self) -> Option<i64> {
        resp::integer(&self.0.next()?)
    }

    /// An integer that counts something.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.integer()?).ok()
    }
}

/// The entries of one packed list, in ids above `after`. `bytes` counts what they come to: a few
/// long fields may stand for very many.
fn read_node(
    load: &mut Load<'_>,
    mut after: StreamId,
    entries: &mut Vec<(StreamId, Pairs)>,
    bytes: &mut usize,
) -> Option<StreamId> {
    let master = StreamId::from_bytes(load.string()?.try_into().ok()?);
    let list = load.string()?;
    let mut list = Elements(packed::listpack(&list).ok()?.into_iter());
    let (count, deleted, fields) = (list.count()?, list.count()?, list.count()?);
    let fields: Vec<_> = (0..fields).map(|_| list.bytes()).collect::<Option<_>>()?;
    (list.integer()? == 0).then_some(())?;
    for _ in 0..count.checked_add(deleted)? {
        let (flags, ms, seq) = (list.integer()?, list.integer()?, list.integer()?);
        let same = flags & SAME_FIELDS != 0;
        let id = StreamId {
            ms: master.ms.wrapping_add_signed(ms),
            seq: master.seq.wrapping_add_signed(seq),
        };
        let count = if same { fields.len() } else { list.count()? };
        let mut known = fields.iter().take(if same { count } else { 0 });
        let mut pairs = Vec::new();
        for _ in 0..count {
            let field = match known.next() {
                Some(field) => field.clone(),
                None => list.bytes()?,
            };
            pairs.push((field, list.bytes()?));
        }
        *bytes += pairs.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>();
        (*bytes <= MAX_BATCH).then_some(())?;
        // How many elements the entry has, for those who read from behind.
        list.integer()?;
        if flags & DELETED == 0 {
            (id > after).then_some(())?;
            after = id;
            entries.push((id, pairs));
        }
    }
    list.0.as_slice().is_empty().then_some(after)
}

impl Loaded {
    /// `None`: the bytes make no sense.
    pub(in crate::command) fn read(load: &mut Load<'_>, form: Form) -> Option<Self> {
        let mut entries = Vec::new();
        let (mut last, mut bytes) = (StreamId::MIN, 0);
        for _ in 0..load.length()? {
            last = read_node(load, last, &mut entries, &mut bytes)?;
        }
        let length = load.length()?;
        (length == entries.len() as u64).then_some(())?;
        let mut header = Header { length, added: length, last: id(load)?, ..Header::default() };
        (last <= header.last).then_some(())?;
        header.first = entries.first().map_or(StreamId::MIN, |(id, _)| *id);
        if form != Form::Stream1 {
            // Where the first entry is can be seen.
            id(load)?;
            header.max_deleted = id(load)?;
            header.added = load.length()?;
        }
        let mut groups = BTreeMap::new();
        for _ in 0..load.length()? {
            let name = load.string()?;
            let group = LoadedGroup::read(load, form, &header)?;
            groups.insert(name, group).is_none().then_some(())?;
        }
        Some(Self { header, entries, groups })
    }

    /// Writes it in place of what the key holds.
    pub(in crate::command) fn write(
        self,
        view: &mut View<'_>,
        key: Key<'_>,
        expire_ms: u64,
    ) -> Result<(), Fail> {
        let mut stream = Stream::create(view, key);
        stream.set_expiry(expire_ms);
        for (id, pairs) in &self.entries {
            let bytes = pairs.iter().map(|(field, value)| field.len() + value.len()).sum();
            stream.count(*id, bytes);
            stream.put_entry(view, *id, pairs.iter().map(|(f, v)| (&f[..], &v[..])));
        }
        let header = &mut stream.header;
        (header.last, header.max_deleted) = (self.header.last, self.header.max_deleted);
        (header.added, header.groups) = (self.header.added, self.groups.len() as u64);
        stream.save(view);
        for (name, loaded) in &self.groups {
            let record = Record::new(view.version(), loaded.last, loaded.read);
            let mut group = Group::of(&stream, name, record);
            for (name, &(seen_ms, active_ms)) in &loaded.consumers {
                group.put_consumer(name, Consumer { seen_ms, active_ms, pending: 0 });
            }
            for (id, delivery) in &loaded.pending {
                group.deliver(view, *id, None, delivery)?;
            }
            group.save(view);
        }
        Ok(())
    }
}

impl LoadedGroup {
    fn read(load: &mut Load<'_>, form: Form, header: &Header) -> Option<Self> {
        let last = id(load)?;
        let read = match form {
            Form::Stream1 => place(header, last),
            // All bits set stand for a number that is not known.
            _ => Some(load.length()?).filter(|&read| i64::try_from(read).is_ok()),
        };
        let mut unowned = BTreeMap::new();
        for _ in 0..load.length()? {
            let (id, delivered) = (raw_id(load)?, time(load)?);
            let times = (delivered.unwrap_or(0), load.length()?);
            unowned.insert(id, times).is_none().then_some(())?;
        }
        let (mut pending, mut consumers) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..load.length()? {
            let name = load.string()?;
            let seen = time(load)?;
            let active = if form == Form::Stream3 { time(load)? } else { seen };
            let times = (seen.unwrap_or(0), active);
            consumers.insert(name.clone(), times).is_none().then_some(())?;
            for _ in 0..load.length()? {
                let id = raw_id(load)?;
                let (delivered_ms, deliveries) = unowned.remove(&id)?;
                let delivery = Delivery { delivered_ms, deliveries, consumer: name.clone() };
                pending.insert(id, delivery);
            }
        }
        // Every pending entry is somebody's.
        unowned.is_empty().then_some(Self { last, read, pending, consumers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::rdb::Dump;
    use crate::command::stream::listpack::Packed;

    /// A stream of two entries, one of them with other fields, and a group with a pending entry.
    fn body() -> Vec<u8> {
        let mut list = Packed::new();
        [2, 0, 1].into_iter().for_each(|value| list.integer(value));
        list.string(b"f");
        [0, SAME_FIELDS, 0, 0].into_iter().for_each(|value| list.integer(value));
        list.string(b"v");
        [4, 0, 1, 0, 1].into_iter().for_each(|value| list.integer(value));
        list.string(b"g");
        list.integer(-7);
        list.integer(6);
        let mut dump = Dump::part();
        dump.length(1);
        dump.string(&StreamId::new(1, 0).bytes());
        dump.string(&list.end());
        [2, 2, 0, 1, 0, 0, 0, 2, 1].into_iter().for_each(|number| dump.length(number));
        dump.string(b"group");
        [1, 0, 1, 1].into_iter().for_each(|number| dump.length(number));
        dump.bytes(&StreamId::new(1, 0).bytes());
        dump.bytes(&5u64.to_le_bytes());
        dump.length(1);
        dump.length(1);
        dump.string(b"alice");
        dump.bytes(&7u64.to_le_bytes());
        dump.bytes(&(-1i64).to_le_bytes());
        dump.length(1);
        dump.bytes(&StreamId::new(1, 0).bytes());
        dump.into_bytes()
    }

    fn read(body: &[u8]) -> Option<Loaded> {
        let mut dump = Dump::new(Form::Stream3);
        dump.bytes(body);
        let bytes = dump.end();
        let mut load = Load::new(&bytes)?;
        let form = load.form()?;
        Loaded::read(&mut load, form).filter(|_| load.end().is_some())
    }

    #[test]
    fn a_stream_is_read_whole_or_not_at_all() {
        let body = body();
        let stream = read(&body).unwrap();
        assert_eq!(stream.entries[1], (StreamId::new(2, 0), vec![(b"g".to_vec(), b"-7".to_vec())]));
        let group = &stream.groups[&b"group"[..]];
        assert_eq!(group.pending[&StreamId::new(1, 0)].consumer, b"alice");
        assert_eq!(group.consumers[&b"alice"[..]], (7, None));
        for cut in 0..body.len() {
            assert!(read(&body[..cut]).is_none(), "{cut}");
        }
        // Whatever a byte is, nothing panics and nothing is allocated that is not there.
        for at in 0..body.len() {
            for byte in [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc3, 0xf0, 0xf4, 0xff, body[at] ^ 1] {
                let mut damaged = body.clone();
                damaged[at] = byte;
                let _ = read(&damaged);
            }
        }
    }
}
