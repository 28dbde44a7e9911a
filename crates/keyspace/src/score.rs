//! The records that keep a sorted set's members in the order of their scores. Their values are
//! empty: the stamp is in the member's data record. Layout: `docs/formats.md`, "Keys and values".

use crate::data::{DataKey, encode_prefix};
use crate::error::Reader;
use crate::{DecodeError, Hlc, Slot};

/// A score as eight bytes that sort as the numbers do. Never NaN; -0.0 is stored as 0.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score([u8; 8]);

impl Score {
    /// Length in bytes.
    pub const LEN: usize = 8;

    /// The score of this number; `None` for NaN.
    pub fn new(number: f64) -> Option<Self> {
        if number.is_nan() {
            return None;
        }
        let bits = (number + 0.0).to_bits();
        let sign = 1 << 63;
        let ordered = if bits & sign == 0 { bits | sign } else { !bits };
        Some(Self(ordered.to_be_bytes()))
    }

    /// The number.
    pub fn number(self) -> f64 {
        let ordered = u64::from_be_bytes(self.0);
        let sign = 1 << 63;
        f64::from_bits(if ordered & sign == 0 { !ordered } else { ordered & !sign })
    }

    /// The eight bytes.
    pub const fn bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Reads eight bytes; those of a NaN are damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let error = DecodeError::Length { what: "score", len: bytes.len() };
        let score = Self(bytes.try_into().map_err(|_| error)?);
        if score.number().is_nan() { Err(error) } else { Ok(score) }
    }
}

/// A score key, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreKey<'a> {
    /// The slot of the user key.
    pub slot: Slot,
    /// The user key.
    pub key: &'a [u8],
    /// The version of the sorted set.
    pub version: Hlc,
    /// The member's score.
    pub score: Score,
    /// The member.
    pub member: &'a [u8],
}

impl<'a> ScoreKey<'a> {
    /// Reads a key without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let DataKey { slot, key, version, subkey } = DataKey::decode_as("score key", bytes)?;
        let mut reader = Reader::new("score key", subkey);
        let score = Score::decode(&reader.take::<8>()?)?;
        Ok(Self { slot, key, version, score, member: reader.rest })
    }

    /// Appends the key's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_prefix(self.slot, self.key, self.version, out);
        out.extend_from_slice(&self.score.0);
        out.extend_from_slice(self.member);
    }
}
