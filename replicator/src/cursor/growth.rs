//! Waiting for a log to grow: a short poll while data flows, one inotify event when it does not.
//! (A watch that fires at every write slows the writer; this one fires once.)

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

use super::Cursor;

/// The poll while data flows.
const POLL: Duration = Duration::from_micros(200);
/// How long after the last batch the poll goes on.
const LINGER: Duration = Duration::from_millis(5);
/// Waits for an event end after this anyway: an event may be missed.
const RECHECK: Duration = Duration::from_millis(250);

/// Waits for one cursor's log.
#[derive(Default)]
pub struct Growth {
    last: Option<Instant>,
    /// One instance for all waits: to close one takes the kernel milliseconds.
    events: Option<EventStream<[u8; 1024]>>,
}

impl std::fmt::Debug for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Growth").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Growth {
    /// There was data just now.
    pub fn flowed(&mut self) {
        self.last = Some(Instant::now());
    }

    /// Returns when there may be more, soon enough in any case.
    pub async fn wait(&mut self, cursor: &Cursor) {
        if self.last.is_some_and(|last| last.elapsed() < LINGER) {
            tokio::time::sleep(POLL).await;
            return;
        }
        let mut files = cursor.spool.changes();
        files.borrow_and_update();
        if self.events.is_none() {
            self.events = Inotify::init().and_then(|i| i.into_event_stream([0; 1024])).ok();
        }
        let events = self.events.as_mut().and_then(|events| {
            let mask = WatchMask::MODIFY | WatchMask::ONESHOT;
            events.watches().add(&cursor.file().path, mask).ok()?;
            Some(events)
        });
        // What was written before the watch was armed.
        if cursor.reader.grew() {
            return;
        }
        let event = async {
            match events {
                Some(events) => drop(events.next().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = event => {}
            _ = files.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}
