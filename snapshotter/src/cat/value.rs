//! What a key holds.

use std::path::PathBuf;

use anyhow::Context;
use keyspace::data::{self, DataValue};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::score::ScoreKey;
use keyspace::stream::{Entry, Group, Header, StreamId, Subkey};
use keyspace::{Cf, Slot};
use restore::Copy;
use rocksdb::{LiveFile, ReadOptions};

use super::sparse::is_hole;

/// What looking for a key came to.
pub(super) enum Looked {
    /// It is there.
    Found(Box<Found>),
    /// It is not.
    Nothing,
    /// These table files are needed to tell.
    Lacks(Vec<String>),
}

/// A key.
pub(super) struct Found {
    pub(super) kind: Type,
    pub(super) expire_ms: u64,
    /// How many elements it has; of a string its bytes.
    pub(super) size: u64,
    pub(super) value: Value,
}

/// What is under it; of a collection perhaps not all.
pub(super) enum Value {
    String(Vec<u8>),
    /// Field, value, and when the field expires.
    Hash(Vec<(Vec<u8>, Vec<u8>, u64)>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    /// By score.
    Zset(Vec<(Vec<u8>, f64)>),
    Stream(Stream),
}

/// Fields and values.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream.
pub(super) struct Stream {
    pub(super) last: StreamId,
    pub(super) entries: Vec<(StreamId, Pairs)>,
    /// Consumer groups by name, with what each delivered last, its consumers and its pending entries.
    pub(super) groups: Vec<(Vec<u8>, Group)>,
}

/// Looks for a key among the files that are there.
pub(super) fn look(dir: PathBuf, key: &[u8], now_ms: u64, limit: usize) -> anyhow::Result<Looked> {
    let copy = Copy::open(dir.clone())?;
    let lacks = |cf: Cf, from: &[u8], to: &[u8]| -> anyhow::Result<Vec<String>> {
        let files = copy.db().live_files().context("asking which files there are")?;
        let names = needed(&files, cf, from, to).into_iter();
        Ok(names.filter(|name| is_hole(&dir, name)).collect())
    };
    let slot = Slot::of_key(key);
    let mut raw = Vec::new();
    meta::encode_key(slot, key, &mut raw);
    let mut behind = raw.clone();
    behind.push(0);
    let missing = lacks(Cf::Meta, &raw, &behind)?;
    if !missing.is_empty() {
        return Ok(Looked::Lacks(missing));
    }
    let cf = copy.db().cf_handle(Cf::Meta.name()).context("the database has no keys")?;
    let Some(held) = copy.db().get_cf(cf, &raw).context("reading the key")? else {
        return Ok(Looked::Nothing);
    };
    let record = Meta::decode(&held).context("reading the key")?;
    if !record.is_live(now_ms) {
        return Ok(Looked::Nothing);
    }
    let (kind, expire_ms) = (record.kind(), record.expire_ms);
    let collection = match record.body {
        Body::String(bytes) => {
            let (size, value) = (bytes.len() as u64, Value::String(bytes.to_vec()));
            return Ok(Looked::Found(Box::new(Found { kind, expire_ms, size, value })));
        }
        Body::Collection(collection) => collection,
    };
    let mut prefix = Vec::new();
    data::encode_prefix(slot, key, collection.version, &mut prefix);
    let family = if kind == Type::Zset { Cf::Score } else { Cf::Data };
    let mut end = prefix.clone();
    // The next version: no subkey is behind it.
    match end.iter().rposition(|byte| *byte < 0xff) {
        Some(at) => {
            end.truncate(at + 1);
            end[at] += 1;
        }
        None => end.push(0xff),
    }
    let missing = lacks(family, &prefix, &end)?;
    if !missing.is_empty() {
        return Ok(Looked::Lacks(missing));
    }
    let reader = Parts { copy: &copy, family, prefix: &prefix, end: &end, now_ms, limit };
    let (size, value) = reader.value(&collection)?;
    Ok(Looked::Found(Box::new(Found { kind, expire_ms, size, value })))
}

/// The files that a reader of `from` to `to` opens: on level 0 all, and on each other level those of the
/// range and the first one that reaches up to it.
fn needed(files: &[LiveFile], cf: Cf, from: &[u8], to: &[u8]) -> Vec<String> {
    let start = |file: &LiveFile| file.start_key.clone().unwrap_or_default();
    let reaches = |file: &&LiveFile| file.end_key.as_deref().is_none_or(|end| end >= from);
    let family = || files.iter().filter(|file| file.column_family_name == cf.name());
    let mut names = Vec::new();
    for file in family().filter(|file| file.level == 0) {
        names.push(file);
    }
    let deepest = family().map(|file| file.level).max().unwrap_or(0);
    for level in 1..=deepest {
        let mut of_level: Vec<_> =
            family().filter(|file| file.level == level).filter(reaches).collect();
        of_level.sort_by_key(|file| start(file));
        let within = of_level.iter().skip(1).take_while(|file| start(file).as_slice() < to).count();
        names.extend(of_level.into_iter().take(within + 1));
    }
    names.into_iter().map(|file| file.name.trim_start_matches('/').to_owned()).collect()
}

/// Reads a collection's records.
struct Parts<'a> {
    copy: &'a Copy,
    family: Cf,
    prefix: &'a [u8],
    end: &'a [u8],
    now_ms: u64,
    limit: usize,
}

