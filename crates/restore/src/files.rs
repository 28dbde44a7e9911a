//! The checkpoint's files. What is there already is compared piece by piece and kept as far as it is
//! good.

use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt};
use ops::exit::{Exit, Stop};
use ops::progress::Progress;
use store::StoreError;
use store::bucket::{Bucket, CONCURRENT_MAX};
use store::repository::piece::Pieces;
use store::repository::{FileEntry, Repository};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// Pieces on their way at a time.
const PIECES: usize = 4;
/// What the names of table files end with.
pub const TABLE: &str = ".sst";
/// Names of what is missing that are said.
const NAMED_MAX: usize = 20;

/// Asks for every object that will be needed; its bytes are compared when they are fetched. `instead`
/// says what to do if one is missing.
///
/// # Errors
/// Refused, naming what is missing; or the store failed.
pub async fn check_all_are_there(
    bucket: &Bucket,
    names: impl IntoIterator<Item = String>,
    instead: &str,
) -> anyhow::Result<()> {
    let names: std::collections::BTreeSet<_> = names.into_iter().collect();
    let asked = futures_util::stream::iter(names.into_iter().map(|name| async move {
        let there = bucket.head(&name).await?.is_some();
        Ok::<_, StoreError>((!there).then_some(name))
    }));
    let missing: Vec<Option<String>> = asked.buffer_unordered(CONCURRENT_MAX).try_collect().await?;
    let mut missing: Vec<_> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    let (all, more) = (missing.len(), missing.len().saturating_sub(NAMED_MAX));
    missing.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = format!(
        "it cannot be restored: {all} objects are missing: {}{more}; nothing was written. {instead}",
        missing.join(", ")
    );
    Err(Stop::new(Exit::Refused, why).into())
}

/// Fetches every file into `dir`.
///
/// # Errors
/// A piece is missing or damaged, or the store or the disk failed: asked again, it goes on.
pub async fn fetch_all(
    repository: &Repository,
    files: &[FileEntry],
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    fetch_beside(repository, files, dir, None, progress).await.map(drop)
}

/// Fetches every file into `dir`, but for table files that are whole in the database `beside`, which are
/// linked from there: nothing ever writes to a table file. The bytes of those.
///
/// # Errors
/// As [`fetch_all`].
pub async fn fetch_beside(
    repository: &Repository,
    files: &[FileEntry],
    dir: &Path,
    beside: Option<&Path>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    fs::create_dir_all(dir).await.with_context(|| format!("making {}", dir.display()))?;
    let mut linked = 0;
    for file in files {
        let path = dir.join(file.name.as_str());
        if let Some(beside) = beside
            && link(repository, file, &beside.join(file.name.as_str()), &path).await?
        {
            linked += file.size;
            progress.moved(file.size, 0);
            continue;
        }
        let fetched = fetch(repository, file, &path, progress).await;
        fetched.with_context(|| format!("restoring {}", path.display()))?;
    }
    let dir = File::open(dir).await.context("syncing the directory")?;
    dir.sync_all().await.context("syncing the directory")?;
    Ok(linked)
}

/// Links a table file that is whole; whether it was.
async fn link(
    repository: &Repository,
    entry: &FileEntry,
    from: &Path,
    to: &Path,
) -> anyhow::Result<bool> {
    let meta = fs::symlink_metadata(from).await;
    let fits = meta.is_ok_and(|meta| meta.is_file() && meta.len() == entry.size);
    if !entry.name.as_str().ends_with(TABLE) || !fits || fs::symlink_metadata(to).await.is_ok() {
        return Ok(false);
    }
    if good_pieces(repository, entry, from).await?.0 < entry.pieces.len() {
        return Ok(false);
    }
    // Two file systems: it is fetched.
    Ok(fs::hard_link(from, to).await.is_ok())
}

/// Fetches one file, synced. A link that lies where the file should be is not followed.
///
/// # Errors
/// As [`fetch_all`].
pub async fn fetch(
    repository: &Repository,
    entry: &FileEntry,
    path: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    let mut file = options.open(path).await?;
    let (good, len) = good_pieces(repository, entry, path).await?;
    progress.moved(len, 0);
    file.set_len(len).await?;
    // Not begun yet. (As a list, so that whoever spawns this may: rust-lang/rust#102211.)
    let pieces: Vec<_> =
        entry.pieces.iter().skip(good).map(|piece| repository.piece(piece)).collect();
    let mut pieces = futures_util::stream::iter(pieces).buffered(PIECES);
    while let Some(bytes) = pieces.try_next().await? {
        file.write_all(&bytes).await?;
        progress.moved(bytes.len() as u64, bytes.len() as u64);
    }
    file.flush().await?;
    Ok(file.sync_all().await?)
}

/// How many pieces of a file are there, from its beginning, and their bytes.
///
/// # Errors
/// The file cannot be read.
pub async fn good_pieces(
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
