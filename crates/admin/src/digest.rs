//! Digests of a node's live data, slot by slot, at one position.

use std::collections::BTreeMap;

use keyspace::{Hlc, Slot, SlotSet};
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

impl Digest {
    /// The digest of a slot; one that is absent has no live key.
    pub fn of(&self, slot: u16) -> SlotDigest {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    /// Compares what both have of these slots: all of it here, and the slots that differ.
    pub fn compare(&self, other: &Self, slots: &SlotSet) -> (SlotDigest, Vec<u16>) {
        let (mut covered, mut differing) = (SlotDigest::default(), Vec::new());
        for slot in slots.iter().map(Slot::number) {
            let digest = self.of(slot);
            covered.add(&digest);
            if digest != other.of(slot) {
                differing.push(slot);
            }
        }
        (covered, differing)
    }
}

/// Answer of `GODWIT.DIGEST KEYS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyDigests {
    /// The meta key to go on after; none at the end.
    pub next: Option<Vec<u8>>,
    /// Keys in the order of their bytes, each with its digest.
    pub keys: Vec<(Vec<u8>, u128)>,
}

/// Answer of `GODWIT.REPAIR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Repaired {
    /// The end of the log after it.
    pub position: Position,
    /// Keys whose records were written once more.
    pub written: u64,
    /// Keys that are not here, and were deleted once more.
    pub deleted: u64,
    /// Bytes of the batches.
    pub bytes: u64,
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
