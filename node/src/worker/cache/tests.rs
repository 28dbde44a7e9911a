//! What the cache says is what the database would say, whatever was forgotten on the way.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};

use keyspace::{Cf, Hlc, Slot, data, meta};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use resp::Version;

use super::arena::Name;
use super::shard::{Known, Shard};
use crate::command::table;
use crate::control::Authority;
use crate::store::{Current, NodeDir, Store, StoreOptions};
use crate::worker::overlay::hash;
use crate::worker::{Call, Outbox, Part, Request, RunBy, Workers};

fn name(cf: Cf, key: &[u8]) -> Name<'_> {
    Name { hash: hash(cf, key), family: cf.id() as u8, key }
}

fn data_key(version: Hlc, field: u32) -> Vec<u8> {
    let mut key = Vec::new();
    data::encode_prefix(Slot::of_key(b"h"), b"h", version, &mut key);
    key.extend_from_slice(&field.to_be_bytes());
    key
}

/// A shard beside a map that stands for the database.
struct Pair {
    shard: Shard,
    database: HashMap<Vec<u8>, Vec<u8>>,
}

impl Pair {
    fn new(bytes: usize) -> Self {
        let mut shard = Shard::new(bytes);
        shard.on = true;
        Self { shard, database: HashMap::new() }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.database.insert(key.to_vec(), value.to_vec());
        self.shard.keep(&name(Cf::Data, key), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.database.remove(key);
        self.shard.delete(&name(Cf::Data, key));
    }

    /// Whether the cache knew; panics where it is wrong.
    fn look(&mut self, key: &[u8], version: Hlc) -> bool {
        let stored = self.database.get(key).map(Vec::as_slice);
        match self.shard.find(&name(Cf::Data, key), Some(version)) {
            Known::Value(at) => assert_eq!(Some(self.shard.value(at)), stored),
            Known::Absent => assert_eq!(None, stored),
            Known::Nothing => {
                self.shard.keep(&name(Cf::Data, key), stored);
                return false;
            }
        }
        true
    }
}

#[test]
fn a_shard_of_any_size_never_says_what_the_database_would_not() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for bytes in [0, 100, 3_000, 20_000, 1 << 20] {
        let mut pair = Pair::new(bytes);
        let mut versions = vec![Hlc(1)];
        let mut known = 0;
        for turn in 0..20_000 {
            if turn % 500 == 0 {
                let version = Hlc(versions.len() as u64 + 1);
                versions.push(version);
                pair.shard.begin(version);
            }
            let version =
                versions[versions.len() - 1 - random.random_range(0..versions.len().min(3))];
            let key = data_key(version, random.random_range(0..100));
            match random.random_range(0..10) {
                0..3 => pair.put(&key, &vec![turn as u8; random.random_range(0..60)]),
                3 => pair.delete(&key),
                _ => known += u32::from(pair.look(&key, version)),
            }
        }
        assert!(bytes < 20_000 || known > 3_000, "a cache of {bytes} bytes knew only {known}");
    }
}

#[test]
fn all_of_a_collection_that_began_here_is_known_until_something_goes() {
    let mut pair = Pair::new(64 << 10);
    let version = Hlc(9);
    pair.shard.begin(version);
    assert!(pair.look(&data_key(version, 1), version), "nothing of it is in the database");
    pair.put(&data_key(version, 1), b"one");
    assert!(pair.look(&data_key(version, 2), version));
    for field in 10..5_000 {
        pair.put(&data_key(version, field), b"many more than there is room for");
    }
    assert!(!pair.look(&data_key(version, 2), version), "a field may have been forgotten");
}

#[test]
fn what_is_asked_for_stays() {
    let mut pair = Pair::new(64 << 10);
    let version = Hlc(9);
    pair.put(&data_key(version, 0), b"hot");
    for field in 1..20_000 {
        pair.put(&data_key(version, field), &[b'c'; 40]);
        assert!(pair.look(&data_key(version, 0), version), "after {field} others");
    }
}

#[test]
fn another_state_of_the_data_is_another_cache() {
    let mut pair = Pair::new(64 << 10);
    let key = [&Slot::of_key(b"k").prefix()[..], b"k"].concat();
    pair.shard.meet(1);
    pair.shard.keep(&name(Cf::Meta, &key), Some(b"old"));
    pair.shard.meet(1);
    assert!(matches!(pair.shard.find(&name(Cf::Meta, &key), None), Known::Value(_)));
    pair.shard.meet(2);
    assert_eq!(pair.shard.find(&name(Cf::Meta, &key), None), Known::Nothing);
    assert_eq!(meta::decode_key(&key).map(|(_, key)| key), Ok(&b"k"[..]));
}

struct Answers(mpsc::SyncSender<Part>);

impl Outbox for Answers {
    fn index(&self) -> usize {
        0
    }

    fn deliver(&self, parts: &mut Vec<Part>) {
        parts.drain(..).for_each(|part| self.0.send(part).expect("the test waits for it"));
    }
}

/// A node's workers on a database of their own.
struct Bench {
    workers: Workers,
    outbox: Arc<Answers>,
    answers: mpsc::Receiver<Part>,
    store: Current,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(cache_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let locked = NodeDir::lock(dir.path()).unwrap();
        let store = Store::open(&locked, None, StoreOptions::default()).unwrap();
        let store = Current::new(Arc::new(store));
        let workers =
            Workers::start(3, store.clone(), Authority::standalone(), cache_bytes).unwrap();
        let (sender, answers) = mpsc::sync_channel(16);
        Self { workers, outbox: Arc::new(Answers(sender)), answers, store, _dir: dir }
    }

