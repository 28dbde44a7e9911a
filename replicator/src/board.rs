//! What the tasks of a sidecar say of themselves: read by the member's key, the metrics and the
//! drain.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use topology::ShardName;
use topology::members::{Drained, ReceiveStatus, StreamStatus};
use wal::Sequence;

/// The board; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    notes: Mutex<Notes>,
    changed: Notify,
}

/// What is on the board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Streams by target shard.
    pub streams: BTreeMap<String, StreamStatus>,
    /// Streams by source shard.
    pub receiving: BTreeMap<String, ReceiveStatus>,
    /// The end of the node's log as read.
    pub tail: Option<Sequence>,
    /// A dead node's log, read to its end.
    pub drained: Option<Drained>,
}

impl Board {
    /// Changes something on it, and tells who waits if it did.
    pub fn note<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = notes.clone();
        let answer = change(&mut notes);
        if *notes != before {
            self.0.changed.notify_one();
        }
        answer
    }

    /// Changes what is said of the stream to a target.
    pub fn stream(&self, target: &ShardName, change: impl FnOnce(&mut StreamStatus)) {
        self.note(|notes| {
            let status = notes.streams.entry(target.to_string()).or_insert_with(|| StreamStatus {
                state: "connecting".to_owned(),
                reason: None,
                staged: None,
                applied: None,
                lag_ms: None,
                behind_bytes: 0,
                sent_bytes: 0,
                seed_bytes: 0,
            });
            change(status);
        });
    }

    /// Changes what is said of the stream from a source.
    pub fn receiving(&self, source: &ShardName, change: impl FnOnce(&mut ReceiveStatus)) {
        self.note(|notes| {
            let status = notes.receiving.entry(source.to_string()).or_insert(ReceiveStatus {
                staged: None,
                applied: None,
                connected: false,
                held: None,
            });
            change(status);
        });
    }

    /// What is on it.
    pub fn read(&self) -> Notes {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns after a change; only one task may wait.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}
