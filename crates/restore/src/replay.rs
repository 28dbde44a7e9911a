//! The log: batches are applied to the checkpoint as they are.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use keyspace::{Cf, system};
use ops::progress::Progress;
use rocksdb::{Cache, DB, Env, Options, WriteBatch, WriteOptions};
use store::StoreError;
use store::repository::Frames;
use store::repository::{Archive, ArchiveName, Segment, Step};
use wal::Position;

use crate::died;

/// Segments that are fetched ahead.
const AHEAD: usize = 2;
/// What blocks are cached while the log is applied: nothing is read but by compactions.
const CACHE_BYTES: usize = 16 << 20;
/// The memory of what is not in a table file yet.
const BUFFER_BYTES: usize = 64 << 20;

/// What gives segments of one shard's log.
pub trait Segments: Sync {
    /// Whose log it is: what its segments say of themselves.
    fn name(&self) -> &ArchiveName;

    /// Whose log a segment is of, where not all are of one.
    fn name_of(&self, _segment: &Segment) -> &ArchiveName {
        self.name()
    }

    /// Whether another shard's log goes on at `to` from where this one was left, `from`.
    fn leads(&self, _from: Position, _to: Position) -> bool {
        false
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// It is missing or damaged, or the store failed.
    fn segment(
        &self,
        segment: &Segment,
    ) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

impl Segments for Archive {
    fn name(&self) -> &ArchiveName {
        self.name()
    }

    fn name_of(&self, segment: &Segment) -> &ArchiveName {
        self.name_of(segment)
    }

    fn leads(&self, from: Position, to: Position) -> bool {
        self.leads(from, to)
    }

    async fn segment(&self, segment: &Segment) -> Result<Vec<u8>, StoreError> {
        self.segment(segment).await
    }
}

/// Applies the segments to the checkpoint in `dir`, which stands at `base`; how many batches that were.
///
/// # Errors
/// The store or the disk failed, or a segment is not what it should be: asked again, it goes on.
pub async fn segments(
    log: &impl Segments,
    base: Position,
    steps: &[Step],
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let path = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Copy::open(path)).await.map_err(died)?;
    let mut copy = opened?;
    let done = match copy.at {
        None => Some(0),
        Some(at) if at == base => Some(0),
        Some(at) => {
            let whole = steps.iter().position(|step| step.end() == at).map(|step| step + 1);
            // Less of a segment may have been wanted before.
            whole.or_else(|| steps.iter().position(|step| step.segment.contains(at)))
        }
    };
    let done = done.with_context(|| {
        format!(
            "the directory was restored up to {:?}, which is on no way there: begin again",
            copy.at
        )
    })?;
    copy.at = copy.at.or(Some(base));
    steps[..done].iter().for_each(|step| progress.moved(step.segment.bytes, 0));
    let left = steps[done..]
        .iter()
        .map(|step| async move { Ok::<_, StoreError>((step, log.segment(&step.segment).await?)) });
    let mut left = futures_util::stream::iter(left).buffered(AHEAD);
    while let Some((step, bytes)) = left.try_next().await? {
        let (step, name) = (step.clone(), log.name_of(&step.segment).clone());
        if copy.at.is_some_and(|at| log.leads(at, step.segment.start)) {
            copy.at = Some(step.segment.start);
        }
        let moved = bytes.len() as u64;
        let apply = move || copy.apply(&name, &step, &bytes).map(|()| copy);
        copy = tokio::task::spawn_blocking(apply).await.map_err(died)??;
        progress.moved(moved, moved);
    }
    let (at, batches) = (copy.at, copy.batches);
    tokio::task::spawn_blocking(move || copy.close()).await.map_err(died)??;
    let end = steps.last().map_or(base, Step::end);
    if at != Some(end) {
        return Err(anyhow!(
            "the log was applied up to {at:?} and should end at {end}: the directory is not used"
        ));
    }
    Ok(batches)
}

/// A checkpoint that is open.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
    db: DB,
    /// Up to where it has been restored.
    at: Option<Position>,
    batches: u64,
}

impl Copy {
    /// Opens it as the node had it: the options are the checkpoint's own.
    ///
    /// # Errors
    /// It is no database, or a damaged one.
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        let what = || format!("opening the checkpoint in {}", path.display());
        let env = Env::new().with_context(what)?;
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let (mut options, families) =
            Options::load_latest(&path, env, true, cache).with_context(what)?;
        options.create_if_missing(false);
        // All families together, so that what is on the disk is always the end of some batch.
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(BUFFER_BYTES);
        let db = DB::open_cf_descriptors(&options, &path, families).with_context(what)?;
        let system = db.cf_handle(Cf::System.name()).context("it has no family `system`")?;
        let held = db.get_cf(system, system::RESTORED).with_context(what)?;
        let at = held.map(|bytes| serde_json::from_slice(&bytes));
        let at = at.transpose().context("its note of how far it is cannot be read")?;
        Ok(Self { path, db, at, batches: 0 })
    }

    /// The database.
    pub fn db(&self) -> &DB {
        &self.db
    }

    /// Applies what it lacks of a segment. Flushed or not: whoever opens it again goes on at its note,
    /// and applying a run of batches once more ends in the same.
    ///
    /// # Errors
    /// It is another segment, or does not follow on what is here.
    pub fn apply(
        &mut self,
        archive: &ArchiveName,
        step: &Step,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        let segment = &step.segment;
        let at = self.at.unwrap_or(segment.start);
        if at != segment.start && !segment.contains(at) {
            return Err(anyhow!("the segment from {} does not follow on {at}", segment.start));
        }
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        let mut scratch = Vec::new();
        for frame in Frames::check(archive, segment, bytes).map_err(anyhow::Error::msg)? {
            for batch in frame.decode(&mut scratch)?.batches() {
                if batch.end() > step.until {
                    break;
                }
                // One without a record ends where the one before it does, and changes nothing.
                if batch.end() <= at.sequence || batch.batch.count() == 0 {
                    continue;
                }
                self.db.write_opt(WriteBatch::from_data(batch.batch.bytes()), &unlogged)?;
                self.batches += 1;
            }
        }
        let system = self.db.cf_handle(Cf::System.name()).context("it has no family `system`")?;
        self.db.put_cf_opt(
            system,
            system::RESTORED,
            serde_json::to_vec(&step.end())?,
            &unlogged,
        )?;
        self.at = Some(step.end());
        Ok(())
    }

    /// Writes all of it to the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn close(self) -> anyhow::Result<()> {
        let what = || format!("flushing {}", self.path.display());
        let families = Cf::ALL.map(|cf| self.db.cf_handle(cf.name()));
        let families: Vec<_> = families.into_iter().flatten().collect();
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).with_context(what)?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}
