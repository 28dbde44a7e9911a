//! Serialised values, as DUMP gives and RESTORE takes them: a form, the value, a version of two bytes
//! and a CRC-64 of eight, both little-endian.
//!
//! Written are the general forms, which every Redis reads, and streams as Redis 7.2 has them. Read is
//! what any Redis writes, up to 7.4.

use crate::{Form, crc64};

/// The format's version in Redis 7.4 and 8: later ones are not read.
pub const READ_VERSION_MAX: u16 = 12;
/// The version and the checksum.
const FOOTER_BYTES: usize = 2 + 8;
/// What all compressed texts of one value may come to: the greatest value that Redis stores, and room.
const UNPACKED_BYTES_MAX: usize = 640 << 20;

/// Makes of a form's byte with its value what RESTORE takes.
pub fn seal(mut value: Vec<u8>) -> Vec<u8> {
    let form = value.first().copied().and_then(Form::from_number);
    let version = form.map_or(Form::String.version(), Form::version);
    value.reserve_exact(FOOTER_BYTES);
    value.extend_from_slice(&version.to_le_bytes());
    let crc = crc64(0, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// Writes a serialised value.
#[derive(Debug)]
pub struct Dump(Vec<u8>);

impl Dump {
    /// A value of this form.
    pub fn new(form: Form) -> Self {
        Self(vec![form as u8])
    }

    /// A part of one, to be appended.
    pub const fn part() -> Self {
        Self(Vec::new())
    }

    /// Appends a part.
    pub fn append(&mut self, part: &Self) {
        self.0.extend_from_slice(&part.0);
    }

    /// What was written, without version and checksum.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes as they are, without their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number in as few bytes as it takes.
    pub fn length(&mut self, length: u64) {
        match length {
            0..0x40 => self.0.push(length as u8),
            0x40..0x4000 => self.0.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
            _ => {
                self.0.push(0x81);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
    }

    /// A text.
    pub fn string(&mut self, bytes: &[u8]) {
        self.length(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A score.
    pub fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A time in Unix milliseconds.
    pub fn time(&mut self, ms: u64) {
        self.0.extend_from_slice(&ms.to_le_bytes());
    }

    /// The whole of it, with version and checksum.
    pub fn end(self) -> Vec<u8> {
        seal(self.0)
    }
}

/// Reads a serialised value. `None`: its bytes make no sense.
#[derive(Debug)]
pub struct Load<'a> {
    rest: &'a [u8],
    /// Bytes that compressed texts may still become.
    unpacked_left: usize,
}

impl<'a> Load<'a> {
    /// A value with version and checksum. `None`: a later version, or damaged on the way.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (body, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
        let (version, crc) = footer.split_first_chunk::<2>()?;
        let right = u64::from_le_bytes(crc.try_into().ok()?) == crc64(0, &bytes[..body.len() + 2]);
        (right && u16::from_le_bytes(*version) <= READ_VERSION_MAX).then(|| Self::bare(body))
    }

    /// A value without them, as a snapshot has it.
    pub const fn bare(body: &'a [u8]) -> Self {
        Self { rest: body, unpacked_left: UNPACKED_BYTES_MAX }
    }

    /// Bytes as they are.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// So many bytes, for a number.
    pub fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// The form that a value begins with.
    pub fn form(&mut self) -> Option<Form> {
        Form::from_number(self.number::<1>()?[0])
    }

    /// A number of one to nine bytes.
    pub fn length(&mut self) -> Option<u64> {
        let first = self.number::<1>()?[0];
        Some(match (first >> 6, first) {
            (0, _) => u64::from(first),
            (1, _) => u64::from(first & 0x3f) << 8 | u64::from(self.number::<1>()?[0]),
            (_, 0x80) => u64::from(u32::from_be_bytes(self.number()?)),
            (_, 0x81) => u64::from_be_bytes(self.number()?),
            _ => return None,
        })
    }

    /// A text: as it is, as a number, or compressed.
    pub fn string(&mut self) -> Option<Vec<u8>> {
        let integer = match self.rest.first()? {
            0xc0 => i64::from(i8::from_le_bytes(self.tagged()?)),
            0xc1 => i64::from(i16::from_le_bytes(self.tagged()?)),
            0xc2 => i64::from(i32::from_le_bytes(self.tagged()?)),
            0xc3 => return self.compressed(),
            _ => {
                let length = usize::try_from(self.length()?).ok()?;
                return self.take(length).map(<[u8]>::to_vec);
            }
        };
        Some(integer.to_string().into_bytes())
    }

    fn compressed(&mut self) -> Option<Vec<u8>> {
        self.take(1)?;
        let packed = usize::try_from(self.length()?).ok()?;
        let length = usize::try_from(self.length()?).ok()?;
        let packed = self.take(packed)?;
        self.unpacked_left = self.unpacked_left.checked_sub(length)?;
        packed::lzf(packed, length).ok()
    }

    fn tagged<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(1)?;
        self.number()
    }

    /// A score.
    pub fn double(&mut self) -> Option<f64> {
        self.number().map(f64::from_le_bytes)
    }

    /// A time in Unix milliseconds.
    pub fn time(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing may be left.
    pub fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let lengths = [0, 63, 64, 16383, 16384, u64::MAX];
        let mut dump = Dump::new(Form::Zset);
        lengths.iter().for_each(|&length| dump.length(length));
        dump.string(b"text");
        dump.double(-1.5);
        let mut bytes = dump.end();
        let mut load = Load::new(&bytes).unwrap();
        assert_eq!(load.form(), Some(Form::Zset));
        lengths.iter().for_each(|&length| assert_eq!(load.length(), Some(length)));
        assert_eq!((load.string(), load.double()), (Some(b"text".to_vec()), Some(-1.5)));
        assert!(load.end().is_some() && load.length().is_none());
        bytes[3] ^= 1;
        assert!(Load::new(&bytes).is_none() && Load::new(b"short").is_none());
    }
}
