//! What one shard's checkpoint consists of, and where in its node's log it stands.

use std::collections::BTreeSet;

use admin::Digest;
use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use wal::{Chain, History, Position};

use super::{PIECE_BYTES, Piece, What};
use crate::{FileName, ObjectId};

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

/// A segment that leads on from a checkpoint, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogSegment {
    /// Before its first batch.
    pub start: Position,
    /// The end of its last one; all its frames end on this timeline.
    pub end: Position,
    /// The stream's chain before.
    pub chain_before: Chain,
    /// And at the end.
    pub chain: Chain,
    /// The source's log's chain at the end.
    pub log_chain: Chain,
    /// The highest stamp up to the end.
    pub stamp: Hlc,
    /// The highest epoch up to the end.
    pub epoch: u64,
    /// Its length.
    pub bytes: u64,
    /// The hash of its bytes.
    pub blake3: ObjectId,
    /// Which copy of its blob: 0, or one that was made while others were marked for deletion.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copy: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks it
fn is_zero(copy: &u64) -> bool {
    *copy == 0
}

impl LogSegment {
    /// The name of its blob.
    pub fn name(&self) -> String {
        self.as_piece().name()
    }

    /// Its blob, as what is known to be there: a blob's name says nothing of what it is, its header does.
    pub fn as_piece(&self) -> Piece {
        let size = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        Piece { blake3: self.blake3, size, copy: self.copy }
    }
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
    /// What leads from `position` to the end of the snapshot, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogSegment>,
    /// Every batch up to this stamp is in it, and none above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Hlc>,
    /// What the source had at a position between `position` and the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Manifest {
    /// The format that this version writes.
    pub const FORMAT: u32 = 2;
    /// The most files that a checkpoint may have.
    pub const FILES_MAX: usize = 1 << 20;
    /// The most segments that may lead on from its files.
    pub const LOG_MAX: usize = 1 << 16;
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

    /// The end of what a snapshot of this manifest holds.
    pub fn end(&self) -> Position {
        self.log.last().map_or(self.position, |last| last.end)
    }

    /// The bytes of the segments that lead there.
    pub fn log_bytes(&self) -> u64 {
        self.log.iter().map(|segment| segment.bytes).sum()
    }

    /// All blobs that it needs: pieces of its files, and its segments.
    pub fn blobs(&self) -> impl Iterator<Item = Piece> {
        self.pieces().copied().chain(self.log.iter().map(LogSegment::as_piece))
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
        self.validate_log()
    }

    fn validate_log(&self) -> Result<(), String> {
        if self.log.len() > Self::LOG_MAX {
            return Err(format!("it names {} segments", self.log.len()));
        }
        let (mut at, mut chain) = (self.position, Chain::START);
        for segment in &self.log {
            if (segment.start, segment.chain_before) != (at, chain) {
                return Err(format!("its segment from {} does not follow on {at}", segment.start));
            }
            if segment.end.sequence < segment.start.sequence
                || segment.bytes > What::Segment.bytes_max() as u64
            {
                return Err(format!("its segment from {} cannot be one", segment.start));
            }
            (at, chain) = (segment.end, segment.chain);
        }
        Ok(())
    }
}
