//! Which records are copied, and as what.

use anyhow::{Context, bail};
use keyspace::data::{DataKey, DataValue};
use keyspace::meta::{self, Body, Meta};
use keyspace::{Cf, Hlc, Slot, SlotSet, shard};
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};

/// Records between two looks at whether to go on.
const LOOK: u64 = 1024;

/// As what records are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What a node takes in beside its own, as if it had been written then: keys that are live at
    /// this Unix millisecond, every record with this stamp, which nothing else has, and every
    /// collection with it as its version.
    Anew {
        /// Keys that expire by then are left out.
        live_ms: u64,
        /// The stamp of each record.
        stamp: Hlc,
    },
    /// What the log of this database goes on from: every key, expired ones too, under the version
    /// that its batches name. What is under versions that no key has is left out: no batch brings
    /// them back.
    AsItIs,
}

/// How much was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Keys.
    pub keys: u64,
    /// Records, in all families.
    pub records: u64,
}

/// Where records go: family after family, each from its first record to its last.
pub trait Sink {
    /// Takes the next record of a family.
    ///
    /// # Errors
    /// It cannot be kept; the copier stops.
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> anyhow::Result<()>;
}

/// Copies the records of slots.
pub struct Copier<'a> {
    /// The database.
    pub db: &'a DB,
    /// Of it, the moment to copy.
    pub snapshot: &'a SnapshotWithThreadMode<'a, DB>,
    /// Which slots.
    pub slots: &'a SlotSet,
    /// As what.
    pub form: Form,
    /// Asked now and then: false stops it with an error.
    pub goes_on: &'a dyn Fn() -> bool,
}

