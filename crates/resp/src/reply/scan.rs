//! Finds where a reply ends, without making anything of it.

use super::{BULK_BYTES_MAX, ELEMENTS_MAX, LINE_BYTES_MAX};
use crate::{ProtocolError, integer};

/// Finds whole replies in a growing buffer. It remembers how far it got, so that a long reply is
/// looked at once and not at each read. It needs no stack: only how many elements are to come.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// Where to go on, from the start of the reply.
    at: usize,
    /// Values that are still to come.
    left: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the start of a reply.
    pub const fn new() -> Self {
        Self { at: 0, left: 1 }
    }

    /// How many bytes the reply at the start of `buf` takes; an attribute belongs to the reply
    /// after it. `None`: it is incomplete; call again with more bytes after the same start. After
    /// `Some` and after an error the scanner is at a start again.
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let found = self.advance(buf);
        if !matches!(found, Ok(None)) {
            *self = Self::new();
        }
        found
    }

    fn advance(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        while self.left > 0 {
            let Some(head) = head(buf, self.at)? else { return Ok(None) };
            let (after, more) = match head.kind {
                Kind::Value => (head.after, 0),
                Kind::Bulk(length) => {
                    let end = head.after + length;
                    if buf.len() < end + 2 {
                        return Ok(None);
                    }
                    (end + 2, 0)
                }
                Kind::Aggregate(elements) => (head.after, elements),
                // An attribute is no value: the one that it describes follows.
                Kind::Attribute(elements) => (head.after, elements + 1),
            };
            self.left = (self.left - 1).checked_add(more).ok_or(ProtocolError::ReplyTooBig)?;
            self.at = after;
        }
        Ok(Some(self.at))
    }
}

/// How many bytes the reply at the start of `buf` takes; `None`: it is incomplete.
pub fn scan(buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
    Scanner::new().next(buf)
}

/// What a value's first line says.
pub(super) struct Head<'a> {
    /// The first byte.
    pub(super) tag: u8,
    /// The line after it.
    pub(super) line: &'a [u8],
    /// Where what follows begins.
    pub(super) after: usize,
    /// What follows.
    pub(super) kind: Kind,
}

/// What follows a value's first line.
pub(super) enum Kind {
    /// Nothing.
    Value,
    /// This many bytes and a line break.
    Bulk(usize),
    /// This many values.
    Aggregate(usize),
    /// This many values, then the value that they describe.
    Attribute(usize),
}

/// The first line of the value at `at`; `None`: incomplete.
pub(super) fn head(buf: &[u8], at: usize) -> Result<Option<Head<'_>>, ProtocolError> {
    let Some(&tag) = buf.get(at) else { return Ok(None) };
    if !b"+-:$*_,#!=(%~>|".contains(&tag) {
        return Err(ProtocolError::ReplyType(tag));
    }
    let rest = &buf[at + 1..];
    let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
    let Some(cr) = memchr::memchr(b'\r', window) else {
        let full = rest.len() >= LINE_BYTES_MAX;
        return if full { Err(ProtocolError::ReplyTooBig) } else { Ok(None) };
    };
    match rest.get(cr + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(ProtocolError::ReplyValue),
    }
    let line = &rest[..cr];
    let count = |max: usize| {
        let n = integer(line).ok_or(ProtocolError::ReplyValue)?;
        match usize::try_from(n) {
            Ok(n) if n <= max => Ok(Some(n)),
            Ok(_) => Err(ProtocolError::ReplyTooBig),
            // RESP2 writes null as length -1.
            Err(_) if n == -1 && matches!(tag, b'$' | b'*') => Ok(None),
            Err(_) => Err(ProtocolError::ReplyValue),
        }
    };
    let kind = match tag {
        b'$' | b'!' | b'=' => count(BULK_BYTES_MAX)?.map_or(Kind::Value, Kind::Bulk),
        b'*' | b'~' | b'>' => count(ELEMENTS_MAX)?.map_or(Kind::Value, Kind::Aggregate),
        b'%' => Kind::Aggregate(count(ELEMENTS_MAX)?.unwrap_or(0) * 2),
        b'|' => Kind::Attribute(count(ELEMENTS_MAX)?.unwrap_or(0) * 2),
        _ => Kind::Value,
    };
    Ok(Some(Head { tag, line, after: at + cr + 3, kind }))
}