    /// Runs commands as one request, each by the workers of its keys, and answers all parts.
    fn run(&self, commands: &[Vec<Vec<u8>>]) -> Vec<(u16, Vec<u8>)> {
        let mut request = Request::new(self.outbox.clone(), 1, 1, Arc::default());
        for command in commands {
            let spec = table::find(&command[0]).unwrap();
            let first = request.args.len();
            for arg in command {
                let from = request.bytes.len();
                request.bytes.extend_from_slice(arg);
                request.args.push(from..request.bytes.len());
            }
            let args = first..request.args.len();
            let slot = (!spec.keys.is_none()).then(|| Slot::of_key(&command[1]));
            let by = match slot {
                Some(slot) if spec.keys == crate::command::Keys::ONE => {
                    request.assign(self.workers.of(slot))
                }
                _ => request.gate(self.workers.all()),
            };
            let (version, readonly, hold, silent, tracks) = (Version::V2, false, 0, false, false);
            request.calls.push(Call {
                spec,
                args,
                slot,
                by,
                version,
                readonly,
                hold,
                silent,
                tracks,
            });
        }
        let request = Arc::new(request);
        assert!(request.calls.iter().all(|call| !matches!(call.by, RunBy::Io)));
        let mut waiting = self.workers.nothing_waiting();
        self.workers.enqueue(&request, &mut waiting);
        self.workers.hand_over(&mut waiting);
        let parts = (0..request.workers.len()).map(|_| self.answers.recv().unwrap());
        let mut parts: Vec<_> = parts
            .map(|part| {
                assert!(!part.lost);
                (part.worker, part.bytes)
            })
            .collect();
        parts.sort();
        parts
    }
}

fn random_command(random: &mut StdRng) -> Vec<Vec<u8>> {
    let one_of =
        |random: &mut StdRng, list: &[&str]| list[random.random_range(0..list.len())].to_owned();
    let key = format!("k{}", random.random_range(0..12));
    let other = format!("k{}", random.random_range(0..12));
    let part = format!("f{}", random.random_range(0..6));
    let value = "v".repeat(random.random_range(0..40)) + &random.random_range(0..9).to_string();
    let number = random.random_range(0..9).to_string();
    let text = match random.random_range(0..29) {
        0 | 1 => format!("GET {key}"),
        2 | 3 => format!("SET {key} {value}"),
        4 => format!("DEL {key}"),
        5 => format!("APPEND {key} {value}"),
        6 => format!("HSET {key} {part} {value}"),
        7 => format!("HGET {key} {part}"),
        8 => format!("HDEL {key} {part}"),
        9 => format!("HLEN {key}"),
        10 => format!("ZADD {key} {number} {part}"),
        11 => format!("ZSCORE {key} {part}"),
        12 => format!("ZREM {key} {part}"),
        13 => format!("ZPOPMIN {key}"),
        14 => format!("SADD {key} {part}"),
        15 => format!("SISMEMBER {key} {part}"),
        16 => format!("LPUSH {key} {value}"),
        17 => format!("RPOP {key}"),
        18 => format!("LRANGE {key} 0 -1"),
        19 => format!("MSET {key} {value} {other} {number}"),
        20 => format!("MGET {key} {other}"),
        21 => format!("RENAME {key} {other}"),
        22 => format!("SMEMBERS {key}"),
        23 => format!("ZRANGE {key} 0 -1 WITHSCORES"),
        26 | 27 => format!("ZADD {key} {number} {part}{number}"),
        28 => format!("ZPOPMAX {key}"),
        24 if random.random_ratio(1, 10) => one_of(random, &["FLUSHALL", "DBSIZE"]),
        _ => format!("EXISTS {key} {other}"),
    };
    text.split(' ').map(|arg| arg.as_bytes().to_vec()).collect()
}

#[test]
fn workers_with_a_tiny_cache_answer_as_those_without() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (none, tiny, large) = (Bench::new(0), Bench::new(3 * 2_500), Bench::new(8 << 20));
    for round in 0..600 {
        let commands: Vec<_> = (0..8).map(|_| random_command(&mut random)).collect();
        let expected = none.run(&commands);
        assert_eq!(tiny.run(&commands), expected, "a tiny cache in round {round}");
        assert_eq!(large.run(&commands), expected, "a large cache in round {round}");
    }
    // Of a collection that began just now it knows that it is empty.
    assert!(none.workers.caches().hits_and_misses().0 < 100);
    assert!(large.workers.caches().hits_and_misses().0 > 1_000);
}

#[test]
fn what_changes_outside_is_seen() {
    let bench = Bench::new(1 << 20);
    let command = |text: &str| text.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
    let get = || bench.run(&[command("GET k")]).remove(0).1;
    bench.run(&[command("SET k here")]);
    assert_eq!(get(), b"$4\r\nhere\r\n");
    let store = bench.store.load().unwrap();
    let mut key = Vec::new();
    meta::encode_key(Slot::of_key(b"k"), b"k", &mut key);
    let mut batch = rocksdb::WriteBatch::default();
    batch.delete_cf(store.cf(Cf::Meta), &key);
    store.exclusive().replace(batch).unwrap();
    assert_eq!(get(), b"$-1\r\n");
}
