//! What one shard's checkpoint consists of, and where in its node's log it stands.

use std::collections::BTreeSet;

use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use wal::{History, Position};

use super::{PIECE_BYTES, Piece};
use crate::FileName;

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the checkpoint.
    pub name: FileName,
    /// Its bytes.
    pub size: u64,
    /// What it is cut into, in order.
    pub pieces: Vec<Piece>,
}

/// The manifest of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The format of this manifest: 2.
    pub format: u32,
    /// The service.
    pub service: String,
    /// The shard, written `a/0`.
    pub shard: String,
    /// The slots that it holds.
    pub slots: SlotSet,
    /// The id of the database that the checkpoint was taken of.
    pub database: String,
    /// The end of what the checkpoint holds.
    pub position: Position,
    /// The timelines of its log up to there.
    pub history: History,
    /// No stamp in it is above this one.
    pub stamp: Hlc,
    /// The epoch of the service.
    pub epoch: u64,
    /// When it was taken: milliseconds since 1970, UTC.
    pub taken_at: u64,
    /// Its files.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// The format that this version writes.
    pub const FORMAT: u32 = 2;
    /// The most files that a checkpoint may have.
    pub const FILES_MAX: usize = 1 << 20;
    /// The most bytes that a manifest may have.
    pub(super) const BYTES_MAX: u64 = 256 << 20;

    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Every piece of every file.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.files.iter().flat_map(|file| &file.pieces)
    }

    /// What cannot be right in it.
    ///
    /// # Errors
    /// A sentence.
    pub fn validate(&self) -> Result<(), String> {
        if self.format != Self::FORMAT {
            return Err(format!(
                "it has format {}, and this version knows format {}",
                self.format,
                Self::FORMAT
            ));
        }
        if self.files.len() > Self::FILES_MAX {
            return Err(format!("it names {} files", self.files.len()));
        }
        let names: BTreeSet<_> = self.files.iter().map(|file| &file.name).collect();
        if names.len() != self.files.len() {
            return Err("it names a file twice".to_owned());
        }
        if self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size)).is_none() {
            return Err("its sizes do not add up".to_owned());
        }
        for file in &self.files {
            let whole = |piece: &Piece| piece.size > 0 && piece.size as usize <= PIECE_BYTES;
            let sum: u64 = file.pieces.iter().map(|piece| u64::from(piece.size)).sum();
            if sum != file.size || !file.pieces.iter().all(whole) {
                return Err(format!("the pieces of {} are not its {} bytes", file.name, file.size));
            }
        }
        Ok(())
    }
}
