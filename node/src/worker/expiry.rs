//! Looks for expired keys, and hashes with expired fields, and deletes them, a little at a time, where
//! this node may write; keys that a command comes upon are deleted behind it.

use keyspace::meta::{self, Body, Meta};
use keyspace::{Cf, SLOTS, Slot};

use super::cursor::{Cursor, Direction};
use super::effects::Effects;
use super::fields::{self, Pass};
use super::overlay::hash;
use super::pending::{Became, Pending};
use super::run::Worker;
use super::view::Key;
use crate::control::Authority;
use crate::store::Store;

/// How many keys are looked at each time.
const LOOK_AT_MAX: usize = 200;

/// Goes round and round the slots of one worker.
pub(super) struct Sweeper {
    first: u16,
    step: u16,
    slot: u16,
    /// The meta key to go on from; empty: the start of the slot.
    from: Vec<u8>,
    /// The hash whose fields are being looked at.
    pass: Pass,
}

impl Sweeper {
    pub(super) fn new(worker: u16, workers: usize) -> Self {
        let step = u16::try_from(workers).expect("there are at most 64 workers");
        Self { first: worker, step, slot: worker, from: Vec::new(), pass: Pass::default() }
    }

    /// Looks at the next few keys. What cannot be read or written now waits for the next round.
    pub(super) fn sweep(
        &mut self,
        store: &Store,
        (authority, effects): (&Authority, &Effects),
        pending: &mut Pending,
    ) {
        // Committed records only: what the batch holds was written just now.
        if !pending.is_empty() || effects.listeners.is_still() {
            return;
        }
        let now_ms = store.now_ms();
        let (mut left, mut fields_left) = (LOOK_AT_MAX, fields::LOOK_AT_MAX);
        // An empty slot costs a seek, so slots count too.
        while left > 0 {
            left -= 1;
            let Some(slot) = Slot::new(self.slot) else { return };
            let Ok(permit) = authority.admit_write(slot) else {
                self.next_slot();
                continue;
            };
            let lower = match self.from.is_empty() {
                true => slot.prefix().to_vec(),
                false => std::mem::take(&mut self.from),
            };
            let upper = (self.slot + 1).to_be_bytes().to_vec();
            let mut keys = Cursor::new(store, Cf::Meta, lower, upper, Direction::Up);
            loop {
                let Ok(Some((key, value))) = keys.step() else {
                    self.next_slot();
                    break;
                };
                if left == 0 {
                    self.from = key.to_vec();
                    return;
                }
                left -= 1;
                let (Ok(meta), Ok((slot, name))) = (Meta::decode(value), meta::decode_key(key))
                else {
                    continue;
                };
                if !meta.is_live(now_ms) {
                    pending.admit(permit);
                    effects.expire(Key { slot, name });
                    pending.delete(Cf::Meta, key);
                } else if let Body::Collection(at) = meta.body
                    && at.may_have_expired(now_ms)
                {
                    pending.admit(permit);
                    let whose = (slot, name, key);
                    let bounds = (now_ms, &mut fields_left);
                    match self.pass.go_on(store, pending, whose, &meta, bounds) {
                        Ok(looked) => {
                            if looked.changed {
                                effects.expire_fields(Key { slot, name }, looked.gone);
                            }
                            if !looked.finished {
                                self.from = key.to_vec();
                                return;
                            }
                        }
                        Err(_) => {
                            // Nothing of half a hash is written; it is passed over, and a command
                            // that reads it says why.
                            pending.clear(Became::Nothing, store.generation());
                            effects.forget();
                            self.pass = Pass::default();
                            self.from = [key, &[0]].concat();
                            return;
                        }
                    }
                }
                if pending.is_full() {
                    self.from = [key, &[0]].concat();
                    return;
                }
            }
        }
    }

    fn next_slot(&mut self) {
        self.slot += self.step;
        if self.slot >= SLOTS {
            self.slot = self.first;
        }
        self.from.clear();
    }
}

impl Worker {
    /// Deletes the keys that the last call came upon and whose time has come.
    pub(super) fn bury(&mut self, store: Option<&Store>) {
        let mut bytes = Vec::new();
        for name in self.effects.take_dead() {
            let key = Key::new(&name);
            let (Some(store), Ok(permit)) = (store, self.authority.admit_write(key.slot)) else {
                continue;
            };
            let now_ms = store.now_ms();
            bytes.clear();
            meta::encode_key(key.slot, key.name, &mut bytes);
            let is_dead =
                |value: &[u8]| Meta::decode(value).is_ok_and(|meta| !meta.is_live(now_ms));
            // The call may have put something in its place.
            let dead = match self.pending.get((hash(Cf::Meta, &bytes), Cf::Meta), &bytes) {
                Some(written) => written.is_some_and(is_dead),
                None => {
                    let stored = store.db().get_pinned_cf(store.cf(Cf::Meta), &bytes);
                    stored.is_ok_and(|value| value.is_some_and(|value| is_dead(&value)))
                }
            };
            if dead {
                self.pending.admit(permit);
                self.pending.delete(Cf::Meta, &bytes);
            }
        }
    }
}
