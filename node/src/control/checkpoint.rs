//! Checkpoints: hard-linked copies of the database, with the position read from the finished copy.

use std::path::Path;
use std::sync::PoisonError;

use admin::{CheckpointInfo, Code};
use rocksdb::checkpoint::Checkpoint;

use super::{Control, Fault};
use crate::store;

impl Control {
    /// Makes a checkpoint under `checkpoints/<name>`.
    pub(super) fn checkpoint(&self, name: &str) -> Result<CheckpointInfo, Fault> {
        let path = self.checkpoint_path(name)?;
        let store = self.store()?;
        if path.exists() {
            return Err(Fault::new(
                Code::Err,
                format!("a checkpoint `{name}` exists; drop it or choose another name"),
            ));
        }
        let parent = self.0.dir.checkpoints();
        std::fs::create_dir_all(&parent).map_err(|why| failed("creating", &parent, &why))?;
        if store::is_drill(name) {
            store::clear_dead_drills(&parent);
        }
        let between = self.0.checkpoints.read().unwrap_or_else(PoisonError::into_inner);
        Checkpoint::new(store.db())?.create_checkpoint(&path)?;
        drop(between);
        // Sampling the position beside the checkpoint would be a race; the copy knows it.
        let (sequence, history, applied) = store::read_copy(&path, store.options())
            .map_err(|why| Fault::new(Code::Err, format!("the checkpoint is unusable: {why}")))?;
        let position = history.position_of(sequence).ok_or_else(|| {
            Fault::new(Code::Err, "the checkpoint has no timeline; drop it and try again")
        })?;
        let database = store.identity().database.clone();
        tracing::info!(path = %path.display(), %position, "checkpoint");
        Ok(CheckpointInfo { path, position, database, history, applied })
    }

    /// Removes a checkpoint, if there is one.
    pub(super) fn drop_checkpoint(&self, name: &str) -> Result<(), Fault> {
        let path = self.checkpoint_path(name)?;
        match std::fs::remove_dir_all(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("removing", &path, &why))
            }
            _ => Ok(()),
        }
    }

    fn checkpoint_path(&self, name: &str) -> Result<std::path::PathBuf, Fault> {
        if !topology::record::is_name(name) {
            return Err(Fault::new(
                Code::Err,
                "a checkpoint's name has up to 63 letters, digits, `-` and `_`",
            ));
        }
        Ok(self.0.dir.checkpoints().join(name))
    }

    /// Compacts everything, with a reclaim view of this moment if there can be one soon; blocks until
    /// done.
    pub(super) fn compact(&self) -> Result<(), Fault> {
        self.refresh_views()?;
        let store = self.store()?;
        let mut options = rocksdb::CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        for cf in keyspace::Cf::ALL {
            store.db().compact_range_cf_opt(store.cf(cf), None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }
}

fn failed(what: &str, path: &Path, why: &std::io::Error) -> Fault {
    Fault::new(Code::Err, format!("{what} {} failed: {why}", path.display()))
}
