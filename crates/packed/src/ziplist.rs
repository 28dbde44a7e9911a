//! Entries, each behind the length of the one before it.

use std::borrow::Cow;

use crate::reader::Reader;
use crate::{ENTRIES_MAX, Entries, Malformed, digits, three};

const END: u8 = 0xff;
/// The first byte of a length that needs four more.
const LONG: u8 = 0xfe;
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The entries of a ziplist: its length (4 bytes), where its last entry begins (4), its count (2),
/// little endian, entries, `ff`. An entry is the length of the one before, a first byte, and what
/// that announces.
///
/// | first byte | what |
/// |---|---|
/// | `00xxxxxx` | a text of x bytes |
/// | `01xxxxxx` | a text of x bytes, the low bits in the next byte |
/// | `80` | a text, its length in four bytes, big endian |
/// | `c0` `d0` `e0` `f0` `fe` | a number of 2, 4, 8, 3 or 1 bytes with sign |
/// | `f1` to `fd` | a number from 0 to 12 |
pub fn ziplist(bytes: &[u8]) -> Result<Entries<'_>, Malformed> {
    parse(bytes).ok_or(Malformed("ziplist"))
}

fn parse(bytes: &[u8]) -> Option<Entries<'_>> {
    let mut reader = Reader(bytes);
    let length = u32::from_le_bytes(reader.array()?);
    let tail = u32::from_le_bytes(reader.array()?);
    let count = u16::from_le_bytes(reader.array()?);
    if usize::try_from(length) != Ok(bytes.len()) {
        return None;
    }
    let (mut entries, mut before, mut last) = (Vec::new(), 0, bytes.len() - reader.left());
    loop {
        let at = bytes.len() - reader.left();
        if reader.0.first() == Some(&END) {
            reader.byte()?;
            break;
        }
        if entries.len() == ENTRIES_MAX || length_before(&mut reader)? != before {
            return None;
        }
        entries.push(entry(&mut reader)?);
        before = bytes.len() - reader.left() - at;
        last = at;
    }
    let counted = count == COUNT_UNKNOWN || usize::from(count) == entries.len();
    let whole = reader.left() == 0 && usize::try_from(tail) == Ok(last);
    (counted && whole).then_some(entries)
}

fn length_before(reader: &mut Reader<'_>) -> Option<usize> {
    match reader.byte()? {
        LONG => usize::try_from(u32::from_le_bytes(reader.array()?)).ok(),
        END => None,
        length => Some(length.into()),
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Option<Cow<'a, [u8]>> {
    let first = reader.byte()?;
    let text = |reader: &mut Reader<'a>, length: usize| Some(Cow::Borrowed(reader.take(length)?));
    match first {
        0x00..=0x3f => text(reader, first.into()),
        0x40..=0x7f => {
            let length = usize::from(first & 0x3f) << 8 | usize::from(reader.byte()?);
            text(reader, length)
        }
        0x80 => {
            let length = usize::try_from(u32::from_be_bytes(reader.array()?)).ok()?;
            text(reader, length)
        }
        0xc0 => Some(digits(i16::from_le_bytes(reader.array()?).into())),
        0xd0 => Some(digits(i32::from_le_bytes(reader.array()?).into())),
        0xe0 => Some(digits(i64::from_le_bytes(reader.array()?))),
        0xf0 => Some(digits(three(reader.array()?))),
        0xfe => Some(digits(i8::from_le_bytes(reader.array()?).into())),
        0xf1..=0xfd => Some(digits(i64::from(first & 0x0f) - 1)),
        _ => None,
    }
}
