//! The ids of entries.

use std::fmt;

use crate::DecodeError;
use crate::error::Reader;

/// An entry's id: milliseconds and a sequence number. Its bytes sort as it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix milliseconds, by default; whatever a client says otherwise.
    pub ms: u64,
    /// Which one of this millisecond.
    pub seq: u64,
}

impl StreamId {
    /// The least, which no entry has.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The greatest.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The id of these two numbers.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Sixteen bytes, big endian.
    pub fn bytes(self) -> [u8; Self::LEN] {
        self.number().to_be_bytes()
    }

    /// The id of sixteen bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self::from_number(u128::from_be_bytes(bytes))
    }

    /// The least id above this one; `None` above the greatest.
    pub fn next(self) -> Option<Self> {
        self.number().checked_add(1).map(Self::from_number)
    }

    /// The greatest id below this one; `None` below the least.
    pub fn previous(self) -> Option<Self> {
        self.number().checked_sub(1).map(Self::from_number)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.take().map(Self::from_bytes)
    }

    const fn number(self) -> u128 {
        (self.ms as u128) << 64 | self.seq as u128
    }

    const fn from_number(number: u128) -> Self {
        Self { ms: (number >> 64) as u64, seq: number as u64 }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}
