//! What keys held in the end, from the records that their own node exports.

use std::collections::BTreeMap;

use keyspace::data::DataKey;
use keyspace::meta::{self, Body, Meta, Type};
use keyspace::score::ScoreKey;
use keyspace::{Cf, Hlc};
use wal::Sequence;
use wal::batch::{BatchBuilder, BatchRef, Record};

use super::entry::Value;

/// The most bytes of one key's records that a ledger keeps; of a greater one a digest.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

struct Found {
    kind: Type,
    version: Option<Hlc>,
    records: BatchBuilder,
}

/// The value of each key in an exported batch, in which a key's meta record comes before its others.
/// Records of a version that the meta record does not name are garbage, and left out. A key that is
/// not in it was deleted.
///
/// # Errors
/// In words: the batch is damaged.
pub fn values_of(batch: &[u8]) -> Result<BTreeMap<Vec<u8>, Value>, String> {
    let parsed = BatchRef::parse(batch).map_err(|why| why.to_string())?;
    let mut found = BTreeMap::<Vec<u8>, Found>::new();
    for record in parsed.records() {
        let Record::Put { cf, key: raw, value } = record else {
            return Err("the batch does more than put".to_owned());
        };
        let (key, version) = match cf {
            Cf::Meta => {
                let (_, key) = meta::decode_key(raw).map_err(|why| why.to_string())?;
                let meta = Meta::decode(value).map_err(|why| why.to_string())?;
                let version = match meta.body {
                    Body::String(_) => None,
                    Body::Collection(collection) => Some(collection.version),
                };
                let records = BatchBuilder::new(Sequence(0));
                found.insert(key.to_vec(), Found { kind: meta.kind(), version, records });
                (key, version)
            }
            Cf::Data => {
                let data = DataKey::decode(raw).map_err(|why| why.to_string())?;
                (data.key, Some(data.version))
            }
            Cf::Score => {
                let score = ScoreKey::decode(raw).map_err(|why| why.to_string())?;
                (score.key, Some(score.version))
            }
            Cf::System => return Err("the batch has node-local records".to_owned()),
        };
        if let Some(found) = found.get_mut(key).filter(|found| found.version == version) {
            found.records.put(cf, raw, value);
        }
    }
    let kept = |Found { kind, records, .. }: Found| {
        let records = records.finish();
        if records.len() <= VALUE_BYTES_MAX {
            return Value::Kept { kind, records };
        }
        let blake3 = *blake3::hash(&records).as_bytes();
        Value::Digest { kind, bytes: records.len() as u64, blake3 }
    };
    Ok(found.into_iter().map(|(key, found)| (key, kept(found))).collect())
}
