//! What the verbs answer. The names of these fields are scripted against: keep them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// The last line of a push.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pushed {
    /// The snapshot's id.
    pub snapshot: String,
    /// The service.
    pub service: String,
    /// The cluster.
    pub cluster: String,
    /// Compressed bytes that came over the network.
    pub bytes_sent: u64,
    /// Bytes of all files of the snapshot.
    pub bytes_total: u64,
    /// Every write up to this moment is in it and none after it, on all shards; none if the cluster is a
    /// standby.
    pub cut: Option<String>,
    /// From the first connection to the seal.
    pub seconds: f64,
    /// Each shard.
    pub shards: Vec<PushedShard>,
}

/// Which way was taken for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The store had nothing of it: every file was sent.
    Full,
    /// Some of its files, or all, were in the store.
    ObjectsReused,
    /// Its log since the last snapshot, which follows on that one's files.
    Log,
}

/// A shard of a push.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PushedShard {
    /// The shard, written `a/0`.
    pub shard: String,
    /// Which way was taken.
    pub way: Way,
    /// Why, in words.
    pub why: String,
    /// About how many bytes its files would have been, where that was compared.
    pub files_estimate: Option<u64>,
    /// About how many bytes its log would have been, where it could have been the way.
    pub log_estimate: Option<u64>,
    /// Files of its checkpoint.
    pub files: usize,
    /// Of those, how many the store had.
    pub reused: usize,
    /// Segments that follow on them.
    pub segments: usize,
    /// Compressed bytes that came over the network.
    pub bytes_sent: u64,
    /// Bytes of its files and segments.
    pub bytes_total: u64,
    /// The end of what it holds.
    pub position: String,
    /// Why its sidecar keeps no log for the next snapshot, if it does not.
    pub log_not_kept: Option<String>,
}

/// Prints an answer: as it is for people, as one line of JSON for scripts.
pub(crate) fn print(output: crate::cli::Output, text: &str, json: &impl Serialize) {
    *lock() = serde_json::to_value(json).ok();
    match output {
        crate::cli::Output::Text => ops::cli::say(text),
        crate::cli::Output::Json => {
            ops::cli::say(&serde_json::to_string(json).expect("answers are plain JSON"));
        }
    }
}

/// The answer of this process, for the report of its run.
pub(crate) fn last() -> Option<Value> {
    lock().clone()
}

fn lock() -> MutexGuard<'static, Option<Value>> {
    static LAST: Mutex<Option<Value>> = Mutex::new(None);
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) use ops::progress::size;
