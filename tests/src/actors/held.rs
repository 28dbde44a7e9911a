//! Writes through a proxy all the time, and remembers the longest that one waited for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Client;
use crate::wait;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);
/// A key of each of two shards.
const KEYS: [&str; 2] = ["{b}held", "{a}held"];

/// Clients of one proxy.
pub(super) struct Held {
    proxy: String,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Duration>>,
}

/// An answer of any kind is one, and so is an end of the connection: the client knows.
fn write(proxy: &str, key: &str, most: Duration, stop: &AtomicBool) -> Duration {
    let (mut longest, mut client) = (Duration::ZERO, None);
    while !stop.load(Ordering::Acquire) {
        wait::pause(PAUSE);
        let Some(mut connected) = client.take().or_else(|| Client::connect_with(proxy, most).ok())
        else {
            continue;
        };
        let sent = Instant::now();
        let answer = connected.call(&["SET", key, "x"]);
        longest = longest.max(sent.elapsed());
        if answer.is_ok() {
            client = Some(connected);
        }
    }
    longest
}

impl Held {
    /// Begins to write; no answer is waited for longer than `most`.
    pub(super) fn start(proxy: &str, most: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = KEYS.map(|key| {
            let (proxy, stop) = (proxy.to_owned(), stop.clone());
            std::thread::spawn(move || write(&proxy, key, most, &stop))
        });
        Self { proxy: proxy.to_owned(), stop, writers: writers.into() }
    }

    /// Ends; the longest wait. An error if that is `most` or more.
    pub(super) fn judge(self, most: Duration) -> Result<Duration> {
        self.stop.store(true, Ordering::Release);
        let mut longest = Duration::ZERO;
        for writer in self.writers {
            let Ok(waited) = writer.join() else { anyhow::bail!("a writer panicked") };
            longest = longest.max(waited);
        }
        ensure!(longest < most, "a write through {} had no answer for {longest:?}", self.proxy);
        Ok(longest)
    }
}
