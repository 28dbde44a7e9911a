//! A reply as a value, for clients.

use super::scan::{Kind, Scanner, head};
use super::{DEPTH_MAX, Writer};
use crate::{ProtocolError, integer};

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status, such as `OK`.
    Simple(String),
    /// An error, with its code.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// No value.
    Null,
    /// An array.
    Array(Vec<Reply>),
    /// A map, in the order sent (RESP3).
    Map(Vec<(Reply, Reply)>),
    /// A set, in the order sent (RESP3).
    Set(Vec<Reply>),
    /// A message that nobody asked for (RESP3).
    Push(Vec<Reply>),
    /// A number with a fraction (RESP3).
    Double(f64),
    /// Yes or no (RESP3).
    Boolean(bool),
    /// Text with a format of three letters (RESP3).
    Verbatim([u8; 3], Vec<u8>),
    /// An integer of any size (RESP3).
    BigNumber(String),
}

impl Reply {
    /// The reply at the start of `buf`, and how many bytes it takes; `None`: it is incomplete.
    /// Attributes are skipped. Nothing is built before all of it is there.
    pub fn parse(buf: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(length) = Scanner::new().next(buf)? else { return Ok(None) };
        let mut at = 0;
        let reply = value(&buf[..length], &mut at, DEPTH_MAX)?;
        Ok(Some((reply, length)))
    }

    /// The bytes of a string, a status or verbatim text.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Bulk(bytes) | Self::Verbatim(_, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The same bytes as text, if they are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The integer.
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The values of an array, a set or a push.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(all) | Self::Set(all) | Self::Push(all) => Some(all),
            _ => None,
        }
    }

    /// The error's text.
    pub fn as_error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// The reply, with an error as `Err`.
    pub fn into_result(self) -> Result<Self, String> {
        match self {
            Self::Error(text) => Err(text),
            other => Ok(other),
        }
    }

    /// Writes it as a server would.
    pub fn write(&self, out: &mut Writer<'_>) {
        let all = |out: &mut Writer<'_>, items: &[Self]| items.iter().for_each(|i| i.write(out));
        match self {
            Self::Simple(text) => out.simple(text),
            Self::Error(text) => out.error(text),
            Self::Integer(n) => out.integer(*n),
            Self::Bulk(bytes) => out.bulk(bytes),
            Self::Null => out.null(),
            Self::Array(items) => {
                out.array(items.len());
                all(out, items);
            }
            Self::Map(pairs) => {
                out.map(pairs.len());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
            Self::Set(items) => {
                out.set(items.len());
                all(out, items);
            }
            Self::Push(items) => {
                out.push(items.len());
                all(out, items);
            }
            Self::Double(value) => out.double(*value),
            Self::Boolean(value) => out.boolean(*value),
            Self::Verbatim(format, text) => out.verbatim(*format, text),
            Self::BigNumber(digits) => out.big_number(digits),
        }
    }
}

/// The value at `at`; `buf` holds all of it.
fn value(buf: &[u8], at: &mut usize, depth: usize) -> Result<Reply, ProtocolError> {
    let depth = depth.checked_sub(1).ok_or(ProtocolError::ReplyTooBig)?;
    let head = head(buf, *at)?.ok_or(ProtocolError::ReplyValue)?;
    *at = head.after;
    let text = || String::from_utf8_lossy(head.line).into_owned();
    match head.kind {
        Kind::Bulk(length) => {
            let bytes = buf.get(*at..*at + length).ok_or(ProtocolError::ReplyValue)?;
            *at += length + 2;
            match head.tag {
                b'!' => Ok(Reply::Error(String::from_utf8_lossy(bytes).into_owned())),
                b'=' => match bytes {
                    [a, b, c, b':', text @ ..] => Ok(Reply::Verbatim([*a, *b, *c], text.to_vec())),
                    _ => Err(ProtocolError::ReplyValue),
                },
                _ => Ok(Reply::Bulk(bytes.to_vec())),
            }
        }
        Kind::Attribute(count) => {
            for _ in 0..count {
                value(buf, at, depth)?;
            }
            value(buf, at, depth)
        }
        Kind::Aggregate(count) => {
            // Grown as values are read: `count` is only what a peer said.
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(value(buf, at, depth)?);
            }
            Ok(match head.tag {
                b'~' => Reply::Set(items),
                b'>' => Reply::Push(items),
                b'%' => {
                    let mut items = items.into_iter();
                    let pair = || Some((items.next()?, items.next()?));
                    Reply::Map(std::iter::from_fn(pair).collect())
                }
                _ => Reply::Array(items),
            })
        }
        Kind::Value => match (head.tag, head.line) {
            (b'+', _) => Ok(Reply::Simple(text())),
            (b'-', _) => Ok(Reply::Error(text())),
            (b':', line) => integer(line).map(Reply::Integer).ok_or(ProtocolError::ReplyValue),
            (b'$' | b'*', _) | (b'_', b"") => Ok(Reply::Null),
            (b'#', b"t") => Ok(Reply::Boolean(true)),
            (b'#', b"f") => Ok(Reply::Boolean(false)),
            (b'(', _) => Ok(Reply::BigNumber(text())),
            (b',', line) => {
                let number = std::str::from_utf8(line).ok().and_then(|t| t.parse().ok());
                number.map(Reply::Double).ok_or(ProtocolError::ReplyValue)
            }
            _ => Err(ProtocolError::ReplyValue),
        },
    }
}
