//! Collections from sorted rows: data records at once, meta records and scores when a key is whole.

use ::store::load::Family;
use anyhow::Context;
use keyspace::data::{DataValue, encode_prefix};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::score::{Score, ScoreKey};
use keyspace::{Hlc, Slot};

use super::files::Files;
use super::sort::Sorter;

/// Before a row's value: when its key expires.
const EXPIRY: usize = 8;
/// Before the user key in a data key: its slot and length.
const HEAD: usize = 6;

pub(super) struct Gather {
    kind: Type,
    stamp: Hlc,
    metas: Sorter,
    scores: Sorter,
    /// What the rows of the key begin with: slot, length, key. Empty before the first row.
    prefix: Vec<u8>,
    size: u64,
    expire_ms: u64,
    record: Vec<u8>,
    value: Vec<u8>,
}

impl Gather {
    pub(super) fn new(kind: Type, stamp: Hlc, metas: Sorter, scores: Sorter) -> Self {
        let (prefix, record, value) = Default::default();
        Self { kind, stamp, metas, scores, prefix, size: 0, expire_ms: 0, record, value }
    }

    /// Takes the next row: its key is slot, length, key, and the field or member; its value is when
    /// the key expires, and what is stored.
    pub(super) fn take(
        &mut self,
        row: &[u8],
        value: &[u8],
        files: &mut Files<'_>,
    ) -> anyhow::Result<()> {
        const WHOLE: &str = "rows were sorted whole";
        let length = row.get(2..HEAD).and_then(|length| length.try_into().ok()).expect(WHOLE);
        let (prefix, subkey) = row.split_at(HEAD + u32::from_be_bytes(length) as usize);
        let (expiry, value) = value.split_first_chunk::<EXPIRY>().expect(WHOLE);
        let expire_ms = u64::from_be_bytes(*expiry);
        if prefix != self.prefix {
            self.end_key()?;
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.expire_ms = expire_ms;
        }
        self.size += 1;
        // Never, which is 0, is later than any time.
        if self.expire_ms != 0 {
            self.expire_ms = if expire_ms == 0 { 0 } else { self.expire_ms.max(expire_ms) };
        }
        let (slot, key) = owner(&self.prefix);
        self.record.clear();
        encode_prefix(slot, key, self.stamp, &mut self.record);
        self.record.extend_from_slice(subkey);
        self.value.clear();
        DataValue::new(self.stamp, value).encode(&mut self.value);
        files.put(Family::Data, &self.record, &self.value)?;
        if self.kind == Type::Zset {
            let score = Score::decode(value).context("sorting a score")?;
            self.record.clear();
            ScoreKey { slot, key, version: self.stamp, score, member: subkey }
                .encode(&mut self.record);
            self.scores.push(&self.record, &[]).context("sorting scores on disk")?;
        }
        Ok(())
    }

    fn end_key(&mut self) -> anyhow::Result<()> {
        if self.prefix.is_empty() {
            return Ok(());
        }
        let (slot, key) = owner(&self.prefix);
        self.record.clear();
        meta::encode_key(slot, key, &mut self.record);
        let size = std::mem::take(&mut self.size);
        let body = Body::Collection(Collection { size, ..Collection::new(self.kind, self.stamp) });
        self.value.clear();
        Meta { stamp: self.stamp, expire_ms: self.expire_ms, body }.encode(&mut self.value);
        self.metas.push(&self.record, &[&self.value]).context("sorting keys on disk")
    }

    /// Meta records and scores, to be sorted.
    pub(super) fn finish(mut self) -> anyhow::Result<(Sorter, Sorter)> {
        self.end_key()?;
        Ok((self.metas, self.scores))
    }
}

/// Whose rows begin with this.
fn owner(prefix: &[u8]) -> (Slot, &[u8]) {
    let slot = Slot::of_encoded(prefix).expect("a row's key begins with its slot");
    (slot, &prefix[HEAD..])
}
