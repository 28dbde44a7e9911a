//! Libraries of functions: [records of no slot](crate::shard).

use crate::error::Reader;
use crate::shard::PREFIX;
use crate::{DecodeError, Hlc};

/// What is in the record, and how: a library, encoding version 1.
const KIND: u8 = b'F';
const VERSION: u8 = 1;

/// Appends the key of the library of this name.
pub fn encode_key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&PREFIX);
    out.push(KIND);
    out.extend_from_slice(name.as_bytes());
}

/// Whether a key of the family `data` is that of a library.
pub fn is_key(key: &[u8]) -> bool {
    key.starts_with(&bounds().0)
}

/// The keys of all libraries: from the first to the second, not included.
pub const fn bounds() -> ([u8; 3], [u8; 3]) {
    ([PREFIX[0], PREFIX[1], KIND], [PREFIX[0], PREFIX[1], KIND + 1])
}

/// A library's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryValue<'a> {
    /// When it was written.
    pub stamp: Hlc,
    /// Its code, the first line with its name included.
    pub text: &'a [u8],
}

impl<'a> LibraryValue<'a> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        out.extend_from_slice(self.text);
    }

    /// Reads a record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("library of functions", bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok(Self { stamp: Hlc(reader.u64()?), text: reader.rest })
    }
}
