//! Record after record through the bytes of a batch.

use keyspace::Cf;

use super::{BatchError, HEADER, Record};

/// `ValueType` of RocksDB's `db/dbformat.h`: what is accepted.
pub(super) mod tag {
    pub(in crate::batch) const DELETE: u8 = 0x0;
    pub(in crate::batch) const PUT: u8 = 0x1;
    pub(in crate::batch) const MERGE: u8 = 0x2;
    pub(in crate::batch) const LOG_DATA: u8 = 0x3;
    pub(in crate::batch) const CF_DELETE: u8 = 0x4;
    pub(in crate::batch) const CF_PUT: u8 = 0x5;
    pub(in crate::batch) const CF_MERGE: u8 = 0x6;
    pub(in crate::batch) const SINGLE_DELETE: u8 = 0x7;
    pub(in crate::batch) const CF_SINGLE_DELETE: u8 = 0x8;
    pub(in crate::batch) const CF_DELETE_RANGE: u8 = 0xE;
    pub(in crate::batch) const DELETE_RANGE: u8 = 0xF;
}

/// `ValueType` of RocksDB's `db/dbformat.h`: what is known and refused by name.
fn unsupported(tag: u8) -> Option<&'static str> {
    Some(match tag {
        0x09 => "begin of a prepared transaction",
        0x0A => "end of a prepared transaction",
        0x0B => "commit of a prepared transaction",
        0x0C => "rollback of a prepared transaction",
        0x0D => "no-op of a transaction database",
        0x10 | 0x11 => "blob index",
        0x12 => "begin of a write-prepared transaction",
        0x13 => "begin of a write-unprepared transaction",
        0x14 => "delete with a user timestamp",
        0x15 => "commit of a prepared transaction with a timestamp",
        0x16 | 0x17 => "wide-column entity",
        0x18 | 0x19 => "timed put",
        _ => return None,
    })
}

/// Reads records from the bytes of a batch, whose header it skips.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: HEADER }
    }

    /// Where the next record begins.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, BatchError> {
        let start = self.offset;
        let Some(&tag) = self.bytes.get(start) else { return Ok(None) };
        self.offset += 1;
        let cut = BatchError::Cut { offset: start };
        let record = match tag {
            tag::DELETE | tag::CF_DELETE => {
                let cf = self.family(tag == tag::CF_DELETE, start)?;
                Record::Delete { cf, key: self.slice().ok_or(cut)? }
            }
            tag::PUT | tag::CF_PUT => {
                let cf = self.family(tag == tag::CF_PUT, start)?;
                let (key, value) = self.pair().ok_or(cut)?;
                Record::Put { cf, key, value }
            }
            tag::MERGE | tag::CF_MERGE => {
                let cf = self.family(tag == tag::CF_MERGE, start)?;
                let (key, value) = self.pair().ok_or(cut)?;
                Record::Merge { cf, key, value }
            }
            tag::SINGLE_DELETE | tag::CF_SINGLE_DELETE => {
                let cf = self.family(tag == tag::CF_SINGLE_DELETE, start)?;
                Record::SingleDelete { cf, key: self.slice().ok_or(cut)? }
            }
            tag::DELETE_RANGE | tag::CF_DELETE_RANGE => {
                let cf = self.family(tag == tag::CF_DELETE_RANGE, start)?;
                let (begin, end) = self.pair().ok_or(cut)?;
                Record::DeleteRange { cf, begin, end }
            }
            tag::LOG_DATA => Record::LogData(self.slice().ok_or(cut)?),
            _ => {
                return Err(match unsupported(tag) {
                    Some(name) => BatchError::Unsupported { tag, name, offset: start },
                    None => BatchError::Unknown { tag, offset: start },
                });
            }
        };
        Ok(Some(record))
    }

    fn family(&mut self, named: bool, start: usize) -> Result<Cf, BatchError> {
        if !named {
            return Ok(Cf::Meta);
        }
        let id = self.varint().ok_or(BatchError::Cut { offset: start })?;
        Cf::from_id(id).ok_or(BatchError::Family { id, offset: start })
    }

    fn pair(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        Some((self.slice()?, self.slice()?))
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let end = self.offset.checked_add(len)?;
        let slice = self.bytes.get(self.offset..end)?;
        self.offset = end;
        Some(slice)
    }

    /// `varint32` of RocksDB's `util/coding.h`: seven bits a byte, low ones first.
    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.bytes.get(self.offset)?;
            self.offset += 1;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
