//! What can be wrong with a stored record.

/// Bytes in the database that are no record that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter or longer than its layout.
    #[error("a {what} of {len} bytes does not fit its layout: the record is damaged")]
    Length {
        /// Which record.
        what: &'static str,
        /// How long it is, in bytes.
        len: usize,
    },
    /// A key that begins with no slot, or with another slot than its user key has.
    #[error("a {0} whose slot is not that of its key: the record is damaged")]
    Slot(&'static str),
    /// A type of key that this version does not know.
    #[error("a key of unknown type {0}: a later version wrote it; upgrade this program")]
    Type(u8),
    /// An encoding that this version does not know.
    #[error("a key of encoding version {0}; this version knows 1: upgrade this program")]
    Version(u8),
    /// A kind of record that this version does not know.
    #[error(
        "a record of unknown kind {0} in a stream: a later version wrote it; upgrade this program"
    )]
    Kind(u8),
    /// A flag that this version does not know.
    #[error("unknown flags {0:#04x} in a {1}: a later version wrote it; upgrade this program")]
    Flags(u8, &'static str),
}

/// Splits fixed-size pieces off the front of a slice.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    error: DecodeError,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, error: DecodeError::Length { what, len: bytes.len() } }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(self.error)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|[b]| b)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(self.error)?;
        self.rest = rest;
        Ok(head)
    }

    /// What to say of bytes that do not fit.
    pub(crate) const fn error(&self) -> DecodeError {
        self.error
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error) }
    }
}
