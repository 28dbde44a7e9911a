//! Waiting for a log to grow: a short poll while data flows, one inotify event when it does not.
//! (A watch that fires at every write slows the writer; this one fires once.)

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use inotify::{Inotify, WatchMask};

use super::Cursor;

/// The poll while data flows.
const POLL: Duration = Duration::from_micros(200);
/// How long after the last batch the poll goes on.
const LINGER: Duration = Duration::from_millis(5);
/// Waits for an event end after this anyway: an event may be missed.
const RECHECK: Duration = Duration::from_millis(50);

/// Waits for one cursor's log.
#[derive(Debug)]
pub struct Growth {
    last: Instant,
}

impl Default for Growth {
    fn default() -> Self {
        Self { last: Instant::now() }
    }
}

impl Growth {
    /// There was data just now.
    pub fn flowed(&mut self) {
        self.last = Instant::now();
    }

    /// Returns when there may be more, soon enough in any case.
    pub async fn wait(&self, cursor: &Cursor) {
        if self.last.elapsed() < LINGER {
            tokio::time::sleep(POLL).await;
            return;
        }
        let mut files = cursor.spool.changes();
        files.borrow_and_update();
        let event = async {
            let armed = Inotify::init().and_then(|inotify| {
                inotify.watches().add(&cursor.file().path, WatchMask::MODIFY | WatchMask::ONESHOT)?;
                inotify.into_event_stream([0; 1024])
            });
            // What was written before the watch was armed is seen by the caller's next look.
            match armed {
                Ok(_) if cursor.reader.grew() => {}
                Ok(mut events) => drop(events.next().await),
                Err(_) => tokio::time::sleep(RECHECK).await,
            }
        };
        tokio::select! {
            () = event => {}
            _ = files.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}
