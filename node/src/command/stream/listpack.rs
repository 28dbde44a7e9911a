//! Redis's packed lists of integers and strings, as they hold a stream's entries in DUMP's answer
//! (Redis: listpack.c): a head of the length in bytes and of the number of elements, the elements,
//! each followed by its length, and an end. What reads them is the crate `packed`.

/// The length in bytes (4) and the number of elements (2), both little-endian.
const HEAD_BYTES: usize = 6;
const END: u8 = 0xff;

/// Writes a list. Integers may be written as strings too: whoever reads takes both.
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: usize,
}

impl Packed {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEAD_BYTES], count: 0 }
    }

    pub(super) fn integer(&mut self, value: i64) {
        let start = self.bytes.len();
        if (0..0x80).contains(&value) {
            self.bytes.push(value as u8);
        } else if (-0x1000..0x1000).contains(&value) {
            let bits = value as u16 & 0x1fff;
            self.bytes.extend_from_slice(&(0xc000 | bits).to_be_bytes());
        } else if let Ok(value) = i16::try_from(value) {
            self.bytes.push(0xf1);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes.push(0xf3);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        } else {
            self.bytes.push(0xf4);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.close(start);
    }

    pub(super) fn string(&mut self, bytes: &[u8]) {
        let start = self.bytes.len();
        match bytes.len() {
            len @ 0..0x40 => self.bytes.push(0x80 | len as u8),
            len @ 0x40..0x1000 => {
                self.bytes.extend_from_slice(&(0xe000 | len as u16).to_be_bytes());
            }
            len => {
                let len = u32::try_from(len).expect("values are bounded far below 4 GiB");
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&len.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(bytes);
        self.close(start);
    }

    /// Ends an element by its length, seven bits a byte, readable from behind.
    fn close(&mut self, start: usize) {
        let len = self.bytes.len() - start;
        let more = back_len(len) - 1;
        for place in (0..=more).rev() {
            let bits = (len >> (7 * place)) as u8 & 0x7f;
            self.bytes.push(if place == more { bits } else { bits | 0x80 });
        }
        self.count += 1;
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let len = u32::try_from(self.bytes.len()).expect("a list is bounded far below 4 GiB");
        // This number says that there are too many to say.
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.bytes[4..HEAD_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

/// How many bytes the length behind an element takes.
fn back_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..16383 => 2,
        16383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::Packed;

    #[test]
    fn what_is_packed_is_unpacked() {
        let integers = [0, 127, 128, -1, 4095, 4096, -4096, -4097, 40_000, 1 << 33, i64::MIN];
        // Lengths where one more byte is needed for the element, or for the length behind it.
        let strings = [0, 1, 63, 64, 125, 126, 4095, 4096, 16_377, 16_378, 16_379, 2_097_146]
            .map(|len| vec![b'x'; len]);
        let mut list = Packed::new();
        integers.iter().for_each(|&value| list.integer(value));
        strings.iter().for_each(|bytes| list.string(bytes));
        let bytes = list.end();
        let unpacked = packed::listpack(&bytes).unwrap();
        let integers = integers.iter().map(|value| value.to_string().into_bytes());
        let expected: Vec<_> = integers.chain(strings).collect();
        assert!(unpacked.iter().zip(&expected).all(|(found, expected)| **found == expected[..]));
        assert_eq!(unpacked.len(), expected.len());
    }
}
