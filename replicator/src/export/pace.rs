//! A bound on bytes a second.

use std::time::{Duration, Instant};

/// Sleeps a blocking thread so that it does not read faster than its rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    /// When what has been counted so far may have been read.
    due: Instant,
}

impl Pace {
    /// How far ahead of its rate a reader may run: small sleeps cost more than they bound.
    const SLACK: Duration = Duration::from_millis(20);

    pub(super) fn new(rate: u64) -> Self {
        Self { rate, due: Instant::now() }
    }

    /// Counts bytes that were read, and sleeps if that was too fast.
    pub(super) fn took(&mut self, bytes: usize) {
        let now = Instant::now();
        // Time in which nothing was read is not saved up.
        self.due = self.due.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let ahead = self.due.saturating_duration_since(now);
        if ahead > Self::SLACK {
            #[allow(clippy::disallowed_methods)] // on a thread of its own that may block
            std::thread::sleep(ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_as_long_as_the_rate_says() {
        let (mut pace, begun) = (Pace::new(10 << 20), Instant::now());
        for _ in 0..8 {
            pace.took(256 << 10);
        }
        assert!(begun.elapsed() >= Duration::from_millis(170), "{:?}", begun.elapsed());
    }
}
