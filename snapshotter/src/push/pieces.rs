//! What is known of the pieces of a checkpoint's files while they come.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use futures_util::stream::StreamExt;
use store::ObjectId;
use store::repository::{FileEntry, Piece};
use stream::export::ExportFile;

use super::receive::{Place, Tally};

/// Questions to the store at a time, about pieces of one shard.
const FINDS: usize = store::bucket::CONCURRENT_MAX;

/// The pieces of all files of a checkpoint, by number.
pub(super) struct Pieces {
    all: Vec<Wanted>,
    /// Pieces that were asked for, with their hashes.
    asked: BTreeMap<u32, ObjectId>,
}

/// What is known of one.
struct Wanted {
    size: u32,
    hash: Option<ObjectId>,
    here: Option<Piece>,
    /// It was there before.
    reused: bool,
}

impl Pieces {
    pub(super) fn of(files: &[ExportFile]) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for file in files {
            for n in 0..file.pieces() {
                let at = usize::try_from(n).context("a file's pieces")?;
                let hash = file.hashes.as_ref().and_then(|hashes| hashes.get(at)).copied();
                let size = file.piece_bytes(n) as u32;
                all.push(Wanted { size, hash: hash.map(ObjectId), here: None, reused: true });
            }
        }
        Ok(Self { all, asked: BTreeMap::new() })
    }

    /// Looks for those with known hashes.
    pub(super) async fn find(&mut self, place: &Place) -> anyhow::Result<()> {
        let known = self.all.iter().enumerate();
        let known: Vec<_> =
            known.filter_map(|(n, piece)| Some((n, piece.hash?, piece.size))).collect();
        let asked = known.into_iter().map(|(n, hash, size)| place.find(n, hash, size));
        let found: Vec<_> =
            futures_util::stream::iter(asked).buffer_unordered(FINDS).collect().await;
        for found in found {
            let (n, _, found) = found;
            self.all[n].here = found?;
        }
        Ok(())
    }

    /// Those with known hashes that are not there: they are asked for.
    pub(super) fn wanted(&mut self) -> Vec<u32> {
        let lacking = |(n, piece): (usize, &mut Wanted)| {
            let hash = piece.hash.filter(|_| piece.here.is_none())?;
            piece.reused = false;
            Some((n as u32, hash))
        };
        self.asked = self.all.iter_mut().enumerate().filter_map(lacking).collect();
        self.asked.keys().copied().collect()
    }

    /// Bytes that are asked for, or of which it is not known yet.
    pub(super) fn lacking(&self) -> u64 {
        self.all.iter().filter(|piece| piece.here.is_none()).map(|p| u64::from(p.size)).sum()
    }

    /// The size of a piece that may be offered.
    pub(super) fn offered(&self, number: u32) -> anyhow::Result<u32> {
        let piece = self.all.get(number as usize);
        let piece = piece.filter(|piece| piece.hash.is_none() && piece.here.is_none());
        piece.map(|piece| piece.size).context("the sidecar offers a piece that it may not")
    }

    pub(super) fn ask(&mut self, number: u32, hash: ObjectId) {
        self.all[number as usize].reused = false;
        self.asked.insert(number, hash);
    }

    /// The hash of a piece that came, which was asked for.
    pub(super) fn expected(&mut self, number: u32, size: u32) -> anyhow::Result<ObjectId> {
        let hash = self.asked.remove(&number).context("a piece came that was not asked for")?;
        if self.all[number as usize].size != size {
            bail!(
                "piece {number} has {size} bytes, and should have {}",
                self.all[number as usize].size
            );
        }
        Ok(hash)
    }

    /// It is there; its size.
    pub(super) fn here(&mut self, number: u32, piece: Piece) -> u32 {
        self.all[number as usize].here = Some(piece);
        piece.size
    }

    pub(super) fn entries(
        self,
        files: &[ExportFile],
        tally: &mut Tally,
    ) -> anyhow::Result<Vec<FileEntry>> {
        let mut all = self.all.into_iter();
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            let count = usize::try_from(file.pieces()).context("a file's pieces")?;
            let (mut pieces, mut reused) = (Vec::with_capacity(count), count > 0);
            for wanted in all.by_ref().take(count) {
                let piece = wanted.here.with_context(|| {
                    format!("the sidecar ended before all of {} had come", file.name)
                })?;
                reused &= wanted.reused;
                pieces.push(piece);
            }
            tally.reused += usize::from(reused);
            entries.push(FileEntry { name: file.name.parse()?, size: file.size, pieces });
        }
        Ok(entries)
    }
}
