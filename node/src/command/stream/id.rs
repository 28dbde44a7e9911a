//! Ids as clients write them: `ms-seq`, `ms`, `ms-*`, `-`, `+`, and `(` before one to leave it out.

use keyspace::stream::StreamId;
use resp::reply::Writer;

use crate::command::Fail;

/// The longest text that can be an id, in bytes.
const ID_BYTES_MAX: usize = 127;

/// What an id that is not one answers.
fn invalid() -> Fail {
    Fail::text("ERR Invalid stream ID specified as stream command argument")
}

/// Digits only; leading zeros are harmless.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// An id that XADD may be given: its sequence number is missing if it is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `*`: the next one.
    Next,
    /// `ms-*`: the next one of this millisecond.
    NextOf(u64),
    /// This one.
    This(StreamId),
}

impl Wanted {
    /// What XADD's argument says.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Fail> {
        if text == b"*" {
            return Ok(Self::Next);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) if text.len() <= ID_BYTES_MAX => {
                number(ms).map(Self::NextOf).ok_or_else(invalid)
            }
            _ => strict(text).map(Self::This),
        }
    }
}

/// `ms-seq`, or `ms` for the first of that millisecond.
pub(super) fn strict(text: &[u8]) -> Result<StreamId, Fail> {
    parse(text, 0).ok_or_else(invalid)
}

fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
    if text.len() > ID_BYTES_MAX {
        return None;
    }
    let Some(dash) = text.iter().position(|&b| b == b'-') else {
        return number(text).map(|ms| StreamId::new(ms, missing_seq));
    };
    Some(StreamId::new(number(&text[..dash])?, number(&text[dash + 1..])?))
}

/// The same, and `-` and `+` for the least and the greatest.
pub(super) fn loose(text: &[u8], missing_seq: u64) -> Result<StreamId, Fail> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => parse(text, missing_seq).ok_or_else(invalid),
    }
}

/// A bound of a range; without a `(` before it, it is in the range.
fn bound(text: &[u8], missing_seq: u64) -> Result<(StreamId, bool), Fail> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            parse(rest, missing_seq).map(|id| (id, false)).ok_or_else(invalid)
        }
        _ => loose(text, missing_seq).map(|id| (id, true)),
    }
}

/// The first id of a range.
pub(super) fn start(text: &[u8]) -> Result<StreamId, Fail> {
    let (id, included) = bound(text, 0)?;
    let start = if included { Some(id) } else { id.next() };
    start.ok_or(Fail::text("ERR invalid start ID for the interval"))
}

/// The last id of a range.
pub(super) fn end(text: &[u8]) -> Result<StreamId, Fail> {
    let (id, included) = bound(text, u64::MAX)?;
    let end = if included { Some(id) } else { id.previous() };
    end.ok_or(Fail::text("ERR invalid end ID for the interval"))
}

/// Answers an id.
pub(super) fn write(id: StreamId, out: &mut Writer<'_>) {
    // Two numbers of at most twenty digits and a dash.
    let mut text = [0; 41];
    let mut len = 0;
    let mut buffer = itoa::Buffer::new();
    for (number, dash) in [(id.ms, true), (id.seq, false)] {
        let digits = buffer.format(number).as_bytes();
        text[len..len + digits.len()].copy_from_slice(digits);
        len += digits.len();
        if dash {
            text[len] = b'-';
            len += 1;
        }
    }
    out.bulk(&text[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_redis() {
        let id = StreamId::new;
        assert_eq!(strict(b"5-3").unwrap(), id(5, 3));
        assert_eq!(strict(b"5").unwrap(), id(5, 0));
        assert_eq!(loose(b"5", 7).unwrap(), id(5, 7));
        assert_eq!(start(b"(5-3").unwrap(), id(5, 4));
        assert_eq!(end(b"5").unwrap(), id(5, u64::MAX));
        assert_eq!(end(b"(5").unwrap(), id(5, u64::MAX - 1));
        assert_eq!(Wanted::parse(b"5-*").unwrap(), Wanted::NextOf(5));
        assert_eq!(Wanted::parse(b"*").unwrap(), Wanted::Next);
        for bad in ["", "-", "+", "5-", "-5", "a", "5-3-1", "*-*", "99999999999999999999", "5-x"] {
            assert!(strict(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(start(b"(+").is_err() && end(b"(0-0").is_err() && end(b"(-").is_err());
        assert!(start(b"(18446744073709551615-18446744073709551615").is_err());
    }

    #[test]
    fn ids_are_written_whole() {
        let mut bytes = Vec::new();
        let mut out = Writer::new(&mut bytes, resp::Version::V2);
        write(StreamId::MAX, &mut out);
        write(StreamId::MIN, &mut out);
        assert_eq!(bytes, b"$41\r\n18446744073709551615-18446744073709551615\r\n$3\r\n0-0\r\n");
    }
}
