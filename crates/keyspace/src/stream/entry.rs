//! An entry's value: its block, then its fields and values.

use crate::error::Reader;
use crate::{DecodeError, varint};

const WHAT: &str = "stream entry";

/// An entry's value, decoded in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The number of the block that it belongs to.
    pub block: u64,
    /// How many fields it has.
    pub fields: u64,
    pairs: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a value without copying it. Fields are read one by one, by [`pairs`](Self::pairs).
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(WHAT, bytes);
        let (block, fields) = (varint::read(&mut reader)?, varint::read(&mut reader)?);
        // A length each for field and value, at least: so no count asks for more than there is.
        if fields > reader.rest.len() as u64 / 2 {
            return Err(reader.error());
        }
        Ok(Self { block, fields, pairs: reader.rest })
    }

    /// Its fields and values, in the order in which they were given.
    pub fn pairs(&self) -> Fields<'a> {
        Fields { left: self.fields, reader: Reader::new(WHAT, self.pairs) }
    }
}

/// The fields and values of one entry. Ends after the first that is damaged.
pub struct Fields<'a> {
    left: u64,
    reader: Reader<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let pair = pair(&mut self.reader).and_then(|pair| match self.left {
            0 => self.reader.end().map(|()| pair),
            _ => Ok(pair),
        });
        if pair.is_err() {
            self.left = 0;
        }
        Some(pair)
    }
}

fn pair<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    Ok((varint::read_bytes(reader)?, varint::read_bytes(reader)?))
}

/// Appends the value of an entry of these fields and values.
pub fn write_entry<'a>(
    block: u64,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    out: &mut Vec<u8>,
) {
    varint::write(block, out);
    varint::write(pairs.clone().count() as u64, out);
    for (field, value) in pairs {
        varint::write_bytes(field, out);
        varint::write_bytes(value, out);
    }
}
