//! Swapping the database for a directory that came from elsewhere, and opening it again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::{Adopt, Code};
use topology::members::Role;

use super::{Control, Fault, Mode, SWAP_PATIENCE};
use crate::store::{Identity, Store, fail_here, prepare_seed};

/// How long until a database that could not be opened is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long until one is opened again for background jobs that go on failing.
const MEND_AGAIN: Duration = Duration::from_secs(30);

impl Control {
    /// Puts the directory at `path` in the place of the database and adopts `adopt` in it.
    ///
    /// A crash at any step leaves the old database or the new one, never neither.
    pub(super) fn seed(&self, path: &Path, adopt: &Adopt) -> Result<(), Fault> {
        let _turn = self.turn();
        let role = self.store()?.state().standing.role;
        if matches!(role, Role::Primary | Role::Standalone) {
            return Err(Fault::role(format!(
                "this node is {role:?}: its data would be thrown away; only a standby is seeded"
            )));
        }
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was changed"));
        let seed = std::path::absolute(path).map_err(|why| refused(why.to_string()))?;
        let parent = seed.parent().and_then(|parent| parent.canonicalize().ok());
        let home = self.0.dir.path().canonicalize().ok();
        if parent.is_none() || parent != home || seed == self.0.dir.db() {
            return Err(refused(format!(
                "a seed must stand in the node's directory {}, and {} does not",
                self.0.dir.path().display(),
                seed.display()
            )));
        }
        if !seed.join("CURRENT").is_file() {
            return Err(refused(format!("{} is no RocksDB database", seed.display())));
        }
        self.put_in_place(&seed, adopt)
    }

    /// The database of a directory in the node's own becomes the node's. The caller has the turn.
    pub(super) fn put_in_place(&self, seed: &Path, adopt: &Adopt) -> Result<(), Fault> {
        prepare_seed(seed, &Identity::new(self.0.owner.as_ref()), adopt)?;
        fail_here("seed-before-renames");
        self.reopen(|| self.0.dir.swap(seed).map_err(Fault::from))?;
        // Not the one that was meant, if one was.
        let state = self.0.current.load().ok_or_else(Fault::swapping)?.state();
        tracing::info!(role = ?state.standing.role, "the database was swapped for a seed");
        Ok(())
    }

    /// Opens the database again after its log or a background job failed, once there is room for it;
    /// until then reads go on.
    pub(super) fn reopen_if_failed(&self) -> Result<(), Fault> {
        let mut turn = self.turn();
        let store = self.0.current.load();
        let now = Instant::now();
        let too_soon = turn.reopen_at.is_some_and(|at| now < at);
        if let Some(store) = &store {
            let jobs = store.failed_jobs();
            let mended = turn.mend_at.is_some_and(|at| now < at);
            if !store.is_latched() && (jobs == 0 || mended || too_soon) {
                return Ok(());
            }
            if store.is_latched() {
                self.0.authority.set_mode(Mode::Latched);
            }
            let not_yet = |why: String| Fault::new(Code::Io, why);
            if too_soon {
                return Err(not_yet("it failed and is looked at again in a moment".to_owned()));
            }
            turn.reopen_at = Some(now + LOOK_AGAIN);
            store.check_room().map_err(not_yet)?;
            if jobs > 0 {
                tracing::error!("{jobs} background jobs of RocksDB failed, its file LOG says why");
            }
            self.0.authority.set_mode(Mode::Latched);
        } else if too_soon {
            return Err(Fault::swapping());
        }
        drop(store);
        turn.reopen_at = Some(now + LOOK_AGAIN);
        self.reopen(|| Ok(()))?;
        turn.mend_at = Some(now + MEND_AGAIN);
        tracing::info!("the database was opened again");
        // The record decides afresh what the node is now.
        turn.record = None;
        self.tell(&turn);
        if !self.has_service() {
            self.enter(&self.store()?, Mode::Standalone);
        }
        Ok(())
    }

    /// Says a trouble when it begins and when it changes.
    pub(super) fn say_once(&self, trouble: &str) {
        let mut said = super::lock(&self.0.trouble);
        if *said != trouble {
            trouble.clone_into(&mut said);
            if !trouble.is_empty() {
                tracing::error!("{trouble}");
            }
        }
    }

    /// Closes the database, does `between`, and opens it. The caller has the turn.
    fn reopen(&self, between: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        let before = self.0.authority.mode();
        self.0.authority.set_mode(Mode::Loading);
        self.0.digests.clear();
        self.0.exports.stop();
        if self.0.current.load().is_some() {
            let parked = self.0.workers.pause();
            let Some(store) = self.0.current.take(SWAP_PATIENCE) else {
                drop(parked);
                self.0.authority.set_mode(before);
                return Err(Fault::new(
                    Code::Busy,
                    "the database is being read and cannot be closed now; nothing was changed",
                ));
            };
            // The log may have failed: what is in it is found when it is opened.
            drop(store);
        }
        let done = between();
        let store = Store::open(&self.0.dir, self.0.owner.as_ref(), self.0.options)?;
        let store = Arc::new(store);
        self.0.current.set(store.clone());
        self.0.workers.users_changed(&store);
        self.settle(&store);
        self.0.changed.notify_one();
        self.0.reopened.notify_one();
        done
    }
}
