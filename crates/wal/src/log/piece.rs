//! One piece of a record: a header of seven bytes, then up to a block's worth of the record.

use super::{BLOCK, Cause};

/// Checksum (4), length (2), type (1).
pub(super) const HEADER: usize = 7;

/// What stands at a place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Not all of it is there yet.
    Partial,
    /// Nothing more in this block: so many bytes are left of it.
    Rest(usize),
    /// A piece with so many bytes after its header.
    Data { role: Role, len: usize },
}

/// What a piece is of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Full,
    First,
    Middle,
    Last,
    /// No part of any record.
    Note,
}

/// Reads the piece at the start of `bytes`, which is `at` bytes into its block.
pub(super) fn read(bytes: &[u8], at: usize) -> Result<Piece, Cause> {
    let left = BLOCK - at;
    if left < HEADER {
        // The writer fills what cannot hold a header with zeros; RocksDB does not look at them.
        return Ok(if bytes.len() < left { Piece::Partial } else { Piece::Rest(left) });
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(Piece::Partial);
    };
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let len = usize::from(u16::from_le_bytes([l0, l1]));
    if kind == 0 && len == 0 {
        return zeros(bytes, left);
    }
    if HEADER + len > left {
        return Err(Cause::Length(len));
    }
    if rest.len() < len {
        return Ok(Piece::Partial);
    }
    let said = unmask(u32::from_le_bytes([c0, c1, c2, c3]));
    let found = crc32c::crc32c(&bytes[HEADER - 1..HEADER + len]);
    // Recyclable pieces are checksummed together with a log number that we do not know; they are
    // refused whatever their checksum.
    if said != found && !matches!(kind, 5..=8 | 11 | 131) {
        return Err(Cause::Checksum { said, found });
    }
    Ok(Piece::Data { role: role(kind)?, len })
}

/// `RecordType` of RocksDB's `db/log_format.h`.
fn role(kind: u8) -> Result<Role, Cause> {
    match kind {
        1 => Ok(Role::Full),
        2 => Ok(Role::First),
        3 => Ok(Role::Middle),
        4 => Ok(Role::Last),
        5..=8 | 11 | 131 => Err(Cause::Recycled(kind)),
        9 => Err(Cause::Compressed),
        10 => Err(Cause::Timestamps),
        // 130 says which log came before; and RocksDB promises that types with the high bit that
        // a reader does not know may be ignored (`kRecordTypeSafeIgnoreMask`).
        128.. => Ok(Role::Note),
        _ => Err(Cause::Unknown(kind)),
    }
}

/// Zeros instead of a header: the rest of a block that a note did not fit into, or what a power cut
/// left of a file whose length reached the disk before its bytes did.
fn zeros(bytes: &[u8], left: usize) -> Result<Piece, Cause> {
    let seen = &bytes[..bytes.len().min(left)];
    if seen.iter().any(|&byte| byte != 0) {
        return Err(Cause::Zeros);
    }
    Ok(if seen.len() < left { Piece::Partial } else { Piece::Rest(left) })
}

/// RocksDB stores checksums rotated and offset (`util/crc32c.h`).
fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}
