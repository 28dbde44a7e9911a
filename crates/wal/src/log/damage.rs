//! Where a log file stops making sense.

use super::piece::{self, Piece, Role};
use super::{BLOCK, MAX_RECORD};

/// A log file that does not read on. The records before `offset` are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the log file: {cause}")]
pub struct Damage {
    /// Where in the file the bad piece begins.
    pub offset: u64,
    /// What is wrong with it.
    pub cause: Cause,
}

impl Damage {
    /// Where in the file something whole was written after it, if so: then this is no write that
    /// was cut short. `rest` is the file from [`Damage::offset`] on.
    ///
    /// Each block begins with a piece, so only the damaged one is searched byte by byte.
    pub fn resumes(&self, rest: &[u8]) -> Option<u64> {
        let in_block = |at: usize| (self.offset as usize).wrapping_add(at) % BLOCK;
        let next_block = BLOCK - in_block(0);
        let later = (next_block..rest.len()).step_by(BLOCK);
        (0..next_block.min(rest.len())).chain(later).find_map(|at| {
            let whole = match piece::read(&rest[at..], in_block(at)) {
                Ok(Piece::Data { role: Role::Note, .. }) => false,
                Ok(Piece::Data { len, .. }) => len > 0,
                _ => false,
            };
            whole.then_some(self.offset + at as u64)
        })
    }
}

/// What is wrong with a piece of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Its checksum does not fit.
    #[error("the checksum is {found:#010x} where the log says {said:#010x}")]
    Checksum {
        /// What the log says.
        said: u32,
        /// What the bytes have.
        found: u32,
    },
    /// It would go on into the next block.
    #[error("a piece of {0} bytes does not fit into its block")]
    Length(usize),
    /// Zeros where a piece should be, and then something else in the same block.
    #[error("a block holds zeros and then other bytes")]
    Zeros,
    /// A record whose end does not come, and another one does.
    #[error("a record has no end: another one begins inside it")]
    NoEnd,
    /// The middle or the end of a record that has not begun.
    #[error("a record has no beginning")]
    NoStart,
    /// A record of more than [`MAX_RECORD`] bytes.
    #[error("a record of more than {MAX_RECORD} bytes")]
    TooLarge,
    /// A type that RocksDB 11.8 does not know and that may not be ignored.
    #[error("unknown type {0}: damage, or a later RocksDB; upgrade this program")]
    Unknown(u8),
    /// The node writes into old files again.
    #[error(
        "the log is recycled (type {0}), which breaks hard links: set recycle_log_file_num to 0"
    )]
    Recycled(u8),
    /// The node compresses its log.
    #[error("the log is compressed: set wal_compression to none")]
    Compressed,
    /// A column family has user timestamps.
    #[error("the log is of a database with user timestamps, which Godwit does not ship")]
    Timestamps,
}

impl Cause {
    /// Whether the file is whole, but of a database that Godwit does not follow: no reading on in
    /// the next file helps.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Recycled(_) | Self::Compressed | Self::Timestamps | Self::Unknown(_))
    }
}