impl Copier<'_> {
    /// Copies all of them, family after family in the order in which they are taken in: a record
    /// whose key's meta record is not there yet looks like garbage.
    ///
    /// # Errors
    /// The database cannot be read, the sink takes no more, or it was stopped.
    pub fn run(&self, sink: &mut dyn Sink) -> anyhow::Result<Copied> {
        let mut copied = Copied::default();
        self.metas(sink, &mut copied)?;
        for family in [Cf::Data, Cf::Score] {
            self.parts(family, sink, &mut copied)?;
        }
        Ok(copied)
    }

    /// Copies the records of no slot but of the shard: libraries of functions, and users.
    ///
    /// # Errors
    /// The database cannot be read, or the sink takes no more.
    pub fn of_shard(&self, sink: &mut dyn Sink) -> anyhow::Result<()> {
        let (from, to) = shard::bounds();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        options.fill_cache(false);
        let mut records = self.snapshot.raw_iterator_cf_opt(self.family(Cf::Data)?, options);
        records.seek_to_first();
        while let Some((key, value)) = records.item() {
            sink.put(Cf::Data, key, value)?;
            records.next();
        }
        records.status().context("reading libraries of functions and users")
    }

    fn metas(&self, sink: &mut dyn Sink, copied: &mut Copied) -> anyhow::Result<()> {
        let mut changed = Vec::new();
        for mut records in self.ranges(Cf::Meta)? {
            while let Some((key, value)) = records.item() {
                let record = Meta::decode(value).with_context(|| damaged(key))?;
                if self.is_copied(&record) {
                    let value = self.head(value, record, &mut changed);
                    sink.put(Cf::Meta, key, value)?;
                    copied.keys += 1;
                    self.count(copied)?;
                }
                records.next();
            }
            records.status().context("reading keys")?;
        }
        Ok(())
    }

    /// A meta record in the form that is asked for.
    fn head<'v>(&self, value: &'v [u8], record: Meta<'v>, changed: &'v mut Vec<u8>) -> &'v [u8] {
        let Form::Anew { stamp, .. } = self.form else { return value };
        let body = match record.body {
            Body::Collection(collection) => {
                Body::Collection(meta::Collection { version: stamp, ..collection })
            }
            text @ Body::String(_) => text,
        };
        changed.clear();
        Meta { stamp, body, ..record }.encode(changed);
        changed
    }

    fn parts(&self, family: Cf, sink: &mut dyn Sink, copied: &mut Copied) -> anyhow::Result<()> {
        // What all records of the collection that is being read begin with.
        let (mut whose, mut wanted) = (Vec::new(), false);
        let (mut renamed, mut stamped) = (Vec::new(), Vec::new());
        for mut records in self.ranges(family)? {
            while let Some((key, value)) = records.item() {
                let part = DataKey::decode(key).with_context(|| damaged(key))?;
                let prefix = key.len() - part.subkey.len();
                if key[..prefix] != whose[..] {
                    whose.clear();
                    whose.extend_from_slice(&key[..prefix]);
                    wanted = self.is_named(&part)?;
                    if !wanted {
                        // Of a deleted collection there may be millions.
                        match after(&whose) {
                            Some(next) => records.seek(next),
                            None => records.next(),
                        }
                        continue;
                    }
                }
                if !wanted {
                    records.next();
                    continue;
                }
                let value = self.stamped(key, value, &mut stamped)?;
                sink.put(family, self.renamed(key, prefix, &mut renamed), value)?;
                self.count(copied)?;
                records.next();
            }
            records.status().with_context(|| format!("reading {} records", family.name()))?;
        }
        Ok(())
    }

    /// A part's key under the version that is asked for.
    fn renamed<'k>(&self, key: &'k [u8], prefix: usize, renamed: &'k mut Vec<u8>) -> &'k [u8] {
        let Form::Anew { stamp, .. } = self.form else { return key };
        renamed.clear();
        renamed.extend_from_slice(&key[..prefix - size_of::<Hlc>()]);
        renamed.extend_from_slice(&stamp.0.to_be_bytes());
        renamed.extend_from_slice(&key[prefix..]);
        renamed
    }

    /// A part's value with the stamp that is asked for; those of scores are empty.
    fn stamped<'v>(
        &self,
        key: &[u8],
        value: &'v [u8],
        stamped: &'v mut Vec<u8>,
    ) -> anyhow::Result<&'v [u8]> {
        let Form::Anew { stamp, .. } = self.form else { return Ok(value) };
        if value.is_empty() {
            return Ok(value);
        }
        let value = DataValue::decode(value).with_context(|| damaged(key))?;
        stamped.clear();
        DataValue { stamp, ..value }.encode(stamped);
        Ok(stamped)
    }

    fn is_copied(&self, record: &Meta<'_>) -> bool {
        match self.form {
            Form::Anew { live_ms, .. } => record.is_live(live_ms),
            Form::AsItIs => true,
        }
    }

    /// Whether the collection that this is a part of is one that is copied.
    fn is_named(&self, part: &DataKey<'_>) -> anyhow::Result<bool> {
        let mut key = Vec::with_capacity(2 + part.key.len());
        meta::encode_key(part.slot, part.key, &mut key);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let cf = self.family(Cf::Meta)?;
        let value = self.snapshot.get_pinned_cf_opt(cf, &key, options).context("reading a key")?;
        let Some(value) = value else { return Ok(false) };
        let record = Meta::decode(&value).with_context(|| damaged(&key))?;
        Ok(match record.body {
            Body::Collection(collection) => {
                collection.version == part.version && self.is_copied(&record)
            }
            Body::String(_) => false,
        })
    }

    fn family(&self, family: Cf) -> anyhow::Result<&rocksdb::ColumnFamily> {
        let name = family.name();
        self.db.cf_handle(name).with_context(|| format!("the database lacks the family {name}"))
    }

    /// The records of each range, from its first.
    fn ranges(
        &self,
        family: Cf,
    ) -> anyhow::Result<impl Iterator<Item = DBRawIteratorWithThreadMode<'_, DB>>> {
        let cf = self.family(family)?;
        Ok(self.slots.ranges().iter().map(move |range| {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(range.first.prefix());
            options.set_iterate_upper_bound((range.last.number() + 1).to_be_bytes());
            options.fill_cache(false);
            let mut records = self.snapshot.raw_iterator_cf_opt(cf, options);
            records.seek_to_first();
            records
        }))
    }

    fn count(&self, copied: &mut Copied) -> anyhow::Result<()> {
        copied.records += 1;
        if copied.records.is_multiple_of(LOOK) && !(self.goes_on)() {
            bail!("it was stopped: the node is ending, or swaps its database");
        }
        Ok(())
    }
}

/// The first key that does not begin with this, above those that do.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

