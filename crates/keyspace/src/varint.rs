//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the high bit set on
//! all but the last. Only the shortest form is read, so that equal numbers are equal bytes.

use crate::DecodeError;
use crate::error::Reader;

/// The most bytes that a number takes.
const LEN_MAX: u32 = 10;

/// Appends a number.
pub(crate) fn write(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a number.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let mut number: u64 = 0;
    for place in 0..LEN_MAX {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        if place == LEN_MAX - 1 && bits > 1 {
            break;
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            if byte == 0 && place > 0 {
                break;
            }
            return Ok(number);
        }
    }
    Err(reader.error())
}

/// Appends a length and the bytes.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads a length and as many bytes.
pub(crate) fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(read(reader)?).map_err(|_| reader.error())?;
    reader.bytes(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_have_one_form() {
        for number in [0, 1, 0x7f, 0x80, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            write(number, &mut out);
            let mut reader = Reader::new("number", &out);
            assert_eq!(read(&mut reader), Ok(number));
            assert!(reader.end().is_ok());
        }
        let too_large = [&[0xff; 9][..], &[2]].concat();
        for bad in [&[][..], &[0x80], &[0x80, 0], &[0xff; 11], &too_large] {
            assert!(read(&mut Reader::new("number", bad)).is_err(), "{bad:x?}");
        }
    }
}
