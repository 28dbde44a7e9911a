//! The records of a collection's fields, elements and members. Layout: `docs/formats.md`, "Keys
//! and values".

use crate::error::Reader;
use crate::{DecodeError, Hlc, Slot};

const FLAG_EXPIRES: u8 = 1;

/// A data key, decoded in place: whose it is, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKey<'a> {
    /// The slot of the user key.
    pub slot: Slot,
    /// The user key.
    pub key: &'a [u8],
    /// The version of the collection that it belongs to.
    pub version: Hlc,
    /// A field, a member, or a list's index as eight bytes big endian.
    pub subkey: &'a [u8],
}

impl<'a> DataKey<'a> {
    /// Reads a key without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::decode_as("data key", bytes)
    }

    pub(crate) fn decode_as(what: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(what, bytes);
        let slot = Slot::new(u16::from_be_bytes(reader.take()?)).ok_or(DecodeError::Slot(what))?;
        let len = u32::from_be_bytes(reader.take()?);
        let key = reader.bytes(len as usize)?;
        let version = Hlc(reader.u64()?);
        Ok(Self { slot, key, version, subkey: reader.rest })
    }

    /// Appends the key's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_prefix(self.slot, self.key, self.version, out);
        out.extend_from_slice(self.subkey);
    }
}

/// Appends what all data and score keys of one collection begin with.
pub fn encode_prefix(slot: Slot, key: &[u8], version: Hlc, out: &mut Vec<u8>) {
    let len = u32::try_from(key.len()).expect("keys are bounded far below 4 GiB");
    out.extend_from_slice(&slot.prefix());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&version.0.to_be_bytes());
}

/// How long [`encode_prefix`] makes the prefix of a key of this length, in bytes.
pub const fn prefix_len(key_len: usize) -> usize {
    2 + 4 + key_len + 8
}

/// A data value, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataValue<'a> {
    /// When it was last written.
    pub stamp: Hlc,
    /// Unix milliseconds at which the field expires; 0 for never.
    pub expire_ms: u64,
    /// A field's value, an element, a member's score; empty for a set's member.
    pub bytes: &'a [u8],
}

impl<'a> DataValue<'a> {
    /// A value that does not expire by itself.
    pub const fn new(stamp: Hlc, bytes: &'a [u8]) -> Self {
        Self { stamp, expire_ms: 0, bytes }
    }

    /// Whether it is there for a reader whose clock shows `now_ms`.
    pub const fn is_live(&self, now_ms: u64) -> bool {
        self.expire_ms == 0 || self.expire_ms > now_ms
    }

    /// Reads a value without copying it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("data value", bytes);
        let flags = reader.u8()?;
        if flags & !FLAG_EXPIRES != 0 {
            return Err(DecodeError::Flags(flags, "data value"));
        }
        let stamp = Hlc(reader.u64()?);
        let expire_ms = if flags & FLAG_EXPIRES != 0 { reader.u64()? } else { 0 };
        Ok(Self { stamp, expire_ms, bytes: reader.rest })
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(if self.expire_ms == 0 { 0 } else { FLAG_EXPIRES });
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        if self.expire_ms != 0 {
            out.extend_from_slice(&self.expire_ms.to_be_bytes());
        }
        out.extend_from_slice(self.bytes);
    }
}