impl Parts<'_> {
    /// How many elements it has, and the first of them.
    fn value(&self, collection: &Collection) -> anyhow::Result<(u64, Value)> {
        let size = collection.size;
        Ok(match collection.kind {
            Type::Hash => {
                let mut fields = Vec::new();
                self.each(|subkey, value| {
                    let value = DataValue::decode(value)?;
                    if value.is_live(self.now_ms) {
                        fields.push((subkey.to_vec(), value.bytes.to_vec(), value.expire_ms));
                    }
                    Ok(fields.len() < self.limit)
                })?;
                (size, Value::Hash(fields))
            }
            Type::List => {
                let mut elements = Vec::new();
                self.each(|_, value| {
                    elements.push(DataValue::decode(value)?.bytes.to_vec());
                    Ok(elements.len() < self.limit)
                })?;
                (size, Value::List(elements))
            }
            Type::Zset => {
                let mut members = Vec::new();
                self.each_raw(|key, _| {
                    let key = ScoreKey::decode(key)?;
                    members.push((key.member.to_vec(), key.score.number()));
                    Ok(members.len() < self.limit)
                })?;
                (size, Value::Zset(members))
            }
            Type::Stream => self.stream()?,
            Type::Set | Type::String => {
                let mut members = Vec::new();
                self.each(|subkey, _| {
                    members.push(subkey.to_vec());
                    Ok(members.len() < self.limit)
                })?;
                (size, Value::Set(members))
            }
        })
    }

    fn stream(&self) -> anyhow::Result<(u64, Value)> {
        let (mut length, mut last) = (0, StreamId::MIN);
        let (mut entries, mut groups) = (Vec::new(), Vec::new());
        self.each(|subkey, value| {
            // Deleted groups' records are of no group that is there.
            let Ok(subkey) = Subkey::decode(subkey) else { return Ok(true) };
            let value = DataValue::decode(value)?.bytes;
            match subkey {
                Subkey::Header => {
                    let header = Header::decode(value)?;
                    (length, last) = (header.length, header.last);
                }
                Subkey::Entry(id) if entries.len() < self.limit => {
                    let pairs = Entry::decode(value)?.pairs();
                    let pairs = pairs.map(|pair| pair.map(|(f, v)| (f.to_vec(), v.to_vec())));
                    entries.push((id, pairs.collect::<Result<Vec<_>, _>>()?));
                }
                Subkey::Group(name) => groups.push((name.to_vec(), Group::decode(value)?)),
                _ => {}
            }
            Ok(groups.len() < self.limit)
        })?;
        Ok((length, Value::Stream(Stream { last, entries, groups })))
    }

    /// Each record behind the prefix, until `part` says that it is enough.
    fn each(
        &self,
        mut part: impl FnMut(&[u8], &[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.each_raw(|key, value| part(&key[self.prefix.len()..], value))
    }

    fn each_raw(
        &self,
        mut part: impl FnMut(&[u8], &[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let cf = self.copy.db().cf_handle(self.family.name()).context("a family is missing")?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.end.to_vec());
        let mut records = self.copy.db().raw_iterator_cf_opt(cf, options);
        records.seek(self.prefix);
        while let Some((key, value)) = records.item() {
            if !part(key, value).context("reading what is under the key")? {
                break;
            }
            records.next();
        }
        records.status().context("reading what is under the key")
    }
}
