//! Deletes the fields of a hash that have expired, a bounded number at a time.

use keyspace::data::{self, DataValue};
use keyspace::meta::{Body, Collection, Meta};
use keyspace::{Cf, Hlc, Slot};

use super::cursor::{Cursor, Direction, after_prefix};
use super::pending::Pending;
use crate::command::Fail;
use crate::store::Store;

/// How many fields are looked at each time that expired keys are.
pub(super) const LOOK_AT_MAX: usize = 4096;

/// What came of a look at the next fields of a hash.
pub(super) struct Looked {
    /// All of them have been looked at.
    pub(super) finished: bool,
    /// Some were deleted.
    pub(super) changed: bool,
    /// There are none left: so is the key.
    pub(super) gone: bool,
}

/// A look through one hash that was not finished.
#[derive(Default)]
pub(super) struct Pass {
    meta_key: Vec<u8>,
    /// The stamp of the hash's record when it was last looked at: another one, and fields may have
    /// got other times in the part that was passed.
    stamp: Hlc,
    /// Fields up to this one have been looked at.
    last: Vec<u8>,
    /// The earliest time that was seen; `None`: not all have been looked at in one unchanged hash.
    earliest_ms: Option<u64>,
}

impl Pass {
    /// Looks at the next fields of a hash, and writes what changes.
    pub(super) fn go_on(
        &mut self,
        store: &Store,
        pending: &mut Pending,
        (slot, name, meta_key): (Slot, &[u8], &[u8]),
        meta: &Meta<'_>,
        (now_ms, left): (u64, &mut usize),
    ) -> Result<Looked, Fail> {
        let Body::Collection(hash) = meta.body else {
            return Ok(Looked { finished: true, changed: false, gone: false });
        };
        if self.meta_key != meta_key {
            let (meta_key, last) = (meta_key.to_vec(), Vec::new());
            *self = Self { meta_key, stamp: meta.stamp, last, earliest_ms: Some(u64::MAX) };
        } else if self.stamp != meta.stamp {
            self.earliest_ms = None;
        }
        let (deleted, finished) = self.look(store, pending, (slot, name, &hash), now_ms, left)?;
        let mut kept = Collection { size: hash.size.saturating_sub(deleted), ..hash };
        if finished && let Some(earliest_ms) = self.earliest_ms {
            kept.fields_expire_ms = if earliest_ms == u64::MAX { 0 } else { earliest_ms };
        }
        if kept.size == 0 {
            pending.delete(Cf::Meta, meta_key);
        } else if kept != hash {
            self.stamp = store.hlc().next(now_ms);
            let mut record = Vec::new();
            let body = Body::Collection(kept);
            Meta { stamp: self.stamp, expire_ms: meta.expire_ms, body }.encode(&mut record);
            pending.put(Cf::Meta, meta_key, &record);
        }
        if finished {
            *self = Self::default();
        }
        Ok(Looked { finished, changed: deleted > 0, gone: kept.size == 0 })
    }

    /// How many were deleted, and whether the end was reached.
    fn look(
        &mut self,
        store: &Store,
        pending: &mut Pending,
        (slot, name, hash): (Slot, &[u8], &Collection),
        now_ms: u64,
        left: &mut usize,
    ) -> Result<(u64, bool), Fail> {
        let mut prefix = Vec::new();
        data::encode_prefix(slot, name, hash.version, &mut prefix);
        let mut from = [&prefix[..], &self.last].concat();
        if !self.last.is_empty() {
            from.push(0);
        }
        let prefix_len = prefix.len();
        let mut fields = Cursor::new(store, Cf::Data, from, after_prefix(prefix), Direction::Up);
        let mut deleted = 0;
        while let Some((key, value)) = fields.step()? {
            let expire_ms = DataValue::decode(value)?.expire_ms;
            *left = left.saturating_sub(1);
            if expire_ms != 0 && expire_ms <= now_ms {
                pending.delete(Cf::Data, key);
                deleted += 1;
            } else if expire_ms != 0 {
                self.earliest_ms = self.earliest_ms.map(|earliest| earliest.min(expire_ms));
            }
            if *left == 0 || pending.is_full() {
                self.last = key[prefix_len..].to_vec();
                return Ok((deleted, false));
            }
        }
        Ok((deleted, true))
    }
}
