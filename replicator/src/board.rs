//! What the tasks of a sidecar say of themselves: read by the member's key, the metrics and the
//! drain.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use topology::ShardName;
use topology::members::{Drained, DrillState, Needs, ReceiveStatus, StreamStatus};
use wal::Sequence;

/// The board; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    notes: Mutex<Notes>,
    /// A state has changed: news for whoever waits for a switch.
    news: Notify,
    /// Something has changed since the last publication.
    dirty: AtomicBool,
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
    /// How it is with drills.
    pub drill: Option<DrillState>,
    /// What the sidecar needs.
    pub needs: Option<Needs>,
}

impl Board {
    /// Changes something on it that changes rarely: it is news if it did.
    pub fn note<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.lock();
        let before = notes.clone();
        let answer = change(&mut notes);
        if *notes != before {
            self.told(true);
        }
        answer
    }

    /// Takes note of what changes all the time: it is told with the next news, or after a while.
    pub fn count(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.lock());
        self.told(false);
    }

    /// Changes what is said of the stream to a target; its state is news.
    pub fn stream(&self, target: &ShardName, change: impl FnOnce(&mut StreamStatus)) {
        let mut notes = self.lock();
        let status = notes.streams.entry(target.to_string()).or_insert_with(|| StreamStatus {
            state: "connecting".to_owned(),
            ..StreamStatus::default()
        });
        let before = status.state.clone();
        change(status);
        let news = status.state != before;
        self.told(news);
    }

    /// Changes what is said of the stream from a source.
    pub fn receiving(&self, source: &ShardName, change: impl FnOnce(&mut ReceiveStatus)) {
        let mut notes = self.lock();
        let status = notes.receiving.entry(source.to_string()).or_insert(ReceiveStatus {
            staged: None,
            applied: None,
            connected: false,
            held: None,
            way: None,
            bucket: None,
        });
        change(status);
        self.told(false);
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, news: bool) {
        self.0.dirty.store(true, Ordering::Release);
        if news {
            self.0.news.notify_one();
        }
    }

    /// What is on it.
    pub fn read(&self) -> Notes {
        self.lock().clone()
    }

    /// Returns after a change that is news; only one task may wait.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Whether anything has changed since this was asked last.
    pub fn take_changes(&self) -> bool {
        self.0.dirty.swap(false, Ordering::AcqRel)
    }
}
