//! A bound on bytes a second, shared by all that move some.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Makes those who send or fetch wait, so that together they do not exceed a rate.
#[derive(Debug)]
pub struct Limit {
    rate: u64,
    /// When what has been counted so far may have been sent.
    due: Mutex<Instant>,
}

impl Limit {
    /// So many bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), due: Mutex::new(Instant::now()) }
    }

    /// Waits until what was counted before is due, and counts these bytes.
    pub async fn take(&self, bytes: usize) {
        let wait = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Time in which nothing was sent is not saved up.
            let from = (*due).max(now);
            *due = from + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            from.saturating_duration_since(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sending_takes_as_long_as_the_rate_says() {
        let (limit, begun) = (Limit::new(10 << 20), Instant::now());
        for _ in 0..4 {
            limit.take(512 << 10).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(145), "{:?}", begun.elapsed());
    }
}
