//! Swapping the database for one whose files lie elsewhere on this machine, such as a snapshot that was
//! materialised there. Its table files are linked, so it takes as long with any amount of data.

mod bring;

use std::path::Path;
use std::sync::TryLockError;
use std::time::Instant;

use admin::{Adopt, Applied, Code};
use keyspace::Cf;
use rocksdb::IteratorMode;
use topology::members::Role;
use wal::Position;

use super::{Control, Fault, Mode};
use crate::store::{NodeState, Store};

impl Control {
    /// Makes a database of the files in `path`, which stay there, and puts it in the place of this one.
    ///
    /// A crash at any step leaves the old database or the new one, never neither.
    pub(super) fn activate(&self, path: &Path, adopt: &Adopt, copy: bool) -> Result<(), Fault> {
        let began = Instant::now();
        let refused = |why: String| Fault::new(Code::Err, format!("{why}; nothing was changed"));
        let _one = match self.0.loading.try_lock() {
            Ok(one) => one,
            // It was of a load, and what it had begun is found again when the database is opened.
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let why = "a load or another database is being taken in: ask again";
                return Err(Fault::new(Code::Busy, why));
            }
        };
        // Before anything is linked, and again once nothing changes any more.
        self.refuse_activation(adopt)?;
        if !path.is_absolute() {
            return Err(refused(format!("{} is no absolute path", path.display())));
        }
        let (dir, made) = (&self.0.dir, self.0.dir.activation());
        dir.drop_activation()?;
        let brought = bring::bring(path, &made, copy).map_err(refused);
        let swapped = brought.and_then(|files| self.swap_in(&made, adopt).map(|()| files));
        match swapped {
            Ok(files) => {
                let (from, took) = (path.display(), began.elapsed());
                tracing::info!(%from, files, copy, ?took, "the database was activated");
                Ok(())
            }
            Err(fault) => {
                if let Err(why) = dir.drop_activation() {
                    tracing::warn!("{why}; the next activation removes it");
                }
                Err(fault)
            }
        }
    }

    /// Puts what was brought in the database's place.
    fn swap_in(&self, made: &Path, adopt: &Adopt) -> Result<(), Fault> {
        let _turn = self.turn();
        let before = self.0.authority.mode();
        if !self.has_service() {
            // Nobody writes from here on, and what was being written is done.
            self.0.authority.set_mode(Mode::Loading);
            drop(self.0.workers.pause());
        }
        if let Err(fault) = self.refuse_activation(adopt) {
            self.0.authority.set_mode(before);
            return Err(fault);
        }
        let placed = self.put_in_place(made, adopt);
        if !self.has_service()
            && let Some(store) = self.0.current.load()
        {
            self.enter(&store, Mode::Standalone);
        }
        placed
    }

    /// Refuses where acknowledged writes would be thrown away.
    fn refuse_activation(&self, adopt: &Adopt) -> Result<(), Fault> {
        let store = self.store()?;
        let state = store.state();
        let role = state.standing.role;
        let refused = |why: String| Err(Fault::role(format!("{why}; nothing was changed")));
        if adopt.follow.is_some() != self.has_service() {
            return refused(match self.has_service() {
                true => "this node belongs to a service, and what it is given follows nobody there"
                    .to_owned(),
                false => {
                    "this node has no service, and what it is given is to follow a shard of one"
                        .to_owned()
                }
            });
        }
        match role {
            Role::Primary => refused("this node is a primary: its data would be thrown away".to_owned()),
            Role::Unknown => refused(
                "this node has not learned its role from its service's record yet: ask again".to_owned(),
            ),
            Role::Standalone if holds_something(&store)? => refused(
                "this node stands alone and holds data, which would be thrown away: give the snapshot a node with an empty directory"
                    .to_owned(),
            ),
            Role::Standby | Role::Seeding | Role::Rewinding | Role::Standalone => {
                let Some(end) = unfollowed(&store, &state) else { return Ok(()) };
                refused(format!(
                    "this node was a primary up to {end} and has followed nobody since: let its sidecar list first what it alone acknowledged"
                ))
            }
        }
    }
}

/// The end of what it wrote as a primary, if it has followed nobody since.
fn unfollowed(store: &Store, state: &NodeState) -> Option<Position> {
    let history = store.history();
    let is_past = |applied: &Applied| {
        history.starts().iter().flat_map(|start| &start.parents).any(|parent| {
            parent.timeline == applied.position.timeline
                && parent.sequence >= applied.position.sequence
        })
    };
    let follows = state.applied.values().any(|applied| !is_past(applied));
    let until = state.standing.until.as_ref().and_then(|until| until.sequence);
    let interrupted = state.standing.role == Role::Rewinding && until.is_none();
    state.standing.own_end.filter(|_| interrupted || !follows)
}

fn holds_something(store: &Store) -> Result<bool, Fault> {
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
        let first = store.db().iterator_cf(store.cf(cf), IteratorMode::Start).next();
        if first.transpose()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
