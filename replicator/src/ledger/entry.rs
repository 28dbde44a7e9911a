//! One line of a ledger: what was touched, by which batch, and what it came to.

use keyspace::meta::Type;
use keyspace::{Hlc, SlotSet};
use wal::Sequence;

/// Which batch touched it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Its stamp.
    pub stamp: Hlc,
    /// Its end, on the log that was left.
    pub end: Sequence,
}

/// What a key held in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: it was deleted.
    Deleted,
    /// These records: a RocksDB write batch that puts them, the meta record first.
    Kept {
        /// Its type.
        kind: Type,
        /// The batch.
        records: Vec<u8>,
    },
    /// Too much to be kept a second time; the stranded batches are.
    Digest {
        /// Its type.
        kind: Type,
        /// Bytes of its records.
        bytes: u64,
        /// BLAKE3 of them, as the batch of [`Value::Kept`] would be.
        blake3: [u8; 32],
    },
    /// It could not be read; why.
    Unknown(String),
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A key.
    Key {
        /// Its name.
        key: Vec<u8>,
        /// What it held in the end.
        value: Value,
    },
    /// Everything in these slots was deleted (FLUSHALL).
    Flushed(SlotSet),
    /// A load was taken in.
    Load {
        /// Its id.
        id: u128,
        /// The slots that were taken in.
        slots: SlotSet,
    },
    /// A record of no slot: a user, a library of functions.
    Record {
        /// Its raw key.
        key: Vec<u8>,
        /// The record as it was put last; none: it was deleted.
        value: Option<Vec<u8>>,
    },
    /// Something else that the batches hold; in words.
    Other(String),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last stranded batch that touched it.
    pub touched: Touched,
    /// What it is about.
    pub what: What,
}

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry that cannot be read: {0}")]
pub struct EntryError(pub(super) String);

const KEPT: u8 = 1;
const DELETED: u8 = 2;
const DIGEST: u8 = 3;
const UNKNOWN: u8 = 4;
const FLUSHED: u8 = 5;
const LOAD: u8 = 6;
const OTHER: u8 = 7;
const RECORD: u8 = 8;
const RECORD_DELETED: u8 = 9;

impl Entry {
    /// Appends the body of its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match &self.what {
            What::Key { value: Value::Kept { .. }, .. } => KEPT,
            What::Key { value: Value::Deleted, .. } => DELETED,
            What::Key { value: Value::Digest { .. }, .. } => DIGEST,
            What::Key { value: Value::Unknown(_), .. } => UNKNOWN,
            What::Flushed(_) => FLUSHED,
            What::Load { .. } => LOAD,
            What::Other(_) => OTHER,
            What::Record { value: Some(_), .. } => RECORD,
            What::Record { value: None, .. } => RECORD_DELETED,
        };
        out.push(kind);
        out.extend_from_slice(&self.touched.stamp.0.to_le_bytes());
        out.extend_from_slice(&self.touched.end.0.to_le_bytes());
        match &self.what {
            What::Key { key, value: Value::Kept { kind, records } } => {
                out.push(*kind as u8);
                out.extend_from_slice(&length(key).to_le_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(records);
            }
            What::Key { key, value: Value::Deleted } => out.extend_from_slice(key),
            What::Key { key, value: Value::Digest { kind, bytes, blake3 } } => {
                out.push(*kind as u8);
                out.extend_from_slice(&bytes.to_le_bytes());
                out.extend_from_slice(blake3);
                out.extend_from_slice(key);
            }
            What::Key { key, value: Value::Unknown(why) } => {
                out.extend_from_slice(&length(why.as_bytes()).to_le_bytes());
                out.extend_from_slice(why.as_bytes());
                out.extend_from_slice(key);
            }
            What::Flushed(slots) => out.extend_from_slice(slots.to_string().as_bytes()),
            What::Load { id, slots } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(slots.to_string().as_bytes());
            }
            What::Other(text) => out.extend_from_slice(text.as_bytes()),
            What::Record { key, value: Some(value) } => {
                out.extend_from_slice(&length(key).to_le_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
            What::Record { key, value: None } => out.extend_from_slice(key),
        }
    }

    /// Reads the body of a record, all of it.
    ///
    /// # Errors
    /// It is cut off, or of a kind that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut rest = Rest(bytes);
        let kind = rest.array::<1>()?[0];
        let stamp = Hlc(u64::from_le_bytes(rest.array()?));
        let end = Sequence(u64::from_le_bytes(rest.array()?));
        let what = match kind {
            KEPT => {
                let kind = rest.kind()?;
                let length = u32::from_le_bytes(rest.array()?);
                let key = rest.take(length)?.to_vec();
                What::Key { key, value: Value::Kept { kind, records: rest.0.to_vec() } }
            }
            DELETED => What::Key { key: rest.0.to_vec(), value: Value::Deleted },
            DIGEST => {
                let kind = rest.kind()?;
                let bytes = u64::from_le_bytes(rest.array()?);
                let blake3 = rest.array()?;
                let value = Value::Digest { kind, bytes, blake3 };
                What::Key { key: rest.0.to_vec(), value }
            }
            UNKNOWN => {
                let length = u32::from_le_bytes(rest.array()?);
                let why = text(rest.take(length)?)?;
                What::Key { key: rest.0.to_vec(), value: Value::Unknown(why) }
            }
            FLUSHED => What::Flushed(slots(rest.0)?),
            LOAD => {
                let id = u128::from_le_bytes(rest.array()?);
                What::Load { id, slots: slots(rest.0)? }
            }
            OTHER => What::Other(text(rest.0)?),
            RECORD => {
                let length = u32::from_le_bytes(rest.array()?);
                let key = rest.take(length)?.to_vec();
                What::Record { key, value: Some(rest.0.to_vec()) }
            }
            RECORD_DELETED => What::Record { key: rest.0.to_vec(), value: None },
            kind => {
                let why = format!("kind {kind}, which this version does not know: upgrade");
                return Err(EntryError(why));
            }
        };
        Ok(Self { touched: Touched { stamp, end }, what })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and sentences are bounded far below 4 GiB")
}

fn text(bytes: &[u8]) -> Result<String, EntryError> {
    String::from_utf8(bytes.to_vec()).map_err(|why| EntryError(why.to_string()))
}

fn slots(bytes: &[u8]) -> Result<SlotSet, EntryError> {
    text(bytes)?.parse().map_err(|why| EntryError(format!("{why}")))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*head)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], EntryError> {
        let (head, rest) = self.0.split_at_checked(length as usize).ok_or_else(cut)?;
        self.0 = rest;
        Ok(head)
    }

    fn kind(&mut self) -> Result<Type, EntryError> {
        let number = self.array::<1>()?[0];
        let known = Type::ALL.into_iter().find(|kind| *kind as u8 == number);
        known.ok_or_else(|| EntryError(format!("a value of type {number}")))
    }
}

fn cut() -> EntryError {
    EntryError("it is cut off".to_owned())
}
