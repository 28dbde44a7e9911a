//! LZF, by Marc Lehmann: runs of bytes, and copies of what came before.

use crate::Malformed;
use crate::reader::Reader;

/// Three bytes are at most a copy of 264.
const EXPANSION_MAX: usize = 88;

/// The text of `length` bytes that these are. A piece begins with a byte: below 32, one more than
/// that many bytes follow as they are; else its high three bits and, if they are all set, another
/// byte are a length less two, its low five bits and the next byte a distance less one.
pub fn lzf(bytes: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    parse(bytes, length).ok_or(Malformed("LZF text"))
}

fn parse(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    if length > bytes.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    let mut reader = Reader(bytes);
    while reader.left() > 0 {
        let first = usize::from(reader.byte()?);
        if first < 32 {
            out.extend_from_slice(reader.take(first + 1)?);
        } else {
            let more = if first >> 5 == 7 { usize::from(reader.byte()?) } else { 0 };
            let copied = (first >> 5) + more + 2;
            let back = ((first & 0x1f) << 8 | usize::from(reader.byte()?)) + 1;
            let from = out.len().checked_sub(back)?;
            if out.len() + copied > length {
                return None;
            }
            // The copy may reach into itself.
            for at in from..from + copied {
                out.push(out[at]);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}
