//! Bytes of a log file in, records out.

use std::ops::Range;

use super::piece::{self, HEADER, Piece, Role};
use super::{BLOCK, Cause, Damage, MAX_RECORD};

/// Reads the records of one log file from bytes that are fed to it, in the order of the file and
/// from its beginning, as many or as few at a time as there are.
///
/// For a file that is still growing: feed what there is, take records until there is none, and
/// feed again when the file has grown. It holds what it was fed and has not given out, and the
/// pieces of one record; feed a few blocks at a time and its memory is the size of the greatest
/// record.
#[derive(Clone, Debug, Default)]
pub struct LogDecoder {
    /// Bytes that were fed; those before `pos` are done with.
    fed: Vec<u8>,
    pos: usize,
    /// The place in the file of the first byte of `fed`.
    base: u64,
    /// The pieces of a record so far.
    pieces: Vec<u8>,
    /// Where the record began that `pieces` are of.
    open: Option<u64>,
    /// The end of the last whole record, or of a note after it.
    end: u64,
    damage: Option<Damage>,
}

/// A whole record: a batch, its checksums good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// The record.
    pub bytes: &'a [u8],
    /// Where in the file it begins.
    pub offset: u64,
    /// Where in the file it ends.
    pub end: u64,
}

/// Where a whole record is found.
enum Found {
    /// In `fed`.
    Whole(Range<usize>),
    /// In `pieces`.
    Pieces,
}

/// Buffers that a large record blew up beyond this are given back.
const KEEP: usize = 4 << 20;

impl LogDecoder {
    /// A decoder at the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes were fed: the place in the file of the next one.
    pub fn offset(&self) -> u64 {
        self.base + self.fed.len() as u64
    }

    /// The end of the last whole record.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes have come after the last whole record. At the end of a file that nobody
    /// writes any more they are a record that was being written, or zeros.
    pub fn pending(&self) -> u64 {
        self.offset() - self.end
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.base += self.pos as u64;
        self.fed.drain(..self.pos);
        self.pos = 0;
        if self.fed.capacity() > KEEP && self.fed.len() + bytes.len() < KEEP {
            self.fed.shrink_to(KEEP);
        }
        self.fed.extend_from_slice(bytes);
    }

    /// The next record; `None` until more bytes are fed. Damage stays: there is no way past it.
    #[expect(clippy::should_implement_trait, reason = "it lends from its own buffer")]
    pub fn next(&mut self) -> Result<Option<LogRecord<'_>>, Damage> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        if self.open.is_none() && !self.pieces.is_empty() {
            self.pieces.clear();
            self.pieces.shrink_to(KEEP);
        }
        let found = match self.advance() {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(damage) => {
                self.damage = Some(damage);
                return Err(damage);
            }
        };
        let (offset, found) = found;
        let bytes = match found {
            Found::Whole(range) => &self.fed[range],
            Found::Pieces => &self.pieces[..],
        };
        Ok(Some(LogRecord { bytes, offset, end: self.end }))
    }

    /// Goes from piece to piece until a record is whole.
    fn advance(&mut self) -> Result<Option<(u64, Found)>, Damage> {
        loop {
            let offset = self.base + self.pos as u64;
            let damage = |cause| Damage { offset, cause };
            let at = (offset % BLOCK as u64) as usize;
            let (role, len) = match piece::read(&self.fed[self.pos..], at).map_err(damage)? {
                Piece::Partial => return Ok(None),
                // Less than a header is left of a block inside a record too; a run of zeros is not.
                Piece::Rest(left) if left >= HEADER && self.open.is_some() => {
                    return Err(damage(Cause::NoEnd));
                }
                Piece::Rest(left) => {
                    self.pos += left;
                    continue;
                }
                Piece::Data { role, len } => (role, len),
            };
            let bytes = self.pos + HEADER..self.pos + HEADER + len;
            // An old writer could leave an empty first piece at the end of a block and then begin
            // the record again (`db/log_reader.cc`).
            let unfinished = self.open.is_some() && !self.pieces.is_empty();
            match role {
                Role::Full | Role::First if unfinished => return Err(damage(Cause::NoEnd)),
                Role::Middle | Role::Last if self.open.is_none() => {
                    return Err(damage(Cause::NoStart));
                }
                Role::Note if self.open.is_some() => return Err(damage(Cause::NoEnd)),
                _ => {}
            }
            if role != Role::Full && self.pieces.len() + len > MAX_RECORD {
                return Err(damage(Cause::TooLarge));
            }
            self.pos = bytes.end;
            match role {
                Role::Note => self.end = self.base + self.pos as u64,
                Role::First => {
                    self.open = Some(offset);
                    self.pieces.extend_from_slice(&self.fed[bytes]);
                }
                Role::Middle => self.pieces.extend_from_slice(&self.fed[bytes]),
                Role::Full => {
                    self.open = None;
                    self.end = self.base + self.pos as u64;
                    return Ok(Some((offset, Found::Whole(bytes))));
                }
                Role::Last => {
                    self.pieces.extend_from_slice(&self.fed[bytes]);
                    self.end = self.base + self.pos as u64;
                    let start = self.open.take().unwrap_or(offset);
                    return Ok(Some((start, Found::Pieces)));
                }
            }
        }
    }
}
