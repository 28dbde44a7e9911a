//! DUMP of a stream, as Redis 7.2 writes it (Redis: rdb.c, `RDB_TYPE_STREAM_LISTPACKS_3`).

use keyspace::stream::{Consumer, Entry, Group as Record, StreamId, Subkey};

use super::group::Group;
use super::listpack::Packed;
use super::log::{Stream, damaged};
use super::pending::ALL;
use crate::command::Fail;
use crate::command::rdb::{Dump, Form};
use crate::worker::{Direction, Key, View};

/// Entries of one packed list, at most.
const NODE_ENTRIES_MAX: usize = 100;
/// A packed list of so many bytes takes no more entries.
const NODE_BYTES_MAX: usize = 4 << 10;

/// The number in a packed list of entries with deleted ones among them: there are none here.
const NOTHING_DELETED: i64 = 0;
/// An entry's flag: it has the fields of the first one.
pub(super) const SAME_FIELDS: i64 = 2;

/// A packed list of entries.
struct Node {
    first: StreamId,
    /// The fields of its first entry, which others need not repeat.
    fields: Vec<Vec<u8>>,
    count: i64,
    elements: Vec<Element>,
    bytes: usize,
}

/// What a packed list will hold: its count comes first and is known last.
enum Element {
    Integer(i64),
    String(Vec<u8>),
}

impl Node {
    fn new(first: StreamId, entry: &Entry<'_>) -> Result<Self, Fail> {
        let fields = entry.pairs().map(|pair| Ok(pair?.0.to_vec()));
        let fields = fields.collect::<Result<_, Fail>>()?;
        Ok(Self { first, fields, count: 0, elements: Vec::new(), bytes: 0 })
    }

    fn add(&mut self, id: StreamId, entry: &Entry<'_>) -> Result<(), Fail> {
        let pairs = entry.pairs().collect::<Result<Vec<_>, _>>()?;
        let same = pairs.len() == self.fields.len()
            && pairs.iter().zip(&self.fields).all(|((field, _), first)| field == first);
        let before = self.elements.len();
        let mut integer = |value: i64| self.elements.push(Element::Integer(value));
        integer(if same { SAME_FIELDS } else { 0 });
        integer(id.ms.wrapping_sub(self.first.ms).cast_signed());
        integer(id.seq.wrapping_sub(self.first.seq).cast_signed());
        if !same {
            integer(pairs.len() as i64);
        }
        for (field, value) in pairs {
            self.bytes += field.len() + value.len();
            if !same {
                self.elements.push(Element::String(field.to_vec()));
            }
            self.elements.push(Element::String(value.to_vec()));
        }
        let elements = self.elements.len() - before;
        self.elements.push(Element::Integer(elements as i64));
        self.count += 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.count as usize >= NODE_ENTRIES_MAX || self.bytes >= NODE_BYTES_MAX
    }

    fn end(self, dump: &mut Dump) {
        let mut packed = Packed::new();
        packed.integer(self.count);
        packed.integer(NOTHING_DELETED);
        packed.integer(self.fields.len() as i64);
        self.fields.iter().for_each(|field| packed.string(field));
        packed.integer(0);
        for element in &self.elements {
            match element {
                Element::Integer(value) => packed.integer(*value),
                Element::String(bytes) => packed.string(bytes),
            }
        }
        dump.string(&self.first.bytes());
        dump.string(&packed.end());
    }
}

/// A stream's serialised value.
pub(in crate::command) fn dump(view: &mut View<'_>, key: Key<'_>) -> Result<Vec<u8>, Fail> {
    let stream = Stream::load(view, key)?.ok_or_else(|| damaged("its key"))?;
    let (mut nodes, mut lists) = (0, Dump::part());
    let mut walk = stream.walk(view, StreamId::MIN, StreamId::MAX, Direction::Up)?;
    let mut node: Option<Node> = None;
    while let Some((id, entry)) = walk.step()? {
        if let Some(full) = node.take_if(|node| node.is_full()) {
            full.end(&mut lists);
            nodes += 1;
        }
        let node = match &mut node {
            Some(node) => node,
            none => none.insert(Node::new(id, &entry)?),
        };
        node.add(id, &entry)?;
    }
    if let Some(last) = node {
        last.end(&mut lists);
        nodes += 1;
    }
    let header = &stream.header;
    let mut dump = Dump::new(Form::Stream3);
    dump.length(nodes);
    dump.append(&lists);
    dump.length(header.length);
    for id in [header.last, header.first, header.max_deleted] {
        write_id(id, &mut dump);
    }
    dump.length(header.added);
    dump.length(header.groups);
    let mut groups = stream.records(view, &Subkey::GROUPS, &Subkey::GROUPS)?;
    while let Some((subkey, value)) = groups.step()? {
        let group = Group::of(&stream, &subkey[Subkey::GROUPS.len()..], Record::decode(value)?);
        dump_group(view, &stream, &group, &mut dump)?;
    }
    Ok(dump.end())
}

fn write_id(id: StreamId, dump: &mut Dump) {
    dump.length(id.ms);
    dump.length(id.seq);
}

fn dump_group(
    view: &mut View<'_>,
    stream: &Stream<'_>,
    group: &Group<'_>,
    dump: &mut Dump,
) -> Result<(), Fail> {
    dump.string(group.name);
    write_id(group.record.last, dump);
    // All bits set stand for a number that is not known.
    dump.length(group.record.read.unwrap_or(u64::MAX));
    dump.length(group.record.pending);
    let mut pending = group.walk(view, None, ALL, Direction::Up)?;
    while let Some((id, delivery)) = pending.step()? {
        let delivery = delivery.ok_or_else(|| damaged("a pending entry"))?;
        dump.bytes(&id.bytes());
        dump.bytes(&delivery.delivered_ms.to_le_bytes());
        dump.length(delivery.deliveries);
    }
    dump.length(group.record.consumers);
    let prefix = Subkey::consumers(group.record.version);
    let mut consumers = stream.records(view, &prefix, &prefix)?;
    while let Some((subkey, value)) = consumers.step()? {
        let (name, consumer) = (&subkey[prefix.len()..], Consumer::decode(value)?);
        dump.string(name);
        dump.bytes(&consumer.seen_ms.to_le_bytes());
        dump.bytes(&consumer.active_ms.map_or(-1, u64::cast_signed).to_le_bytes());
        dump.length(consumer.pending);
        let mut owned = group.walk(view, Some(name), ALL, Direction::Up)?;
        while let Some((id, _)) = owned.step()? {
            dump.bytes(&id.bytes());
        }
    }
    Ok(())
}
