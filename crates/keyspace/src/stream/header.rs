//! What a stream is beside its entries and groups.

use super::StreamId;
use crate::error::Reader;
use crate::{DecodeError, varint};

/// A stream's header, rewritten by each XADD.
///
/// Entries are counted in *blocks*: what `MAXLEN ~` takes off at once. An entry says which block it
/// belongs to; only the last one grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The greatest id that was ever given out.
    pub last: StreamId,
    /// The id of the first entry; 0-0 if there is none.
    pub first: StreamId,
    /// The greatest id that XDEL ever deleted; 0-0 if it never did.
    pub max_deleted: StreamId,
    /// How many entries there are.
    pub length: u64,
    /// How many were ever added.
    pub added: u64,
    /// How many consumer groups there are.
    pub groups: u64,
    /// The number of the last block.
    pub block: u64,
    /// Entries that were added to the last block, deleted ones too.
    pub block_entries: u64,
    /// Bytes of their values.
    pub block_bytes: u64,
    /// The number of the block that `head_entries` speaks of.
    pub head_block: u64,
    /// How many entries the first entry's block has; 0 if that has to be counted.
    pub head_entries: u64,
}

impl Header {
    /// Reads a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "stream header";
        let mut reader = Reader::new(WHAT, bytes);
        let flags = reader.u8()?;
        if flags != 0 {
            return Err(DecodeError::Flags(flags, WHAT));
        }
        let mut header = Self {
            last: StreamId::read(&mut reader)?,
            first: StreamId::read(&mut reader)?,
            max_deleted: StreamId::read(&mut reader)?,
            ..Self::default()
        };
        for number in header.numbers_mut() {
            *number = varint::read(&mut reader)?;
        }
        reader.end()?;
        Ok(header)
    }

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(0);
        for id in [self.last, self.first, self.max_deleted] {
            out.extend_from_slice(&id.bytes());
        }
        let mut copy = *self;
        for number in copy.numbers_mut() {
            varint::write(*number, out);
        }
    }

    /// The numbers, in the order in which they are written.
    fn numbers_mut(&mut self) -> [&mut u64; 8] {
        [
            &mut self.length,
            &mut self.added,
            &mut self.groups,
            &mut self.block,
            &mut self.block_entries,
            &mut self.block_bytes,
            &mut self.head_block,
            &mut self.head_entries,
        ]
    }
}
