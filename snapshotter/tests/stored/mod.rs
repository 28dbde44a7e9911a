//! A repository with snapshots of real databases, made without nodes: two shards of cluster `a`, whose
//! files are followed by a log, with digests of what that comes to.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise
#![allow(dead_code)] // not every story needs all of it

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use admin::{Digest, SlotDigest};
use keyspace::data::{DataKey, DataValue};
use keyspace::meta::{self, Body, Collection, LIST_ORIGIN, Meta, Type};
use keyspace::score::{Score, ScoreKey};
use keyspace::stream::{Header, StreamId, Subkey, write_entry};
use keyspace::{Cf, Hlc, Slot, SlotSet};
use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, Options, WriteBatch};
use serde_json::Value;
use store::SnapshotId;
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::piece::Pieces;
use store::repository::{
    FileEntry, Keys, LogSegment, Manifest, Repository, Snapshot, Snapshots, What,
};
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder, FrameHeader};
use wal::segment::SegmentHeader;
use wal::{Chain, History, Kind, Position, Sequence, Tag, TimelineId};

/// Slots of the two shards.
pub(crate) const SLOTS: [&str; 2] = ["0-8191", "8192-16383"];
/// All that is written in a snapshot is stamped at this or a little later.
pub(crate) const NOW_MS: u64 = 1_795_000_000_000;

pub(crate) struct Stored {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) keys: Keys,
    grace: Duration,
    /// Snapshots sealed so far.
    sealed: u32,
}

/// Records of keys, as a node has them.
#[derive(Default)]
pub(crate) struct Records(Vec<(Cf, Vec<u8>, Vec<u8>)>);

impl Records {
    fn stamp() -> Hlc {
        Hlc::new(NOW_MS, 1)
    }

    fn head(&mut self, key: &[u8], expire_ms: u64, body: Body<'_>) {
        let (mut raw, mut value) = (Vec::new(), Vec::new());
        meta::encode_key(Slot::of_key(key), key, &mut raw);
        Meta { stamp: Self::stamp(), expire_ms, body }.encode(&mut value);
        self.0.push((Cf::Meta, raw, value));
    }

    fn part(&mut self, key: &[u8], subkey: &[u8], bytes: &[u8]) {
        let (mut raw, mut value) = (Vec::new(), Vec::new());
        let (slot, version) = (Slot::of_key(key), Self::stamp());
        DataKey { slot, key, version, subkey }.encode(&mut raw);
        DataValue::new(Self::stamp(), bytes).encode(&mut value);
        self.0.push((Cf::Data, raw, value));
    }

    pub(crate) fn string(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.head(key.as_bytes(), 0, Body::String(value));
        self
    }

    pub(crate) fn expiring(&mut self, key: &str, at_ms: u64) -> &mut Self {
        self.head(key.as_bytes(), at_ms, Body::String(b"soon gone"));
        self
    }

    fn collection(&mut self, key: &str, kind: Type, size: u64) {
        let mut collection = Collection::new(kind, Self::stamp());
        collection.size = size;
        if kind == Type::List {
            collection.tail = LIST_ORIGIN + size;
        }
        self.head(key.as_bytes(), 0, Body::Collection(collection));
    }

    pub(crate) fn hash(&mut self, key: &str, fields: &[(&str, &str)]) -> &mut Self {
        self.collection(key, Type::Hash, fields.len() as u64);
        for (field, value) in fields {
            self.part(key.as_bytes(), field.as_bytes(), value.as_bytes());
        }
        self
    }

    pub(crate) fn list(&mut self, key: &str, elements: &[&str]) -> &mut Self {
        self.collection(key, Type::List, elements.len() as u64);
        for (n, element) in (LIST_ORIGIN..).zip(elements) {
            self.part(key.as_bytes(), &n.to_be_bytes(), element.as_bytes());
        }
        self
    }

