//! What the tasks say of themselves: the status file, the metrics and the health.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ops::health::Health;
use ops::metrics::{Gauge, Metrics};
use ops::shutdown::Shutdown;
use serde::{Deserialize, Serialize};

use super::tally::{Missing, Tally};

/// How often the status file is written.
const EVERY: Duration = Duration::from_secs(1);
/// Without progress for so long while there is something to apply, it is not healthy.
const STILL_MAX: Duration = Duration::from_secs(20);

/// Where it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Status {
    /// `connecting`, `snapshot` (it is received), `loading` (it is applied) or `following`.
    pub state: String,
    /// The source.
    pub source: String,
    /// The target.
    pub target: String,
    /// The source's history.
    pub history: String,
    /// The offset up to which its stream was received.
    pub received: u64,
    /// The offset up to which it was applied.
    pub applied: u64,
    /// Bytes of a snapshot that came.
    pub snapshot_bytes: u64,
    /// Keys of it that were sent to the target.
    pub keys_loaded: u64,
    /// Commands that were applied since this process began.
    pub commands: u64,
    /// Snapshots that were asked for since then.
    pub snapshots: u64,
    /// Why it does not go on, while it does not.
    pub problem: Option<String>,
    /// What was not carried over since the last snapshot.
    pub not_carried: Vec<Missing>,
}

/// The board; clones share it.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Status>>);

impl Board {
    /// Nothing is known yet.
    pub fn new(source: String, target: String) -> Self {
        let state = "connecting".to_owned();
        Self(Arc::new(Mutex::new(Status { state, source, target, ..Status::default() })))
    }

    /// Changes something on it.
    pub fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is on it.
    pub fn read(&self) -> Status {
        self.update(|status| status.clone())
    }
}

/// The status file of a state directory.
pub fn path(state: &Path) -> PathBuf {
    state.join("status.json")
}

/// What a former run left in the status file.
pub fn former(state: &Path) -> Option<Status> {
    std::fs::read(path(state)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

struct Gauges {
    received: Gauge,
    applied: Gauge,
    behind: Gauge,
    keys: Gauge,
    commands: Gauge,
    snapshots: Gauge,
}

/// Writes the status file, the metrics and the health until shutdown.
pub async fn keep_telling(
    board: Board,
    tally: Tally,
    state: PathBuf,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
) {
    let gauges = Gauges {
        received: metrics.gauge("redis_received_offset", "The source's stream as received"),
        applied: metrics.gauge("redis_applied_offset", "The source's stream as applied"),
        behind: metrics.gauge("redis_behind_bytes", "Bytes received and not applied"),
        keys: metrics.gauge("redis_loaded_keys", "Keys of the snapshot sent to the target"),
        commands: metrics.gauge("redis_applied_commands", "Commands applied since the start"),
        snapshots: metrics.gauge("redis_snapshots", "Snapshots received since the start"),
    };
    let progress = health.progress("apply", STILL_MAX);
    let (flow, equal) = (health.check("flow"), health.check("equal"));
    let mut before = board.read();
    loop {
        let now = Status { not_carried: tally.read(), ..board.read() };
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&gauges.received, now.received);
        set(&gauges.applied, now.applied);
        set(&gauges.behind, now.received.saturating_sub(now.applied));
        set(&gauges.keys, now.keys_loaded);
        set(&gauges.commands, now.commands);
        set(&gauges.snapshots, now.snapshots);
        let moved = (now.applied, now.keys_loaded, now.snapshot_bytes)
            != (before.applied, before.keys_loaded, before.snapshot_bytes);
        if moved || (now.state == "following" && now.applied >= now.received) {
            progress.ok();
        }
        match (&now.problem, &*now.state) {
            (Some(why), _) => flow.failing(why.clone()),
            (None, "following") => flow.ok(),
            (None, state) => flow.failing(state),
        }
        match tally.refused() {
            0 => equal.ok(),
            count => equal.failing(format!(
                "{count} commands were refused or had keys on several shards of the target, which is not equal to the source: see not-carried in the status"
            )),
        }
        if let Err(why) = write(&path(&state), &now) {
            tracing::warn!("cannot write the status to {}: {why}", state.display());
        }
        before = now;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Replaces the file whole.
fn write(path: &Path, status: &Status) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(status)?)?;
    std::fs::rename(&new, path)
}
