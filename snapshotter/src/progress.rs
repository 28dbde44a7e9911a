//! How far a verb is: a line that changes on a terminal, log lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::report::size;

/// How often a terminal's line changes.
const LINE_EVERY: Duration = Duration::from_millis(250);
/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts of a running verb. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    verb: &'static str,
    begun: Instant,
    /// Bytes of files that there are to move; grows as shards are listed.
    todo: AtomicU64,
    /// Of those, what has been moved.
    done: AtomicU64,
    /// What that took on the network.
    sent: AtomicU64,
    /// When a line was last shown, in milliseconds since the beginning.
    shown: AtomicU64,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(verb: &'static str) -> Self {
        Self(Arc::new(Counts {
            verb,
            begun: Instant::now(),
            todo: AtomicU64::new(0),
            done: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            terminal: std::io::stderr().is_terminal(),
        }))
    }

    /// There is this much more to move.
    pub(crate) fn expect(&self, bytes: u64) {
        self.0.todo.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes of files were moved, and took so many on the network.
    pub(crate) fn moved(&self, bytes: u64, sent: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
        self.0.sent.fetch_add(sent, Ordering::Relaxed);
        self.show();
    }

    /// Compressed bytes so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Bytes that are still to move.
    pub(crate) fn left(&self) -> u64 {
        let todo = self.0.todo.load(Ordering::Relaxed);
        todo.saturating_sub(self.0.done.load(Ordering::Relaxed))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Shows how far it is, if it is time to.
    fn show(&self) {
        let every = if self.0.terminal { LINE_EVERY } else { LOG_EVERY };
        let now = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        let shown = self.0.shown.load(Ordering::Relaxed);
        let due = now.saturating_sub(shown) >= every.as_millis() as u64;
        let ours = || {
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            self.0.shown.compare_exchange(shown, now, success, failure).is_ok()
        };
        if !due || !ours() {
            return;
        }
        let line = self.line();
        if self.0.terminal {
            // A terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        } else {
            tracing::info!("{line}");
        }
    }

    fn line(&self) -> String {
        let done = self.0.done.load(Ordering::Relaxed);
        let seconds = self.elapsed().as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let left = if rate >= 1.0 {
            let left = Duration::from_secs((self.left() as f64 / rate) as u64);
            format!(", {} left", humantime::format_duration(left))
        } else {
            String::new()
        };
        format!(
            "{}: {} of {}, {}/s{left}",
            self.0.verb,
            size(done),
            size(done + self.left()),
            size(rate as u64),
        )
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        if self.terminal && self.shown.load(Ordering::Relaxed) > 0 {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
