//! Entries, each followed by its own length.

use std::borrow::Cow;

use crate::reader::Reader;
use crate::{ENTRIES_MAX, Entries, Malformed, digits, three};

const END: u8 = 0xff;
/// In place of a count that does not fit into two bytes.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The entries of a listpack: its length (4 bytes) and count (2), little endian, entries, `ff`. An
/// entry is a first byte, what that announces, and the length of both, seven bits a byte.
///
/// | first byte | what |
/// |---|---|
/// | `0xxxxxxx` | a number of 7 bits |
/// | `10xxxxxx` | a text of x bytes |
/// | `110xxxxx` | a number of 13 bits with sign, the low ones in the next byte |
/// | `1110xxxx` | a text of x bytes, the low bits in the next byte |
/// | `f0` | a text, its length in four bytes |
/// | `f1` `f2` `f3` `f4` | a number of 2, 3, 4 or 8 bytes with sign |
pub fn listpack(bytes: &[u8]) -> Result<Entries<'_>, Malformed> {
    parse(bytes).ok_or(Malformed("listpack"))
}

fn parse(bytes: &[u8]) -> Option<Entries<'_>> {
    let mut reader = Reader(bytes);
    let length = u32::from_le_bytes(reader.array()?);
    let count = u16::from_le_bytes(reader.array()?);
    if usize::try_from(length) != Ok(bytes.len()) {
        return None;
    }
    let mut entries = Vec::new();
    while let Some(entry) = entry(&mut reader)? {
        if entries.len() == ENTRIES_MAX {
            return None;
        }
        entries.push(entry);
    }
    let counted = count == COUNT_UNKNOWN || usize::from(count) == entries.len();
    (counted && reader.left() == 0).then_some(entries)
}

/// `Some(None)`: the end.
fn entry<'a>(reader: &mut Reader<'a>) -> Option<Option<Cow<'a, [u8]>>> {
    let before = reader.left();
    let first = reader.byte()?;
    let wide = |reader: &mut Reader<'_>, mask: u8| {
        Some(usize::from(first & mask) << 8 | usize::from(reader.byte()?))
    };
    let entry = match first {
        END => return Some(None),
        0x00..=0x7f => digits(first.into()),
        0x80..=0xbf => Cow::Borrowed(reader.take(usize::from(first & 0x3f))?),
        0xc0..=0xdf => {
            let number = wide(reader, 0x1f)? as i64;
            digits(if number < 1 << 12 { number } else { number - (1 << 13) })
        }
        0xe0..=0xef => {
            let length = wide(reader, 0x0f)?;
            Cow::Borrowed(reader.take(length)?)
        }
        0xf0 => {
            let length = usize::try_from(u32::from_le_bytes(reader.array()?)).ok()?;
            Cow::Borrowed(reader.take(length)?)
        }
        0xf1 => digits(i16::from_le_bytes(reader.array()?).into()),
        0xf2 => digits(three(reader.array()?)),
        0xf3 => digits(i32::from_le_bytes(reader.array()?).into()),
        0xf4 => digits(i64::from_le_bytes(reader.array()?)),
        _ => return None,
    };
    own_length(reader, before - reader.left())?;
    Some(Some(entry))
}

/// Reads the length that stands behind an entry: it has to be the entry's.
fn own_length(reader: &mut Reader<'_>, length: usize) -> Option<()> {
    // One byte more already for the greatest length that would fit (`lpEncodeBacklen`).
    let groups = match length {
        0..=127 => 1,
        128..16383 => 2,
        16383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    for group in (0..groups).rev() {
        let more = if group == groups - 1 { 0 } else { 0x80 };
        if reader.byte()? != (length >> (7 * group)) as u8 & 0x7f | more {
            return None;
        }
    }
    Some(())
}
