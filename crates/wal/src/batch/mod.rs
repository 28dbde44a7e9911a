//! What is in one record of the log: a RocksDB `WriteBatch`.
//!
//! A batch is parsed whole before anything is done with it, and fails closed: a tag that this crate
//! does not know, or knows and cannot ship, is an error that names it, never skipped. (RocksDB's
//! own visitors drop range deletes and log data in silence.) The layout is RocksDB's
//! `db/write_batch.cc`; the subset we accept is in `docs/formats.md`.

mod builder;
mod error;
mod project;
mod reader;

use keyspace::Cf;

pub use builder::BatchBuilder;
pub use error::BatchError;
pub use project::{Projection, project};
use reader::Reader;

use crate::tag::TagError;
use crate::{Sequence, Tag};

/// Bytes before the first record: the sequence (8) and the count (4), little endian.
pub const HEADER: usize = 12;

/// The greatest batch that a node writes, header included: a value of 512 MiB, its key and room. A
/// node refuses a greater one in words, and every limit on the way to a follower is derived from
/// this one, so that nothing can be written that cannot be shipped.
pub const MAX_BATCH: usize = 640 << 20;

/// A batch whose every record has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRef<'a> {
    bytes: &'a [u8],
    sequence: Sequence,
    count: u32,
    families: u8,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Sets a key.
    Put {
        /// The column family.
        cf: Cf,
        /// The encoded key.
        key: &'a [u8],
        /// The encoded value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// The column family.
        cf: Cf,
        /// The encoded key.
        key: &'a [u8],
    },
    /// Removes a key that was put once. No node writes this.
    SingleDelete {
        /// The column family.
        cf: Cf,
        /// The encoded key.
        key: &'a [u8],
    },
    /// Removes the keys from `begin` up to `end`, which is not included.
    DeleteRange {
        /// The column family.
        cf: Cf,
        /// The first key that goes.
        begin: &'a [u8],
        /// The first key that stays.
        end: &'a [u8],
    },
    /// An operand for a merge operator. No node writes this.
    Merge {
        /// The column family.
        cf: Cf,
        /// The encoded key.
        key: &'a [u8],
        /// The operand.
        value: &'a [u8],
    },
    /// Bytes that are in the log only: a node's [`Tag`].
    LogData(&'a [u8]),
}

impl Record<'_> {
    /// The column family it changes; log data changes none.
    pub const fn cf(&self) -> Option<Cf> {
        match self {
            Self::Put { cf, .. }
            | Self::Delete { cf, .. }
            | Self::SingleDelete { cf, .. }
            | Self::DeleteRange { cf, .. }
            | Self::Merge { cf, .. } => Some(*cf),
            Self::LogData(_) => None,
        }
    }
}

impl<'a> BatchRef<'a> {
    /// Checks a whole batch: every record known and inside the bytes, and as many as it says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(BatchError::Short(bytes.len()));
        };
        let (sequence, count) = header.split_at(8);
        let sequence = u64::from_le_bytes(sequence.try_into().expect("8 of 12 bytes"));
        let count = u32::from_le_bytes(count.try_into().expect("4 of 12 bytes"));
        if sequence.checked_add(u64::from(count)).is_none_or(|next| next > MAX_SEQUENCE) {
            return Err(BatchError::Sequence { sequence, count });
        }
        let (mut found, mut families) = (0_u32, 0_u8);
        let mut reader = Reader::new(bytes);
        while let Some(record) = reader.next()? {
            if let Some(cf) = record.cf() {
                found = found.saturating_add(1);
                families |= 1 << cf.id();
            }
        }
        if found != count {
            return Err(BatchError::Count { said: count, found });
        }
        Ok(Self { bytes, sequence: Sequence(sequence), count, families })
    }

    /// The whole of it, as RocksDB takes it.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The sequence of its first record; the batch before it ended at the one below.
    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// How many sequences it uses; a batch of log data alone uses none.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The last sequence that it uses; without any, that of the batch before.
    pub const fn end(&self) -> Sequence {
        Sequence((self.sequence.0 + self.count as u64).saturating_sub(1))
    }

    /// Whether a record changes this column family.
    pub const fn touches(&self, cf: Cf) -> bool {
        self.families & 1 << cf.id() != 0
    }

    /// Whether it changes nothing but node-local state, or nothing at all.
    pub const fn is_local(&self) -> bool {
        self.families & !(1 << Cf::System.id()) == 0
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        // `parse` went over the same bytes with the same reader, so there is no error to lose.
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || reader.next().ok().flatten())
    }

    /// The tags in its log data. Several, if RocksDB merged several writers into it; none, if
    /// RocksDB wrote it by itself when it recovered from a damaged tail.
    pub fn tags(&self) -> impl Iterator<Item = Result<Tag, TagError>> + use<'a> {
        self.records().filter_map(|record| match record {
            Record::LogData(bytes) => Some(Tag::decode(bytes)),
            _ => None,
        })
    }
}

/// RocksDB packs a sequence and a type into 64 bits (`kMaxSequenceNumber`, `db/dbformat.h`).
const MAX_SEQUENCE: u64 = (1 << 56) - 1;
