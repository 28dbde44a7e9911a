//! Stories of reclaiming: what compactions drop, and what they must not.

use std::path::Path;
use std::time::Duration;

use keyspace::data::{self, DataKey, DataValue};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::{Cf, Hlc, Slot, SlotSet};
use rocksdb::WriteBatch;
use tempfile::TempDir;
use wal::{Kind, Position, Sequence, TimelineId, ViewMark};

use crate::store::{NodeDir, Store, StoreOptions};

const FIELDS: u64 = 500;

struct Story {
    _temp: TempDir,
    dir: NodeDir,
    store: Store,
}

impl Story {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDir::lock(temp.path()).unwrap();
        let store = open(&dir);
        Self { _temp: temp, dir, store }
    }

    /// A hash of [`FIELDS`] fields under a version of now, in files.
    fn hash(&self, key: &str, expire_ms: u64) -> Hlc {
        let version = self.store.stamp();
        self.put_hash(key, version, expire_ms);
        self.flush();
        version
    }

    fn put_hash(&self, key: &str, version: Hlc, expire_ms: u64) {
        let (store, slot) = (&self.store, Slot::of_key(key.as_bytes()));
        let mut batch = WriteBatch::default();
        let at = Collection { size: FIELDS, ..Collection::new(Type::Hash, version) };
        let (mut name, mut value) = (Vec::new(), Vec::new());
        meta::encode_key(slot, key.as_bytes(), &mut name);
        Meta { stamp: version, expire_ms, body: Body::Collection(at) }.encode(&mut value);
        batch.put_cf(store.cf(Cf::Meta), &name, &value);
        for field in 0..FIELDS {
            let (mut name, mut value) = (Vec::new(), Vec::new());
            let subkey = &field.to_be_bytes();
            DataKey { slot, key: key.as_bytes(), version, subkey }.encode(&mut name);
            DataValue::new(version, b"value").encode(&mut value);
            batch.put_cf(store.cf(Cf::Data), &name, &value);
        }
        store.commit(batch, Kind::Data).unwrap();
    }

    fn delete(&self, key: &str) {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.store.cf(Cf::Meta), meta_key(key));
        self.store.commit(batch, Kind::Data).unwrap();
    }

    fn flush(&self) {
        for cf in Cf::ALL {
            self.store.db().flush_cf(self.store.cf(cf)).unwrap();
        }
    }

    /// Announces a view of now.
    fn announce(&self, horizon_ms: u64) -> Position {
        let mut exclusive = self.store.exclusive();
        exclusive.announce_view(horizon_ms, SlotSet::all()).unwrap()
    }

    /// A view of now, synced and used.
    fn view(&self) {
        self.release(self.announce(0));
        assert!(self.store.exclusive().use_views().unwrap());
    }

    fn release(&self, at: Position) {
        self.store.sync().unwrap();
        self.store.reclaim().release(None, at.sequence);
    }

    /// Compacts everything.
    fn compact(&self) {
        self.compact_of(&[Cf::Data, Cf::Score, Cf::Meta]);
    }

    /// What is not in files stays where it is, in families other than these at least.
    fn compact_of(&self, families: &[Cf]) {
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        // Without bounds it would flush.
        let all = (Some([0_u8]), Some([u8::MAX]));
        for cf in families {
            let cf = self.store.cf(*cf);
            self.store.db().compact_range_cf_opt(cf, all.0, all.1, &options);
        }
    }
}

fn open(dir: &NodeDir) -> Store {
    Store::open(dir, None, StoreOptions { memory: 32 << 20, ..StoreOptions::default() }).unwrap()
}

fn meta_key(key: &str) -> Vec<u8> {
    let mut name = Vec::new();
    meta::encode_key(Slot::of_key(key.as_bytes()), key.as_bytes(), &mut name);
    name
}

/// How many records of a collection there are.
fn count(store: &Store, key: &str, version: Hlc) -> u64 {
    let mut prefix = Vec::new();
    data::encode_prefix(Slot::of_key(key.as_bytes()), key.as_bytes(), version, &mut prefix);
    let mut options = rocksdb::ReadOptions::default();
    options.set_iterate_range(rocksdb::PrefixRange(prefix));
    let records =
        store.db().iterator_cf_opt(store.cf(Cf::Data), options, rocksdb::IteratorMode::Start);
    records.inspect(|record| assert!(record.is_ok())).count() as u64
}

fn log_sizes(db: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let files = std::fs::read_dir(db).unwrap().map(|file| file.unwrap());
    let logs = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    logs.map(|file| (file.file_name(), file.metadata().unwrap().len())).collect()
}

