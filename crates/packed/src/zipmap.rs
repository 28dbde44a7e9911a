//! Fields and values in turn.

use std::borrow::Cow;

use crate::reader::Reader;
use crate::{ENTRIES_MAX, Entries, Malformed};

const END: u8 = 0xff;
/// The first byte of a length that needs four more.
const LONG: u8 = 0xfe;

/// The fields and values of a zipmap: a byte with the number of fields (254: more than 253), then a
/// length and a field, a length, a count of unused bytes, a value and those bytes, and `ff`.
pub fn zipmap(bytes: &[u8]) -> Result<Entries<'_>, Malformed> {
    parse(bytes).ok_or(Malformed("zipmap"))
}

fn parse(bytes: &[u8]) -> Option<Entries<'_>> {
    let mut reader = Reader(bytes);
    let count = reader.byte()?;
    let mut entries = Vec::new();
    while let Some(length) = length(&mut reader)? {
        if entries.len() >= ENTRIES_MAX {
            return None;
        }
        entries.push(Cow::Borrowed(reader.take(length)?));
        let length = self::length(&mut reader)??;
        let unused = reader.byte()?;
        entries.push(Cow::Borrowed(reader.take(length)?));
        reader.take(unused.into())?;
    }
    let counted = count >= LONG || usize::from(count) == entries.len() / 2;
    (counted && reader.left() == 0).then_some(entries)
}

/// `Some(None)`: the end.
fn length(reader: &mut Reader<'_>) -> Option<Option<usize>> {
    Some(match reader.byte()? {
        END => None,
        LONG => Some(usize::try_from(u32::from_le_bytes(reader.array()?)).ok()?),
        length => Some(length.into()),
    })
}
