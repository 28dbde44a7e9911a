//! The log: batches are applied to the checkpoint as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, TryStreamExt};
use keyspace::{Cf, system};
use ops::progress::Progress;
use rocksdb::{Cache, DB, Env, Options, WriteBatch, WriteOptions};
use store::repository::plan::Frames;
use store::repository::{Archive, ArchiveName, Plan, Step};
use wal::Position;

use super::died;

/// Segments that are fetched ahead.
const AHEAD: usize = 2;
/// What blocks are cached while the log is applied: nothing is read but by compactions.
const CACHE_BYTES: usize = 16 << 20;
/// The memory of what is not in a table file yet.
const BUFFER_BYTES: usize = 64 << 20;

/// Applies the plan's segments to the checkpoint in `dir`; how many batches that were.
pub(super) async fn segments(
    archive: &Archive,
    plan: &Plan,
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let path = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Copy::open(path)).await.map_err(died)?;
    let mut copy = opened?;
    // Its note is at the end of a step, or there is none yet.
    let done = match copy.at {
        None => Some(0),
        Some(at) => plan.steps.iter().position(|step| step.end() == at).map(|step| step + 1),
    };
    let done = done.with_context(|| {
        format!(
            "the directory was restored up to {:?}, which is on no way there: begin again",
            copy.at
        )
    })?;
    copy.at = copy.at.or(Some(plan.base.position));
    plan.steps[..done].iter().for_each(|step| progress.moved(step.segment.bytes, 0));
    let steps = plan.steps[done..].iter().map(|step| async move {
        Ok::<_, store::StoreError>((step, archive.segment(&step.segment).await?))
    });
    let mut steps = futures_util::stream::iter(steps).buffered(AHEAD);
    while let Some((step, bytes)) = steps.try_next().await? {
        let (step, name) = (step.clone(), archive.name().clone());
        let moved = bytes.len() as u64;
        let apply = move || copy.apply(&name, &step, &bytes).map(|()| copy);
        copy = tokio::task::spawn_blocking(apply).await.map_err(died)??;
        progress.moved(moved, moved);
    }
    let (at, batches) = (copy.at, copy.batches);
    tokio::task::spawn_blocking(move || copy.close()).await.map_err(died)??;
    if at != Some(plan.end()) {
        return Err(anyhow!(
            "the log was applied up to {at:?} and should end at {}: the directory is not used",
            plan.end()
        ));
    }
    Ok(batches)
}

/// A checkpoint that is open.
struct Copy {
    path: PathBuf,
    db: DB,
    /// Up to where it has been restored.
    at: Option<Position>,
    batches: u64,
}

impl Copy {
    /// Opens it as the node had it: the options are the checkpoint's own.
    fn open(path: PathBuf) -> anyhow::Result<Self> {
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

    /// Applies what it lacks of a segment. Flushed or not: whoever opens it again goes on at its note,
    /// and applying a run of batches once more ends in the same.
    fn apply(&mut self, archive: &ArchiveName, step: &Step, bytes: &[u8]) -> anyhow::Result<()> {
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

    fn close(self) -> anyhow::Result<()> {
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