/// The directory as a power cut leaves it: of the logs what they had been when they were synced.
fn after_power_cut(dir: &NodeDir, synced: &[(std::ffi::OsString, u64)]) -> (TempDir, NodeDir) {
    let temp = tempfile::tempdir().unwrap();
    let db = temp.path().join("db");
    std::fs::create_dir(&db).unwrap();
    for file in std::fs::read_dir(dir.db()).unwrap().map(|file| file.unwrap()) {
        let to = db.join(file.file_name());
        let is_log = file.path().extension().is_some_and(|end| end == "log");
        let kept = synced.iter().find(|(name, _)| *name == file.file_name());
        if file.file_name() == "LOCK" || file.file_type().unwrap().is_dir() {
            continue;
        }
        std::fs::copy(file.path(), &to).unwrap();
        if is_log {
            let copy = std::fs::OpenOptions::new().write(true).open(&to).unwrap();
            copy.set_len(kept.map_or(0, |(_, len)| *len)).unwrap();
        }
    }
    let dir = NodeDir::lock(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn what_a_power_cut_undeletes_is_still_there() {
    let story = Story::new();
    let version = story.hash("h", 0);
    story.view();
    let synced = log_sizes(&story.dir.db());
    story.delete("h");
    // The log with the delete is not on the disk, and the metadata says that the hash is gone.
    story.compact_of(&[Cf::Data]);
    assert_eq!(story.store.reclaim().dropped().records, 0);
    let (_temp, cut) = after_power_cut(&story.dir, &synced);
    let recovered = open(&cut);
    let named = recovered.db().get_cf(recovered.cf(Cf::Meta), meta_key("h")).unwrap();
    assert!(named.is_some(), "the cut took the delete");
    assert_eq!(count(&recovered, "h", version), FIELDS);
    // The same with a view that has the delete, once that is synced.
    let at = story.announce(0);
    story.compact();
    assert!(!story.store.exclusive().use_views().unwrap(), "it is not released");
    story.compact();
    assert_eq!(count(&story.store, "h", version), FIELDS);
    story.release(at);
    assert!(story.store.exclusive().use_views().unwrap());
    let used = story.store.reclaim().reclaimed().own.unwrap();
    assert!(used == at && story.store.synced() >= used.sequence);
    story.compact();
    assert_eq!(count(&story.store, "h", version), 0);
    assert_eq!(story.store.reclaim().dropped().records, FIELDS);
}

#[test]
fn a_view_waits_for_whoever_reads_what_is_older() {
    let story = Story::new();
    let version = story.hash("h", 0);
    let reclaim = story.store.reclaim();
    let digest = reclaim.hold(story.store.position().sequence);
    let snapshot = story.store.db().snapshot();
    story.delete("h");
    story.release(story.announce(0));
    assert!(!story.store.exclusive().use_views().unwrap());
    assert!(reclaim.held_by().unwrap().contains("digest"));
    story.compact();
    let mut key = Vec::new();
    let slot = Slot::of_key(b"h");
    DataKey { slot, key: b"h", version, subkey: &7u64.to_be_bytes() }.encode(&mut key);
    let read = |snapshot: &rocksdb::Snapshot<'_>| snapshot.get_cf(story.store.cf(Cf::Data), &key);
    assert!(read(&snapshot).unwrap().is_some());
    drop(digest);
    // And for a worker that began before it.
    reclaim.enter(3, Hlc(1));
    assert!(!story.store.exclusive().use_views().unwrap());
    assert!(reclaim.held_by().unwrap().contains("command"));
    reclaim.leave(3);
    assert!(story.store.exclusive().use_views().unwrap());
    story.compact();
    // A filter heeds no snapshot: this is what the hold is for.
    assert!(read(&snapshot).unwrap().is_none());
}

#[test]
fn a_version_given_before_the_view_and_written_after_it_stays() {
    let story = Story::new();
    let (store, reclaim) = (&story.store, story.store.reclaim());
    reclaim.enter(0, store.hlc().last());
    let version = store.stamp();
    let at = story.announce(0);
    story.put_hash("late", version, 0);
    reclaim.leave(0);
    story.release(at);
    assert!(store.exclusive().use_views().unwrap());
    story.flush();
    story.compact();
    assert_eq!(count(store, "late", version), FIELDS);
    // Its next version is dropped as soon as it is replaced.
    let next = story.hash("late", 0);
    story.view();
    story.compact();
    assert_eq!((count(store, "late", version), count(store, "late", next)), (0, FIELDS));
}

#[test]
fn many_collections_of_a_slot_are_judged_one_by_one() {
    let story = Story::new();
    let name = |i: u32| format!("{{one-slot}}:{}:{i}", "x".repeat(i as usize % 7));
    let versions: Vec<_> = (0..40).map(|i| story.hash(&name(i), 0)).collect();
    (0..40).filter(|i| i % 3 == 0).for_each(|i| story.delete(&name(i)));
    story.view();
    story.compact();
    for (i, version) in (0..).zip(versions) {
        let left = if i % 3 == 0 { 0 } else { FIELDS };
        assert_eq!(count(&story.store, &name(i), version), left, "{i}");
    }
    assert_eq!(story.store.reclaim().dropped().records, 14 * FIELDS);
}

#[test]
fn what_expired_by_the_horizon_is_gone_and_dead_on_every_clock() {
    let story = Story::new();
    let store = &story.store;
    let year = Duration::from_secs(365 * 24 * 3600).as_millis() as u64;
    let horizon = ops::clock::unix_ms() + year;
    let (before, after) = (story.hash("before", horizon), story.hash("after", horizon + 1));
    story.view();
    story.compact();
    assert_eq!(store.reclaim().dropped().records, 0, "nothing had expired by that view");
    let at = story.announce(horizon);
    // Whoever has the announcement does not take it for live, however far behind its clock is.
    assert_eq!(store.now_ms(), horizon);
    story.release(at);
    assert!(store.exclusive().use_views().unwrap());
    story.compact();
    assert_eq!((count(store, "before", before), count(store, "after", after)), (0, FIELDS));
    let key = |name| store.db().get_cf(store.cf(Cf::Meta), meta_key(name)).unwrap();
    assert!(key("before").is_none() && key("after").is_some());
    let Story { dir, store, _temp } = story;
    let reclaimed = store.reclaim().reclaimed();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.reclaim().reclaimed(), reclaimed);
    assert_eq!((reclaimed.own, reclaimed.horizon_ms), (Some(at), horizon));
    assert!(store.now_ms() >= horizon, "it stays dead after a restart");
}

#[test]
fn a_standby_uses_the_view_that_its_source_released_for_the_slots_of_that_source() {
    let story = Story::new();
    let (store, reclaim) = (&story.store, story.store.reclaim());
    let keys = ["a", "b"].map(|key| (key, story.hash(key, 0)));
    keys.iter().for_each(|(key, _)| story.delete(key));
    let source: topology::ShardName = "x/0".parse().unwrap();
    let at = Position { timeline: TimelineId(9), sequence: Sequence(70) };
    let slot = Slot::of_key(b"a").number();
    let slots: SlotSet = format!("{slot}-{slot}").parse().unwrap();
    let mark = ViewMark { bound: store.stamp(), horizon_ms: 0 };
    store.exclusive().take_view(Some(source.clone()), at, mark, slots);
    reclaim.release(Some(&source), Sequence(69));
    reclaim.release(None, Sequence(70));
    assert!(!store.exclusive().use_views().unwrap(), "another view was released");
    reclaim.release(Some(&source), Sequence(70));
    assert!(store.exclusive().use_views().unwrap());
    assert_eq!(reclaim.reclaimed().sources[&source], at);
    story.compact();
    let left = keys.map(|(key, version)| count(store, key, version));
    assert_eq!(left, [0, FIELDS]);
}

#[test]
fn after_records_from_elsewhere_nothing_is_dropped_until_there_is_a_new_view() {
    let story = Story::new();
    let old = story.store.stamp();
    story.view();
    story.store.reclaim().forget();
    story.put_hash("ingested", old, 0);
    story.flush();
    story.compact();
    assert_eq!(count(&story.store, "ingested", old), FIELDS);
    story.view();
    story.compact();
    assert_eq!(count(&story.store, "ingested", old), FIELDS, "the new view names it");
}

#[test]
fn deleting_a_great_hash_is_one_write_and_closing_waits_for_no_filter() {
    let story = Story::new();
    let version = story.hash("h", 0);
    let before = story.store.position().sequence.0;
    story.delete("h");
    assert_eq!(story.store.position().sequence.0, before + 1);
    story.view();
    let Story { dir, store, _temp } = story;
    // A compaction that runs while the database is closed keeps no view, and so not the database.
    let handle = std::thread::scope(|scope| {
        let compaction = scope.spawn(|| {
            store.db().compact_range_cf(store.cf(Cf::Data), None::<&[u8]>, None::<&[u8]>);
        });
        store.reclaim().forget();
        compaction.join()
    });
    handle.unwrap();
    drop(store);
    let left = count(&open(&dir), "h", version);
    assert!(left == 0 || left == FIELDS, "{left}");
}
