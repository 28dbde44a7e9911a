//! The checkpoint's files. What is there already is compared piece by piece and kept as far as it is
//! good.

use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt};
use ops::progress::Progress;
use store::repository::piece::Pieces;
use store::repository::{FileEntry, Manifest, Repository};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// Pieces on their way at a time.
const PIECES: usize = 4;

/// Fetches every file into `dir`.
pub(super) async fn files(
    repository: &Repository,
    manifest: &Manifest,
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).await.with_context(|| format!("making {}", dir.display()))?;
    for file in &manifest.files {
        let path = dir.join(file.name.as_str());
        let fetched = fetch(repository, file, &path, progress).await;
        fetched.with_context(|| format!("restoring {}", path.display()))?;
    }
    let dir = File::open(dir).await.context("syncing the directory")?;
    dir.sync_all().await.context("syncing the directory")
}

async fn fetch(
    repository: &Repository,
    entry: &FileEntry,
    path: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (good, len) = good_pieces(repository, entry, path).await?;
    progress.moved(len, 0);
    let mut file = OpenOptions::new().create(true).append(true).open(path).await?;
    file.set_len(len).await?;
    let pieces = entry.pieces.iter().skip(good).map(|piece| repository.piece(piece));
    let mut pieces = futures_util::stream::iter(pieces).buffered(PIECES);
    while let Some(bytes) = pieces.try_next().await? {
        file.write_all(&bytes).await?;
        progress.moved(bytes.len() as u64, bytes.len() as u64);
    }
    file.flush().await?;
    Ok(file.sync_all().await?)
}

/// How many pieces of a file are there, and their bytes.
async fn good_pieces(
    repository: &Repository,
    entry: &FileEntry,
    path: &Path,
) -> anyhow::Result<(usize, u64)> {
    let Ok(meta) = fs::metadata(path).await else { return Ok((0, 0)) };
    let (mut good, mut len) = (0, 0);
    for piece in &entry.pieces {
        let end = len + u64::from(piece.size);
        if meta.len() < end {
            break;
        }
        let mut reader = Pieces::part(path, len, u64::from(piece.size)).await?;
        let bytes = reader.next().await?.unwrap_or_default();
        if repository.id_of(&bytes) != piece.blake3 {
            break;
        }
        (good, len) = (good + 1, end);
    }
    Ok((good, len))
}