    pub(crate) fn set(&mut self, key: &str, members: &[&str]) -> &mut Self {
        self.collection(key, Type::Set, members.len() as u64);
        for member in members {
            self.part(key.as_bytes(), member.as_bytes(), b"");
        }
        self
    }

    pub(crate) fn zset(&mut self, key: &str, members: &[(&str, f64)]) -> &mut Self {
        self.collection(key, Type::Zset, members.len() as u64);
        for (member, number) in members {
            let score = Score::new(*number).unwrap();
            self.part(key.as_bytes(), member.as_bytes(), score.bytes());
            let (slot, key) = (Slot::of_key(key.as_bytes()), key.as_bytes());
            let (version, member) = (Self::stamp(), member.as_bytes());
            let mut raw = Vec::new();
            ScoreKey { slot, key, version, score, member }.encode(&mut raw);
            self.0.push((Cf::Score, raw, Vec::new()));
        }
        self
    }

    pub(crate) fn stream(&mut self, key: &str, entries: &[(u64, &str, &str)]) -> &mut Self {
        self.collection(key, Type::Stream, 1);
        let last = StreamId::new(entries.last().unwrap().0, 0);
        let first = StreamId::new(entries[0].0, 0);
        let length = entries.len() as u64;
        let header = Header { last, first, length, added: length, ..Header::default() };
        let mut value = Vec::new();
        header.encode(&mut value);
        self.part(key.as_bytes(), &Subkey::HEADER, &value);
        for (ms, field, value) in entries {
            let mut entry = Vec::new();
            write_entry(0, [(field.as_bytes(), value.as_bytes())].into_iter(), &mut entry);
            self.part(key.as_bytes(), &Subkey::entry(StreamId::new(*ms, 0)), &entry);
        }
        self
    }

    /// As one batch of a log.
    fn batch(&self, first: u64) -> Vec<u8> {
        let mut batch = BatchBuilder::new(Sequence(first));
        for (cf, key, value) in &self.0 {
            batch.put(*cf, key, value);
        }
        let stamp = Self::stamp();
        batch.log_data(&Tag { kind: Kind::Data, origin: 1, epoch: 1, stamp, marker: 0 }.encode());
        batch.finish()
    }

    fn write(&self, db: &DB) {
        let mut batch = WriteBatch::default();
        for (cf, key, value) in &self.0 {
            batch.put_cf(db.cf_handle(cf.name()).unwrap(), key, value);
        }
        db.write(batch).unwrap();
    }
}

/// Values that do not compress, the same for the same number.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A key of the shard that has the slots.
pub(crate) fn key_in(shard: usize, prefix: &str) -> String {
    let slots: SlotSet = SLOTS[shard].parse().unwrap();
    let keys = (0_u32..).map(|n| format!("{prefix}{n}"));
    keys.into_iter().find(|key| slots.contains(Slot::of_key(key.as_bytes()))).unwrap()
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_target_file_size_base(256 << 10);
    options
}

fn open(dir: &Path) -> DB {
    let families = Cf::ALL.map(|cf| (cf.name(), options()));
    DB::open_cf_with_opts(&options(), dir, families).unwrap()
}

fn flush(db: &DB) {
    Cf::ALL.iter().for_each(|cf| db.flush_cf(db.cf_handle(cf.name()).unwrap()).unwrap());
}

/// The digest of each slot of a database's directory.
pub(crate) fn digest_of(db: &Path, slots: &SlotSet) -> BTreeMap<u16, SlotDigest> {
    let (mut options, families) = Options::load_latest(
        db,
        rocksdb::Env::new().unwrap(),
        true,
        rocksdb::Cache::new_lru_cache(1 << 20),
    )
    .unwrap();
    options.create_if_missing(false);
    let db = DB::open_cf_descriptors_read_only(&options, db, families, false).unwrap();
    let (snapshot, stop) = (db.snapshot(), AtomicBool::new(false));
    let stamp = Hlc::new(NOW_MS, 9);
    let reader = digest::Reader { db: &db, snapshot: &snapshot, stamp, stop: &stop };
    reader.slots(slots).unwrap()
}

