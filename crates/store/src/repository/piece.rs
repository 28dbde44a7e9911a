//! Files as pieces: whoever goes on with an interrupted push or restore repeats one piece at most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::blob::Packed;
use super::{Repository, What, gc};
use crate::bucket::CONCURRENT_MAX;
use crate::{ObjectId, StoreError};

/// Bytes of a piece; the last one of a file is shorter.
pub const PIECE_BYTES: usize = 8 << 20;

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Piece {
    /// The hash of its bytes.
    pub blake3: ObjectId,
    /// How many there are.
    pub size: u32,
    /// Which copy of them: 0, or one that was made while others were marked for deletion.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copy: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks it
fn is_zero(copy: &u64) -> bool {
    *copy == 0
}

impl Piece {
    /// The name of its blob.
    pub fn name(&self) -> String {
        let hash = self.blake3.to_string();
        match self.copy {
            0 => format!("objects/{}/{hash}", &hash[..2]),
            copy => format!("objects/{}/{hash}-{copy}", &hash[..2]),
        }
    }
}

/// What a push knows of what is there: it may be relied on for half the time of grace.
#[derive(Debug)]
pub struct Known {
    since: Instant,
    good_for: Duration,
    generation: u64,
    marked: BTreeSet<String>,
    /// Pieces that a manifest which counts names, or that this push has seen.
    pieces: Mutex<BTreeMap<ObjectId, Piece>>,
}

impl Known {
    /// Whether it has grown too old to seal anything by.
    pub fn is_stale(&self) -> bool {
        self.since.elapsed() > self.good_for
    }

    /// These are there, since a manifest that counts names them.
    pub fn learn(&self, pieces: impl IntoIterator<Item = Piece>) {
        let mut known = self.locked();
        for piece in pieces {
            if !self.marked.contains(&piece.name()) {
                known.insert(piece.blake3, piece);
            }
        }
    }

    /// The piece of that hash that is known to be there.
    pub fn get(&self, blake3: ObjectId) -> Option<Piece> {
        self.locked().get(&blake3).copied()
    }

    /// Whether all of these are known to be there.
    pub fn has(&self, pieces: &[Piece]) -> bool {
        let known = self.locked();
        pieces.iter().all(|piece| known.get(&piece.blake3) == Some(piece))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Piece>> {
        self.pieces.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The name to look for these bytes at: not one that is about to be deleted.
    fn candidate(&self, blake3: ObjectId, size: u32) -> Piece {
        let piece = Piece { blake3, size, copy: 0 };
        if self.marked.contains(&piece.name()) {
            return Piece { copy: self.generation, ..piece };
        }
        piece
    }
}

impl Repository {
    /// Begins a push: reads what is marked for deletion.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn known(&self) -> Result<Known, StoreError> {
        let since = Instant::now();
        let marks = gc::Marks::read(self).await?;
        Ok(Known {
            since,
            good_for: self.header.grace() / 2,
            generation: marks.generation,
            marked: marks.names.into_iter().map(|(name, _)| name).collect(),
            pieces: Mutex::default(),
        })
    }

    /// Learns of those of these that are there: what was found damaged may have been set aside.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn learn_if_there(
        &self,
        known: &Known,
        pieces: impl IntoIterator<Item = Piece>,
    ) -> Result<(), StoreError> {
        let asked = futures_util::stream::iter(pieces).map(|piece| async move {
            Ok::<_, StoreError>(self.bucket.head(&piece.name()).await?.map(|_| piece))
        });
        let there = asked.buffer_unordered(CONCURRENT_MAX).try_collect::<Vec<_>>().await?;
        known.learn(there.into_iter().flatten());
        Ok(())
    }

    /// Whether these bytes are there already, as a piece that may be relied on.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn find_piece(
        &self,
        known: &Known,
        bytes: &[u8],
    ) -> Result<Option<Piece>, StoreError> {
        self.find_named(known, self.id_of(bytes), bytes.len() as u32).await
    }

    /// A piece or a segment of that hash that is there already and may be relied on.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn find_named(
        &self,
        known: &Known,
        blake3: ObjectId,
        size: u32,
    ) -> Result<Option<Piece>, StoreError> {
        let held = known.locked().get(&blake3).copied();
        if let Some(held) = held.filter(|held| held.size == size) {
            return Ok(Some(held));
        }
        let piece = known.candidate(blake3, size);
        if self.bucket.head(&piece.name()).await?.is_none() {
            return Ok(None);
        }
        known.locked().insert(blake3, piece);
        Ok(Some(piece))
    }

    /// Stores a piece or a segment that another has packed; with the bytes that this took.
    ///
    /// # Errors
    /// It is not what it is said to be, or the store failed.
    pub async fn put_named(
        &self,
        known: &Known,
        what: What,
        packed: Packed,
    ) -> Result<(Piece, u64), StoreError> {
        let piece = known.candidate(packed.blake3, packed.size);
        let stored = self.put_packed(&piece.name(), what, packed).await?;
        known.locked().insert(piece.blake3, piece);
        Ok((piece, stored))
    }

    /// Stores a piece that is not there; with the bytes that this took.
    ///
    /// # Errors
    /// The store failed; what was stored before stays, and is not sent again.
    pub async fn put_piece(
        &self,
        known: &Known,
        bytes: Vec<u8>,
    ) -> Result<(Piece, u64), StoreError> {
        let id = self.id_of(&bytes);
        let piece = known.candidate(id, bytes.len() as u32);
        let (_, sent) = self.put_blob(&piece.name(), What::Piece, id, bytes).await?;
        known.locked().insert(id, piece);
        Ok((piece, sent))
    }

    /// The bytes of a piece.
    ///
    /// # Errors
    /// It is missing or damaged, or the store failed.
    pub async fn piece(&self, piece: &Piece) -> Result<Vec<u8>, StoreError> {
        let name = piece.name();
        let bytes = self.blob(&name, What::Piece, piece.blake3).await?;
        if bytes.len() != piece.size as usize {
            return Err(super::text::damaged(
                &name,
                "it has another length than its manifest says",
            ));
        }
        Ok(bytes)
    }
}

/// The bytes of a file, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    file: File,
    left: u64,
    path: std::path::PathBuf,
}

impl Pieces {
    /// Of the first `size` bytes of a file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn of(path: &Path, size: u64) -> Result<Self, StoreError> {
        let file = File::open(path).await.map_err(StoreError::io("open", path))?;
        Ok(Self { file, left: size, path: path.to_owned() })
    }

    /// Of `size` bytes of a file from `offset` on.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn part(path: &Path, offset: u64, size: u64) -> Result<Self, StoreError> {
        let mut pieces = Self::of(path, size).await?;
        let sought = pieces.file.seek(std::io::SeekFrom::Start(offset)).await;
        sought.map_err(StoreError::io("read", path))?;
        Ok(pieces)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than it was.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let len = self.left.min(PIECE_BYTES as u64);
        if len == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        let read = self.file.read_exact(&mut bytes).await;
        read.map_err(StoreError::io("read", &self.path))?;
        self.left -= len;
        Ok(Some(bytes))
    }
}
