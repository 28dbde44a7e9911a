//! The files of loads that our node has taken in: kept beside its database until every follower has
//! them, and no longer than the spool's budget allows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use admin::{Intent, Taken};
use topology::ShardName;
use topology::members::Role;
use wal::{History, Position};

use crate::board::Notes;
use crate::sidecar::Sidecar;

/// How often it is looked whether they are needed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Removes what nobody needs, until shutdown.
pub async fn keep_clearing(sidecar: Arc<Sidecar>) {
    loop {
        let again = sidecar.clone();
        // A panic there is a bug that the next look meets again, in the log.
        let _ = tokio::task::spawn_blocking(move || clear(&again)).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

fn clear(sidecar: &Sidecar) {
    let dir = sidecar.spool.node_dir().join(Intent::DIR);
    let mut loads = list(&dir);
    let Some(known) = sidecar.node.known().borrow().clone() else { return };
    let view = sidecar.service.view();
    let Some(record) = view.record() else { return };
    let followers = match known.role {
        Role::Primary => record.followers_of(&sidecar.shard),
        // What it loaded as a primary followers have from another by now.
        Role::Standby | Role::Seeding => Vec::new(),
        _ => return,
    };
    let notes = sidecar.board.read();
    loads.retain(|load| {
        let needed =
            followers.iter().any(|follower| !has(&notes, follower, &known.history, load.taken));
        if !needed {
            tracing::info!(load = %load.path.display(), "every follower has it: removed");
            remove(&load.path);
        }
        needed
    });
    let usage = crate::spool::usage(&dir);
    let budget = sidecar.config.budget;
    let mut bytes = usage.bytes;
    for load in loads {
        if bytes <= budget.bytes && load.age <= budget.age {
            return;
        }
        tracing::error!(
            load = %load.path.display(),
            "a load that followers lack went past the spool's budget ({bytes} bytes, {:?} old): they will be seeded again; the node and its data are not touched",
            load.age
        );
        bytes = bytes.saturating_sub(crate::spool::usage(&load.path).bytes);
        remove(&load.path);
    }
}

/// A load that the log has announced.
struct Kept {
    path: PathBuf,
    taken: Position,
    age: Duration,
}

/// What is there, the oldest first.
fn list(dir: &Path) -> Vec<Kept> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let read = |path: PathBuf| {
        let note = path.join(Intent::TAKEN);
        let Taken { position } = serde_json::from_slice(&std::fs::read(&note).ok()?).ok()?;
        let written = std::fs::metadata(&note).and_then(|meta| meta.modified()).ok()?;
        let age = SystemTime::now().duration_since(written).unwrap_or_default();
        Some(Kept { path, taken: position, age })
    };
    let mut loads: Vec<_> = entries.flatten().filter_map(|entry| read(entry.path())).collect();
    loads.sort_by_key(|load| std::cmp::Reverse(load.age));
    loads
}

/// Whether a follower has staged what lies behind the batch that announced a load.
fn has(notes: &Notes, follower: &ShardName, history: &History, taken: Position) -> bool {
    let staged = notes.streams.get(&follower.to_string()).and_then(|status| status.staged);
    let order = |at: Position| {
        let index = history.starts().iter().position(|start| start.timeline == at.timeline)?;
        Some((index, at.sequence))
    };
    match (staged.and_then(order), order(taken)) {
        (Some(staged), Some(taken)) => staged >= taken,
        // A timeline that is in the history no more is older than all that are.
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use topology::members::StreamStatus;
    use wal::{Sequence, TimelineId, TimelineStart};

    use super::*;

    #[test]
    fn a_follower_has_a_load_once_it_has_staged_what_announced_it() {
        let mut history = History::default();
        for (timeline, first) in [(1, 1), (2, 50)] {
            let timeline = TimelineId(timeline);
            history.push(TimelineStart {
                timeline,
                first: Sequence(first),
                parents: vec![],
                epoch: 1,
            });
        }
        let follower: ShardName = "b/0".parse().unwrap();
        let at = |timeline, sequence| Position {
            timeline: TimelineId(timeline),
            sequence: Sequence(sequence),
        };
        let check = |staged: Option<Position>, taken| {
            let mut notes = Notes::default();
            let status = StreamStatus {
                state: "streaming".to_owned(),
                reason: None,
                staged,
                applied: None,
                lag_ms: None,
                behind_bytes: 0,
                sent_bytes: 0,
                seed_bytes: 0,
                peer: Default::default(),
            };
            notes.streams.insert(follower.to_string(), status);
            has(&notes, &follower, &history, taken)
        };
        assert!(!check(None, at(1, 40)));
        assert!(!check(Some(at(1, 39)), at(1, 40)));
        assert!(check(Some(at(1, 40)), at(1, 40)));
        assert!(check(Some(at(2, 50)), at(1, 40)));
        assert!(!check(Some(at(1, 49)), at(2, 60)));
        assert!(!check(Some(at(3, 99)), at(1, 40)), "on a log that this node does not know");
        assert!(!has(&Notes::default(), &follower, &history, at(1, 40)));
    }
}