impl Stored {
    pub(crate) fn new() -> Self {
        Self::with(Keys::none(), Duration::ZERO)
    }

    pub(crate) fn with(keys: Keys, grace: Duration) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let stored = Self { runtime, dir, keys, grace, sealed: 0 };
        for n in 0..SLOTS.len() {
            let db = stored.source(n);
            fs::create_dir_all(&db).unwrap();
            drop(open(&db));
        }
        stored
    }

    /// The database that the n-th shard's node would have.
    pub(crate) fn source(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("source-{n}"))
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.store().display())
    }

    pub(crate) fn repository(&self) -> Repository {
        let address = BucketAddress::Directory(self.store());
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        let created = Repository::create(bucket, self.keys.clone(), self.grace);
        self.runtime.block_on(created).unwrap()
    }

    /// Writes records to a shard's database.
    pub(crate) fn write(&self, n: usize, records: &Records) {
        let db = open(&self.source(n));
        records.write(&db);
        flush(&db);
    }

    /// Strings of noise in both shards; the first of them in many table files.
    pub(crate) fn fill(&self, from: u64, to: u64) {
        for (n, slots) in SLOTS.iter().enumerate() {
            let slots: SlotSet = slots.parse().unwrap();
            let db = open(&self.source(n));
            let mut records = Records::default();
            for number in from..to {
                let key = format!("fill:{number}");
                if slots.contains(Slot::of_key(key.as_bytes())) {
                    records.string(&key, &noise(number, 4096));
                }
            }
            records.write(&db);
            flush(&db);
            if from == 0 {
                let mut all = CompactOptions::default();
                all.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
                db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &all);
            }
        }
    }

    /// Pieces of every file of a directory.
    async fn files(repository: &Repository, dir: &Path) -> Vec<FileEntry> {
        let known = repository.known().await.unwrap();
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (name, size) = (entry.file_name(), entry.metadata().unwrap().len());
            let name = name.to_str().unwrap();
            if name == "LOCK" || name.starts_with("LOG") {
                continue;
            }
            let (mut pieces, mut reader) =
                (Vec::new(), Pieces::of(&entry.path(), size).await.unwrap());
            while let Some(bytes) = reader.next().await.unwrap() {
                pieces.push(match repository.find_piece(&known, &bytes).await.unwrap() {
                    Some(piece) => piece,
                    None => repository.put_piece(&known, bytes).await.unwrap().0,
                });
            }
            files.push(FileEntry { name: name.parse().unwrap(), size, pieces });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// Seals a snapshot of what the databases hold, with these records in the logs behind their files:
    /// half of them before the digest was taken. The databases have them too from then on.
    pub(crate) fn seal(&mut self, logs: [&Records; 2]) -> Snapshot {
        let repository = self.repository();
        let mut manifests = Vec::new();
        for (n, records) in logs.into_iter().enumerate() {
            let db = self.source(n);
            let first = 100 + u64::from(self.sealed) * 10_000;
            let position =
                Position { timeline: TimelineId(7 + n as u128), sequence: Sequence(first) };
            let files = self.runtime.block_on(Self::files(&repository, &db));
            let mut manifest = Manifest {
                format: Manifest::FORMAT,
                service: "demo".to_owned(),
                shard: format!("a/{n}"),
                slots: SLOTS[n].parse().unwrap(),
                database: format!("{n:032x}"),
                position,
                history: History::default(),
                stamp: Hlc::new(NOW_MS, 5),
                epoch: 1,
                taken_at: NOW_MS,
                files,
                log: Vec::new(),
                cut: None,
                digest: None,
            };
            let half = records.0.len() / 2;
            let (before, after) = records.0.split_at(half);
            let (before, after) = (Records(before.to_vec()), Records(after.to_vec()));
            if !records.0.is_empty() {
                // Two batches, of which the digest is between.
                let mut log = BTreeMap::new();
                let middle = first + before.0.len().max(1) as u64;
                log.insert(first + 1, before.batch(first + 1));
                log.insert(middle + 1, after.batch(middle + 1));
                self.add_log(&repository, &mut manifest, &log);
                before.write(&open(&db));
                let sequence = Sequence(middle);
                manifest.digest = Some(digest(&db, &manifest, Position { sequence, ..position }));
                after.write(&open(&db));
            } else {
                manifest.digest = Some(digest(&db, &manifest, position));
            }
            flush(&open(&db));
            manifests.push(manifest);
        }
        self.sealed += 1;
        let sealed_at = NOW_MS + u64::from(self.sealed) * 60_000;
        let id = SnapshotId::new(UNIX_EPOCH + Duration::from_millis(sealed_at), self.sealed);
        self.runtime.block_on(async {
            let mut snapshots = Snapshots::open(&repository).await.unwrap();
            snapshots.seal(&id, "demo", "a", sealed_at, &manifests).await.unwrap()
        })
    }

    fn add_log(
        &self,
        repository: &Repository,
        manifest: &mut Manifest,
        log: &BTreeMap<u64, Vec<u8>>,
    ) {
        let start = manifest.position;
        let mut builder = FrameBuilder::new(start, Chain::START, 1, Hlc(0));
        for bytes in log.values() {
            builder.push(&BatchRef::parse(bytes).unwrap(), &manifest.slots).unwrap();
        }
        let frame = builder.finish(Codec::Zstd, Chain(7)).unwrap();
        let last = FrameHeader::parse(&frame).unwrap().unwrap();
        let header = SegmentHeader {
            service: SegmentHeader::service_of("demo"),
            source: manifest.shard.clone(),
            start,
            chain: Chain::START,
        };
        let mut bytes = header.encode().unwrap();
        bytes.extend_from_slice(&frame);
        let segment = LogSegment {
            start,
            end: last.end,
            chain_before: Chain::START,
            chain: last.chain,
            log_chain: last.log_chain,
            stamp: last.stamp,
            epoch: 1,
            bytes: bytes.len() as u64,
            blake3: repository.id_of(&bytes),
            copy: 0,
        };
        let name = segment.name();
        let put = repository.put_blob(&name, What::Segment, segment.blake3, bytes);
        self.runtime.block_on(put).unwrap();
        manifest.log.push(segment);
    }

    /// Every file of the store but the markers of writers, by name.
    pub(crate) fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.store()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { dirs.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// Runs a verb on the store.
    pub(crate) fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(verb, more).output().unwrap()
    }

    pub(crate) fn command(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-snapshotter"));
        command.args([verb, "--from", &self.url(), "--output", "json"]).args(more);
        command
    }

    /// Runs a verb that succeeds; what it answers.
    pub(crate) fn ok(&self, verb: &str, more: &[&str]) -> Value {
        let output = self.run(verb, more);
        assert!(output.status.success(), "{verb} {more:?}: {}", said(&output));
        last_line(&output)
    }

    /// Asserts that the shards in these directories have what the sources have.
    pub(crate) fn assert_restored(&self, dirs: &[PathBuf]) {
        let all = SlotSet::all();
        let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
        for n in 0..SLOTS.len() {
            expected.extend(digest_of(&self.source(n), &all));
        }
        for dir in dirs {
            found.extend(digest_of(&dir.join("db"), &all));
        }
        assert!(!expected.is_empty());
        assert!(found == expected, "{} slots, and {} expected", found.len(), expected.len());
    }
}

fn digest(db: &Path, manifest: &Manifest, position: Position) -> Digest {
    let slots = digest_of(db, &manifest.slots);
    let mut total = SlotDigest::default();
    slots.values().for_each(|slot| total.add(slot));
    Digest { position, stamp: Hlc::new(NOW_MS, 9), slots, total }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a last line")).unwrap()
}
