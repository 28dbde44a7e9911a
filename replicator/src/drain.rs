//! A node that died during a failover: its log is read to its end under its own lock, so that what
//! was acknowledged is shipped and nothing can be added behind it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use topology::Epoch;
use topology::members::Drained;
use topology::record::{Cause, Freeze};
use wal::Position;

use crate::cursor::read_facts;
use crate::sidecar::Sidecar;

/// How often the lock of a node that still runs is tried.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// The longest that a dead node's lock is held: its followers may be gone too, and it should start.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// Drains whenever a failover finds our node dead, until shutdown.
pub async fn keep_draining(sidecar: Arc<Sidecar>) {
    let mut view = sidecar.service.watch();
    loop {
        let now = view.borrow_and_update().clone();
        let freeze = now.record().and_then(|record| {
            let freeze = record.freeze_of(&sidecar.shard)?;
            (freeze.cause == Cause::Failover).then(|| (freeze.clone(), record.epoch.next()))
        });
        match freeze {
            Some((freeze, fence)) => {
                if let Some(_lock) = take_lock(&sidecar, &freeze).await {
                    match drain(&sidecar, &freeze, fence).await {
                        Ok(end) => hold(&sidecar, &freeze, end).await,
                        Err(why) => {
                            tracing::error!(
                                "cannot drain the dead node's log: {why}; the failover must wait for its lease to end"
                            );
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                    }
                }
            }
            None => {
                sidecar.board.note(|notes| notes.drained = None);
                tokio::select! {
                    changed = view.changed() => if changed.is_err() { return },
                    () = sidecar.shutdown.cancelled() => return,
                }
            }
        }
        if sidecar.shutdown.is_requested() {
            return;
        }
    }
}

/// Waits for the lock of the node's directory: it is free once the process has ended. `None`: the
/// freeze is over.
async fn take_lock(sidecar: &Sidecar, freeze: &Freeze) -> Option<File> {
    let path = sidecar.spool.node_dir().join("LOCK");
    loop {
        if !lasts(sidecar, freeze) {
            return None;
        }
        // A directory without the file never had a node.
        if let Ok(file) = File::options().write(true).open(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let said = format!(
                "godwit-replicator, process {}, which drains a dead node\n",
                std::process::id()
            );
            // Only for people who look at the file.
            let _ = file.set_len(0).and_then(|()| (&file).write_all(said.as_bytes()));
            return Some(file);
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = sidecar.shutdown.cancelled() => return None,
        }
    }
}

fn lasts(sidecar: &Sidecar, freeze: &Freeze) -> bool {
    let view = sidecar.service.view();
    view.record().and_then(|r| r.freeze()).is_some_and(|now| now.id == freeze.id)
}

/// Fences the node and reads its log to the end. The caller holds the lock.
async fn drain(sidecar: &Arc<Sidecar>, freeze: &Freeze, fence: Epoch) -> Result<Position, String> {
    let (again, id) = (sidecar.clone(), freeze.id);
    let work = move || {
        let fence = raise_fence(again.spool.node_dir(), fence)?;
        again.spool.scan().map_err(|error| error.to_string())?;
        let database = again.spool.current().ok_or("its directory has no database")?;
        let facts = read_facts(&again.spool, &database).map_err(|error| error.to_string())?;
        let known = again.node.known().borrow().clone();
        let history =
            known.filter(|k| k.database == database).map(|k| k.history).unwrap_or_default();
        let end = facts.position(&history).ok_or("its log has no batch")?;
        Ok::<_, String>(Drained { freeze: id, end, fence })
    };
    let drained = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())??;
    let end = drained.end;
    tracing::warn!(%end, fence = %drained.fence, "the node is dead: its log was read to its end, and it is fenced");
    sidecar.board.note(|notes| {
        notes.tail = notes.tail.max(Some(end.sequence));
        notes.drained = Some(drained);
    });
    Ok(end)
}

/// Keeps the lock while the freeze lasts and followers lack something; then the node may start.
async fn hold(sidecar: &Sidecar, freeze: &Freeze, end: Position) {
    let since = Instant::now();
    let mut view = sidecar.service.watch();
    while lasts(sidecar, freeze) && since.elapsed() < HOLD_MAX {
        tokio::select! {
            _ = view.changed() => {}
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
    tracing::info!(%end, held = ?since.elapsed(), "the dead node's lock is released");
    // Not again for the same freeze: what was found stands, whoever starts the node.
    while lasts(sidecar, freeze) {
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// Raises the file `FENCE`, synced; it never falls. Its layout is in `docs/formats.md`.
fn raise_fence(dir: &Path, epoch: Epoch) -> Result<Epoch, String> {
    let path = dir.join("FENCE");
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let before = match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice::<Fence>(&bytes)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?
                .epoch
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Epoch(0),
        Err(error) => return Err(failed(error)),
    };
    let fence = Fence { format: 1, epoch: before.max(epoch) };
    let bytes = serde_json::to_vec(&fence).map_err(|error| error.to_string())?;
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(fence.epoch)
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fence {
    format: u32,
    epoch: Epoch,
}
