//! Integers of one width, rising.

use crate::reader::Reader;
use crate::{ENTRIES_MAX, Entries, Malformed, digits};

/// The members of an intset: a width of 2, 4 or 8 and a count, of four bytes each, then the integers,
/// all little endian.
pub fn intset(bytes: &[u8]) -> Result<Entries<'static>, Malformed> {
    parse(bytes).ok_or(Malformed("intset"))
}

fn parse(bytes: &[u8]) -> Option<Entries<'static>> {
    let mut reader = Reader(bytes);
    let width = u32::from_le_bytes(reader.array()?) as usize;
    let count = u32::from_le_bytes(reader.array()?) as usize;
    if reader.left() != count.checked_mul(width)? || count > ENTRIES_MAX {
        return None;
    }
    let mut members = Vec::with_capacity(count);
    let mut last = None;
    for _ in 0..count {
        let number = match width {
            2 => i64::from(i16::from_le_bytes(reader.array()?)),
            4 => i64::from(i32::from_le_bytes(reader.array()?)),
            8 => i64::from_le_bytes(reader.array()?),
            _ => return None,
        };
        if last.is_some_and(|last| last >= number) {
            return None;
        }
        last = Some(number);
        members.push(digits(number));
    }
    Some(members)
}
