//! Digests of a node's live data, slot by slot, at one position.

use std::collections::BTreeMap;

use keyspace::Hlc;
use serde::{Deserialize, Serialize};
use wal::Position;

/// What is live in one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlotDigest {
    /// The wrapping sum of a hash of every live entry, as 32 hexadecimal digits in JSON.
    #[serde(with = "hex")]
    pub digest: u128,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys, fields, members and values.
    pub bytes: u64,
}

impl SlotDigest {
    /// Adds another slot's.
    pub fn add(&mut self, other: &Self) {
        self.digest = self.digest.wrapping_add(other.digest);
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

/// Answer of `GODWIT.DIGEST`. Slots without a live key are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Digest {
    /// The barrier's position in the log of the primary that made it.
    pub position: Position,
    /// Entries that expire at or before this stamp count as gone.
    pub stamp: Hlc,
    /// By slot number. On a standby: the slots that it holds, of every source; compare those that
    /// the source of the barrier has.
    pub slots: BTreeMap<u16, SlotDigest>,
    /// All of them together.
    pub total: SlotDigest,
}

mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
