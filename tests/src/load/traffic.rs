//! Many writers and readers at once, bounded in rate, time and number.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::ledger::{Entry, Ledger, Outcome};
use super::{reader, writer};

/// How many errors are kept word by word.
const ERRORS_MAX: usize = 20;

/// How much traffic, and where to.
#[derive(Clone, Debug)]
pub struct TrafficPlan {
    /// Sets this run's keys apart.
    pub run: String,
    /// Where to connect; connections spread over all.
    pub proxies: Vec<String>,
    /// Connections that write.
    pub writers: u32,
    /// Connections that read.
    pub readers: u32,
    /// Writes a second of each connection, at most.
    pub rate: u32,
    /// Reads a second of each connection, at most.
    pub read_rate: u32,
    /// Writes sent before their answers are read.
    pub pipeline: u32,
    /// Writes of each connection in all.
    pub writes_max: u32,
}

impl TrafficPlan {
    /// A little of everything, for stories.
    pub fn small(run: &str, proxies: Vec<String>) -> Self {
        Self {
            run: run.to_owned(),
            proxies,
            writers: 6,
            readers: 2,
            rate: 200,
            read_rate: 100,
            pipeline: 4,
            writes_max: 100_000,
        }
    }
}

/// What the connections share.
pub(super) struct Shared {
    pub(super) plan: TrafficPlan,
    pub(super) stop: AtomicBool,
    pub(super) entries: Vec<Mutex<Vec<Entry>>>,
    pub(super) connects: AtomicUsize,
    start: Instant,
    acknowledged: AtomicU64,
    disconnects: AtomicU64,
    reads: AtomicU64,
    read_errors: AtomicU64,
    stale_reads: AtomicU64,
    wrong_reads: AtomicU64,
    errors: Mutex<Vec<String>>,
}

/// Running traffic. Dropped, it stops.
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts it.
    pub fn start(plan: TrafficPlan) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            entries: (0..plan.writers).map(|_| Mutex::default()).collect(),
            connects: AtomicUsize::new(0),
            start: Instant::now(),
            acknowledged: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_errors: AtomicU64::new(0),
            stale_reads: AtomicU64::new(0),
            wrong_reads: AtomicU64::new(0),
            errors: Mutex::default(),
            plan,
        });
        let mut threads = Vec::new();
        for n in 0..shared.plan.writers {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || writer::run(&shared, n)));
        }
        for n in 0..shared.plan.readers {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || reader::run(&shared, n)));
        }
        Self { shared, threads }
    }

    /// Microseconds since it began: the clock of the ledger.
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// The ledger so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger()
    }

    /// Stops, waits for the last answers, and hands over the ledger.
    pub fn stop(mut self) -> Ledger {
        self.halt();
        self.shared.ledger()
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn note(&self, entry: Entry) {
        match &entry.outcome {
            Outcome::Acknowledged(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Refused(text) => self.say(text),
            Outcome::Unknown => {}
        }
        let writer = entry.operation.writer as usize;
        if let Some(Ok(mut entries)) = self.entries.get(writer).map(Mutex::lock) {
            entries.push(entry);
        }
    }

    pub(super) fn disconnected(&self, error: &anyhow::Error) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        self.say(&format!("{error:#}"));
    }

    pub(super) fn read_failed(&self, text: &str) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
        self.say(text);
    }

    pub(super) fn read_done(&self, attempt: u32) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.stale_reads.fetch_add(u64::from(attempt > 0), Ordering::Relaxed);
    }

    pub(super) fn read_wrong(&self, key: &str) {
        self.wrong_reads.fetch_add(1, Ordering::Relaxed);
        self.say(&format!("{key} was acknowledged and is not there"));
    }

    fn say(&self, text: &str) {
        if let Ok(mut errors) = self.errors.lock()
            && errors.len() < ERRORS_MAX
        {
            errors.push(format!("at {} ms: {text}", self.now_us() / 1000));
        }
    }

    fn ledger(&self) -> Ledger {
        let entries = |m: &Mutex<Vec<Entry>>| m.lock().map(|e| e.clone()).unwrap_or_default();
        Ledger {
            run: self.plan.run.clone(),
            writers: self.entries.iter().map(entries).collect(),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            read_errors: self.read_errors.load(Ordering::Relaxed),
            stale_reads: self.stale_reads.load(Ordering::Relaxed),
            wrong_reads: self.wrong_reads.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            errors: self.errors.lock().map(|e| e.clone()).unwrap_or_default(),
        }
    }
}
