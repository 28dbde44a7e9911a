//! Bytes as they come: counted, summed up, and kept as long as they are of use.

use std::io::Read;

use super::{Error, VALUE_BYTES_MAX};
use crate::crc64;

/// How much room is made at once for bytes that a length promises.
const STEP_BYTES: usize = 64 << 10;

pub(super) struct Source<R> {
    inner: R,
    /// What was read since [`Source::forget`], up to [`VALUE_BYTES_MAX`].
    kept: Vec<u8>,
    /// More than that was read.
    overflowed: bool,
    position: u64,
    crc: u64,
}

impl<R: Read> Source<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, kept: Vec::new(), overflowed: false, position: 0, crc: 0 }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The checksum of all that was read.
    pub(super) const fn crc(&self) -> u64 {
        self.crc
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether more was read than is kept.
    pub(super) const fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) fn forget(&mut self) {
        self.kept.clear();
        // One great value does not hold memory for all that follow.
        self.kept.shrink_to(super::PART_BYTES * 2);
        self.overflowed = false;
    }

    pub(super) const fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged { what, at: self.position }
    }

    /// Reads so many bytes and keeps them.
    pub(super) fn pass(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            if self.kept.len() >= VALUE_BYTES_MAX {
                self.overflowed = true;
                self.kept.clear();
            }
            let step = left.min(STEP_BYTES as u64) as usize;
            let before = self.kept.len();
            self.kept.resize(before + step, 0);
            let new = self.kept.get_mut(before..).unwrap_or_default();
            self.inner.read_exact(new)?;
            self.crc = crc64(self.crc, new);
            self.position += step as u64;
            left -= step as u64;
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.pass(N as u64)?;
        let end = self.kept.last_chunk::<N>();
        Ok(*end.expect("as many bytes were kept just now"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number of one to nine bytes.
    pub(super) fn length(&mut self) -> Result<u64, Error> {
        let first = self.byte()?;
        self.length_after(first)
    }

    fn length_after(&mut self, first: u8) -> Result<u64, Error> {
        Ok(match (first >> 6, first) {
            (0, _) => u64::from(first),
            (1, _) => u64::from(first & 0x3f) << 8 | u64::from(self.byte()?),
            (_, 0x80) => u64::from(u32::from_be_bytes(self.array()?)),
            (_, 0x81) => u64::from_be_bytes(self.array()?),
            _ => return Err(self.damaged("a length that is not one")),
        })
    }

    /// A text, in whatever way it is written.
    pub(super) fn string(&mut self) -> Result<(), Error> {
        match self.byte()? {
            0xc0 => self.pass(1),
            0xc1 => self.pass(2),
            0xc2 => self.pass(4),
            0xc3 => {
                let packed = self.length()?;
                self.length()?;
                self.pass(packed)
            }
            first => {
                let length = self.length_after(first)?;
                self.pass(length)
            }
        }
    }
}