fn damaged(key: &[u8]) -> String {
    let slot = Slot::of_encoded(key).map_or("no slot".to_owned(), |slot| format!("slot {slot}"));
    format!("a record of {slot} cannot be read: the database is damaged")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keyspace::meta::{Collection, Type};
    use rocksdb::{IteratorMode, Options};

    use super::*;

    const NOW_MS: u64 = 5_000;

    fn open(path: &Path) -> DB {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        DB::open_cf(&options, path, Cf::ALL.map(Cf::name)).unwrap()
    }

    /// A hash whose fields of an older version are still there, of this key.
    fn put_hash(db: &DB, key: &[u8], expire_ms: u64) {
        let slot = Slot::of_key(key);
        let version = Hlc::new(1_000, 1);
        let (mut name, mut value) = (Vec::new(), Vec::new());
        meta::encode_key(slot, key, &mut name);
        let body = Body::Collection(Collection { size: 2, ..Collection::new(Type::Hash, version) });
        Meta { stamp: Hlc::new(2_000, 7), expire_ms, body }.encode(&mut value);
        db.put_cf(db.cf_handle("default").unwrap(), name, value).unwrap();
        for (version, fields) in [(Hlc::new(900, 0), ["old", "older"]), (version, ["one", "two"])] {
            for subkey in fields.map(str::as_bytes) {
                let (mut name, mut value) = (Vec::new(), Vec::new());
                DataKey { slot, key, version, subkey }.encode(&mut name);
                DataValue::new(Hlc::new(2_000, 6), b"value").encode(&mut value);
                db.put_cf(db.cf_handle("data").unwrap(), name, value).unwrap();
            }
        }
    }

    fn records(db: &DB, cf: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let cf = db.cf_handle(cf).unwrap();
        let records = db.iterator_cf(cf, IteratorMode::Start).map(Result::unwrap);
        records.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    /// Puts what comes into another database.
    struct Into<'a>(&'a DB);

    impl Sink for Into<'_> {
        fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
            Ok(self.0.put_cf(self.0.cf_handle(cf.name()).unwrap(), key, value)?)
        }
    }

    /// What a copy of these slots comes to.
    fn copied(db: &DB, slots: &str, form: Form) -> (Copied, DB, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let scratch = open(dir.path());
        let (snapshot, slots) = (db.snapshot(), slots.parse().unwrap());
        let copier = Copier { db, snapshot: &snapshot, slots: &slots, form, goes_on: &|| true };
        let copied = copier.run(&mut Into(&scratch)).unwrap();
        (copied, scratch, dir)
    }

    fn filled(dir: &Path) -> DB {
        let db = open(dir);
        // In an order of keys that is not that of their parts: those come by length first.
        for key in ["{tag}b", "{tag}aaaa", "{tag}cc", "other"] {
            put_hash(&db, key.as_bytes(), 0);
        }
        put_hash(&db, b"{tag}expired", NOW_MS - 1);
        db
    }

    #[test]
    fn a_shard_of_another_shape_gets_what_the_log_goes_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let db = filled(dir.path());
        let slot = Slot::of_key(b"{tag}").to_string();
        let (count, copy, _dir) = copied(&db, &slot, Form::AsItIs);
        assert_eq!(count, Copied { keys: 4, records: 12 });
        let of_slot =
            |(key, _): &(Vec<u8>, _)| Slot::of_encoded(key) == Some(Slot::of_key(b"{tag}"));
        let mut metas = records(&db, "default");
        metas.retain(of_slot);
        assert_eq!(records(&copy, "default"), metas);
        let mut parts = records(&db, "data");
        parts.retain(of_slot);
        parts.retain(|(key, _)| DataKey::decode(key).unwrap().version == Hlc::new(1_000, 1));
        assert_eq!(records(&copy, "data"), parts);
    }

    #[test]
    fn a_node_that_has_keys_of_its_own_gets_what_is_live_under_one_version() {
        let dir = tempfile::tempdir().unwrap();
        let db = filled(dir.path());
        let stamp = Hlc::new(NOW_MS, 0x8001);
        let form = Form::Anew { live_ms: NOW_MS, stamp };
        let (count, copy, _dir) = copied(&db, "0-16383", form);
        assert_eq!(count, Copied { keys: 4, records: 12 });
        for (_, value) in records(&copy, "default") {
            let record = Meta::decode(&value).unwrap();
            assert_eq!((record.stamp, record.expire_ms), (stamp, 0));
            let Body::Collection(collection) = record.body else { panic!("no collection") };
            assert_eq!((collection.version, collection.size), (stamp, 2));
        }
        for (key, value) in records(&copy, "data") {
            let part = DataKey::decode(&key).unwrap();
            assert_eq!(part.version, stamp);
            assert_eq!(DataValue::decode(&value).unwrap(), DataValue::new(stamp, b"value"));
            assert!([&b"one"[..], b"two"].contains(&part.subkey), "{part:?}");
        }
    }

    #[test]
    fn it_stops_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        for n in 0..LOOK {
            put_hash(&db, n.to_string().as_bytes(), 0);
        }
        let (snapshot, slots) = (db.snapshot(), SlotSet::all());
        let other = tempfile::tempdir().unwrap();
        let scratch = open(other.path());
        let form = Form::AsItIs;
        let copier =
            Copier { db: &db, snapshot: &snapshot, slots: &slots, form, goes_on: &|| false };
        assert!(copier.run(&mut Into(&scratch)).unwrap_err().to_string().contains("stopped"));
    }

    #[test]
    fn what_comes_after_a_prefix_begins_with_another() {
        assert_eq!(after(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after(&[255]), None);
    }
}
