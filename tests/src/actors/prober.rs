//! Writes to a shard's nodes of both sides all the time, and remembers when each accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Client;
use crate::wait;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(2);
/// A key of each of two shards.
const KEYS: [&str; 2] = ["{b}probe", "{a}probe"];

/// The first write that was sent and the last that was acknowledged, of one side.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    /// When the first acknowledged write was answered.
    first_answer: Instant,
    /// When the last acknowledged write was sent.
    last_sent: Instant,
}

/// One prober for each side.
pub struct Prober {
    stop: Arc<AtomicBool>,
    began: Instant,
    old: JoinHandle<Option<Accepted>>,
    new: JoinHandle<Option<Accepted>>,
}

fn probe(node: &str, key: &str, stop: &AtomicBool) -> Option<Accepted> {
    let mut accepted: Option<Accepted> = None;
    let mut client = None;
    while !stop.load(Ordering::Acquire) {
        wait::pause(PAUSE);
        let Some(mut connected) =
            client.take().or_else(|| Client::connect_with(node, ANSWER_MAX).ok())
        else {
            continue;
        };
        let sent = Instant::now();
        let answer = connected.call(&["SET", key, "x"]);
        match answer {
            Ok(_) => {
                let now = Instant::now();
                let before = accepted.map_or(now, |a| a.first_answer);
                accepted = Some(Accepted { first_answer: before, last_sent: sent });
                client = Some(connected);
            }
            // A refusal is an answer; after anything else the connection is of no use.
            Err(error) if format!("{error:#}").contains("READONLY") => client = Some(connected),
            Err(_) => {}
        }
    }
    accepted
}

impl Prober {
    /// Begins to write to the nodes of a shard, by number, of both sides.
    pub fn start(number: usize, old: String, new: String) -> Self {
        let key = KEYS[number];
        let stop = Arc::new(AtomicBool::new(false));
        let start = |node: String| {
            let stop = stop.clone();
            std::thread::spawn(move || probe(&node, key, &stop))
        };
        Self { began: Instant::now(), old: start(old), new: start(new), stop }
    }

    /// Ends, and compares: whatever the old side accepted was sent before the new side accepted
    /// anything. There was one switch at most.
    pub fn judge(self, said: &[String]) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let (Ok(old), Ok(new)) = (self.old.join(), self.new.join()) else {
            anyhow::bail!("a prober panicked")
        };
        ensure!(old.is_some() || new.is_some(), "nobody accepted a write: the prober is blind");
        if let (Some(old), Some(new)) = (old, new) {
            let at = |moment: Instant| moment.duration_since(self.began);
            ensure!(
                old.last_sent <= new.first_answer,
                "both sides accepted writes: the new one from {:?} on, the old one still at {:?}: {said:#?}",
                at(new.first_answer),
                at(old.last_sent)
            );
        }
        Ok(())
    }
}
