//! How far a verb is: a line that changes on a terminal, log lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a terminal's line changes.
const LINE_EVERY: Duration = Duration::from_millis(250);
/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts of a running verb. Clones share them.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Counts>);

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
    /// Of a verb, such as `restoring`; nothing is shown yet.
    pub fn new(verb: &'static str) -> Self {
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
    pub fn expect(&self, bytes: u64) {
        self.0.todo.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes of files were moved, and took so many on the network.
    pub fn moved(&self, bytes: u64, sent: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
        self.0.sent.fetch_add(sent, Ordering::Relaxed);
        self.show();
    }

    /// Compressed bytes so far.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Bytes that are still to move.
    pub fn left(&self) -> u64 {
        let todo = self.0.todo.load(Ordering::Relaxed);
        todo.saturating_sub(self.0.done.load(Ordering::Relaxed))
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
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

/// A number of bytes for people: three digits and a unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.5 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_320_559, "1.3 MiB"),
            (150 << 30, "150 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
