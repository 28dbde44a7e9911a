//! Looks for expired keys and deletes them, a little at a time, where this node may write.

use keyspace::meta::{self, Meta};
use keyspace::{Cf, SLOTS, Slot};

use super::cursor::{Cursor, Direction};
use super::pending::Pending;
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
}

impl Sweeper {
    pub(super) fn new(worker: u16, workers: usize) -> Self {
        let step = u16::try_from(workers).expect("there are at most 64 workers");
        Self { first: worker, step, slot: worker, from: Vec::new() }
    }

    /// Looks at the next few keys. What cannot be read or written now waits for the next round.
    pub(super) fn sweep(&mut self, store: &Store, authority: &Authority, pending: &mut Pending) {
        // Committed records only: what the batch holds was written just now.
        if !pending.is_empty() {
            return;
        }
        let now_ms = store.now_ms();
        let mut left = LOOK_AT_MAX;
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
                let expired = Meta::decode(value).is_ok_and(|meta| !meta.is_live(now_ms));
                if expired && meta::decode_key(key).is_ok() {
                    pending.admit(permit);
                    pending.delete(store, Cf::Meta, key);
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
