//! Asking RocksDB once for what many commands are about to read: a look at several records together
//! costs little more than half of as many looks.
//!
//! Before a worker runs what waits it brings those records into its cache, where the commands find
//! them. What is asked for is a guess from the commands' arguments, so nothing depends on it; while
//! the cache has nearly all that is asked for, nothing is done.

use std::collections::VecDeque;

use keyspace::data::DataKey;
use keyspace::meta::{self, Body, Meta};
use keyspace::{Cf, Hlc, Slot};

use super::cache::{Ahead, Caches};
use super::overlay::hash;
use super::queue::Task;
use super::request::{Call, Request, RunBy};
use crate::command::{Args, Flags, Handler};
use crate::store::Store;

/// Looked ahead where at least one of so many records had to be asked for.
const MISSED_PART: u64 = 16;
/// Records that RocksDB looks for at once (`MultiGetContext::MAX_BATCH_SIZE` in
/// `table/multiget_context.h`).
const TOGETHER_MAX: usize = 32;
/// What they may have in bytes, by the largest that were read lately: they are in memory at once.
const TOGETHER_BYTES_MAX: usize = 1 << 20;
/// Records that are brought for one turn.
const WANTED_MAX: usize = 1024;

/// What a worker keeps for it from turn to turn.
#[derive(Default)]
pub(super) struct LookAhead {
    on: bool,
    /// Records that were asked for, and those among them that the cache did not have.
    seen: (u64, u64),
    keys: Vec<u8>,
    wanted: Vec<Ahead>,
}

impl LookAhead {
    /// Brings what the commands of these tasks will read. Call it with nothing uncommitted.
    pub(super) fn bring(
        &mut self,
        store: &Store,
        caches: &Caches,
        worker: u16,
        tasks: &VecDeque<Task>,
    ) {
        let Some(counts) = caches.counts(worker) else { return };
        let asked = counts.asked.saturating_sub(self.seen.0);
        let missed = counts.missed.saturating_sub(self.seen.1);
        self.seen = (counts.asked, counts.missed);
        if asked > 0 {
            self.on = missed * MISSED_PART >= asked;
        }
        let largest = counts.largest.max(1);
        let together = (TOGETHER_BYTES_MAX / largest).min(TOGETHER_MAX);
        let wanted_max = (counts.room / largest).min(WANTED_MAX);
        if !self.on || together < 2 || wanted_max < 2 {
            return;
        }
        let mut parts = false;
        self.clear();
        for (request, call) in calls(tasks, worker) {
            if self.wanted.len() >= wanted_max {
                break;
            }
            let args = request.args_of(call);
            parts |= parts_of(call, &args).next().is_some();
            for (number, index) in call.spec.keys.indices(&args).take(wanted_max).enumerate() {
                let name = args.at(index);
                let first = call.slot.filter(|_| number == 0);
                let slot = first.unwrap_or_else(|| Slot::of_key(name));
                let from = self.keys.len();
                meta::encode_key(slot, name, &mut self.keys);
                self.want(Cf::Meta, from, None);
            }
        }
        self.fetch((store, caches), worker, Cf::Meta, together);
        if !parts {
            return;
        }
        self.clear();
        for (request, call) in calls(tasks, worker) {
            let args = request.args_of(call);
            let mut parts = parts_of(call, &args).peekable();
            if self.wanted.len() >= wanted_max {
                break;
            }
            if parts.peek().is_none() {
                continue;
            }
            let Some(slot) = call.slot else { continue };
            let Some(version) = version_of(store, caches, slot, args.at(1)) else { continue };
            for subkey in parts.take(wanted_max) {
                let from = self.keys.len();
                DataKey { slot, key: args.at(1), version, subkey }.encode(&mut self.keys);
                self.want(Cf::Data, from, Some(version));
            }
        }
        self.fetch((store, caches), worker, Cf::Data, together);
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.wanted.clear();
    }

    /// Wants the record whose key was added last.
    fn want(&mut self, cf: Cf, from: usize, version: Option<Hlc>) {
        let key = from..self.keys.len();
        let hash = hash(cf, &self.keys[key.clone()]);
        self.wanted.push(Ahead { hash, key, version });
    }

    /// Asks for those that the cache knows nothing of. One alone is left to its command, and so is
    /// the error where RocksDB has one.
    fn fetch(&mut self, (store, caches): (&Store, &Caches), worker: u16, cf: Cf, together: usize) {
        caches.retain_unknown((store, worker), cf, &self.keys, &mut self.wanted);
        // Each once, and in the order in which RocksDB has them.
        let keys = &self.keys;
        self.wanted.sort_unstable_by(|a, b| keys[a.key.clone()].cmp(&keys[b.key.clone()]));
        self.wanted.dedup_by(|a, b| keys[a.key.clone()] == keys[b.key.clone()]);
        for wanted in self.wanted.chunks(together).filter(|wanted| wanted.len() > 1) {
            let keys = wanted.iter().map(|wanted| &self.keys[wanted.key.clone()]);
            let found = store.get_many(cf, keys);
            for (wanted, found) in wanted.iter().zip(found) {
                if let Ok(value) = found {
                    caches.keep_ahead(
                        (wanted.hash, cf),
                        &self.keys[wanted.key.clone()],
                        value.as_deref(),
                    );
                }
            }
        }
    }
}

/// The commands of this worker that read what they are about.
fn calls(tasks: &VecDeque<Task>, worker: u16) -> impl Iterator<Item = (&Request, &Call)> {
    let requests = tasks.iter().filter_map(|task| match task {
        Task::Run(request) => Some(&**request),
        Task::Again(_) | Task::Pause(_) => None,
    });
    let calls = requests.flat_map(|request| request.calls.iter().map(move |call| (request, call)));
    calls.filter(move |(_, call)| call.by == RunBy::Worker(worker) && reads(call))
}

/// Whether it asks what its keys are: plain writes of strings do not.
fn reads(call: &Call) -> bool {
    let blind = || match call.spec.name {
        // With options it may.
        "set" => call.args.len() == 3,
        "mset" | "setex" | "psetex" => true,
        _ => false,
    };
    matches!(call.spec.handler, Handler::Data(_))
        && (call.spec.flags.has(Flags::READONLY) || !blind())
}

/// The fields or members that it asks for one by one, as far as its arguments show.
fn parts_of<'a>(call: &Call, args: &Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let (from, step) = match call.spec.name {
        "hget" | "hmget" | "hexists" | "hstrlen" | "hdel" | "hincrby" | "hincrbyfloat"
        | "sismember" | "smismember" | "sadd" | "srem" | "zscore" | "zmscore" | "zrem" => (2, 1),
        "hset" | "hsetnx" | "hmset" => (2, 2),
        // After its options, which are taken for members too at worst.
        "zadd" | "zincrby" => (3, 2),
        _ => (usize::MAX, 1),
    };
    args.from(from).step_by(step)
}

/// The version of the collection at a key, if the cache has it.
fn version_of(store: &Store, caches: &Caches, slot: Slot, name: &[u8]) -> Option<Hlc> {
    let mut key = Vec::new();
    meta::encode_key(slot, name, &mut key);
    let hash = hash(Cf::Meta, &key);
    let head = caches.peek(store, (hash, Cf::Meta), &key)?;
    match Meta::decode(&head).ok()?.body {
        Body::Collection(at) => Some(at.version),
        Body::String(_) => None,
    }
}
