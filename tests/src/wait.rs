//! Waiting for something to become true: by asking again, until a deadline, never by hoping.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`; past the deadline, the last error says what was missing.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| {
                    format!("waited {} for {what}", humantime::format_duration(limit))
                });
            }
            Err(_) => pause(PAUSE),
        }
    }
}

/// Sleeps in a thread of a test or of a load, where nothing else waits for the thread.
#[allow(clippy::disallowed_methods)]
pub fn pause(span: Duration) {
    thread::sleep(span);
}
