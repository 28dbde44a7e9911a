//! Each acknowledged command takes effect once, whatever dies: INCR, APPEND, LPUSH and ZINCRBY under
//! SIGKILL of nodes and sidecars of both clouds.
//!
//! Every command adds one to a counter, a string, a list and a score. What a client had an answer for
//! must be in each once; what it had none for may be, once. In the end the standby must hold the
//! same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::digest;
use crate::client::Client;
use crate::clouds::{Clouds, Observer, Process};
use crate::wait;

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(120);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Writing threads.
const WRITERS: usize = 4;
/// Between two kills, at most: so much that some hit a process that has just come back.
const PAUSE_MS_MAX: u64 = 400;

/// What one writer knows of its keys: of each command how often it was acknowledged, and how often
/// its outcome is not known.
type Known = BTreeMap<&'static str, (u64, u64)>;

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    /// Kills.
    pub kills: u32,
    /// Acknowledged commands.
    pub acknowledged: u64,
    /// Commands without an answer.
    pub unknown: u64,
    /// Those of them that took effect.
    pub took_effect: u64,
}

/// Kills so often, as `seed` says, then compares. The clouds are level, and a is active.
pub fn run(clouds: &mut Clouds, observer: &Observer, kills: u32, seed: u64) -> Result<Once> {
    let mut random = StdRng::seed_from_u64(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let nodes: Vec<_> = clouds.cloud("a").shards.iter().map(|s| s.node.client.clone()).collect();
    let writers: Vec<JoinHandle<Known>> = (0..WRITERS)
        .map(|number| {
            let (stop, done, nodes) = (stop.clone(), done.clone(), nodes.clone());
            std::thread::spawn(move || write(number, &nodes, &stop, &done))
        })
        .collect();
    let killed = kill_all(clouds, &done, kills, &mut random);
    stop.store(true, Ordering::Release);
    let known: Vec<_> = writers.into_iter().map(JoinHandle::join).collect();
    killed?;
    wait::until("the standby to follow", STUCK, || observer.is_followed("a", nodes.len()))?;
    let (a, b) = (clouds.cloud("a"), clouds.cloud("b"));
    let found = wait::until("digests", STUCK, || digest::compare(a, b))?;
    ensure!(found.equal(), "the clouds differ: {found:?}");
    let mut once = Once { kills, acknowledged: 0, unknown: 0, took_effect: 0 };
    for (number, known) in known.into_iter().enumerate() {
        let known = known.ok().context("a writer panicked")?;
        judge(number, &known, &nodes, &mut once)?;
    }
    ensure!(once.acknowledged > u64::from(kills), "hardly anything was written: {once:?}");
    Ok(once)
}

fn kill_all(clouds: &mut Clouds, done: &AtomicU64, kills: u32, random: &mut StdRng) -> Result<()> {
    for _ in 0..kills {
        // Some writes between two kills, so that each may hit one.
        let enough = done.load(Ordering::Acquire) + 20;
        wait::until("writes to be acknowledged", STUCK, || {
            let now = done.load(Ordering::Acquire);
            ensure!(now >= enough, "{now} of {enough}");
            Ok(())
        })?;
        wait::pause(Duration::from_millis(random.random_range(0..PAUSE_MS_MAX)));
        let name =
            format!("{}/{}", ["a", "b"][random.random_range(0..2)], random.random_range(0..2));
        let shard = clouds.shard(&name);
        let again = |process: &mut Process| process.kill9().and_then(|()| process.start());
        match random.random_range(0..3) {
            0 => again(&mut shard.node.process)?,
            1 => again(&mut shard.sidecar.process)?,
            _ => {
                shard.node.process.kill9()?;
                again(&mut shard.sidecar.process)?;
                shard.node.process.start()?;
            }
        }
    }
    Ok(())
}

/// The keys of a writer, of one shard.
fn key(number: usize, command: &str) -> String {
    // Of these tags a is of the second shard of two, and b of the first.
    format!("{{{}}}once:{number}:{command}", ["b", "a"][number % 2])
}

/// Writes until it is stopped: one command at a time, never one twice.
fn write(number: usize, nodes: &[String], stop: &AtomicBool, done: &AtomicU64) -> Known {
    let mut known = Known::new();
    let mut client = None;
    while !stop.load(Ordering::Acquire) {
        for command in ["INCR", "APPEND", "LPUSH", "ZINCRBY"] {
            let Some(connected) = client.take().or_else(|| connect(number, nodes)) else {
                wait::pause(Duration::from_millis(20));
                continue;
            };
            let mut connected: Client = connected;
            let key = key(number, command);
            let sent = match command {
                "INCR" => connected.call(&["INCR", &key]),
                "ZINCRBY" => connected.call(&["ZINCRBY", &key, "1", "m"]),
                command => connected.call(&[command, &key, "x"]),
            };
            let (acknowledged, unknown) = known.entry(command).or_default();
            match sent {
                Ok(_) => {
                    *acknowledged += 1;
                    done.fetch_add(1, Ordering::AcqRel);
                    client = Some(connected);
                }
                // A refusal proves that it did not run; so does nothing else.
                Err(error) if is_refusal(&error) => {
                    wait::pause(Duration::from_millis(20));
                    client = Some(connected);
                }
                Err(_) => *unknown += 1,
            }
        }
    }
    known
}

fn connect(number: usize, nodes: &[String]) -> Option<Client> {
    let node = nodes.get(number % 2)?;
    Client::connect_with(node, ANSWER_MAX).ok()
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let said = format!("{error:#}");
    ["READONLY", "LOADING", "CLUSTERDOWN", "MOVED"].iter().any(|word| said.contains(word))
}

/// Each of a writer's keys holds what was acknowledged, and of the rest each at most once.
fn judge(number: usize, known: &Known, nodes: &[String], once: &mut Once) -> Result<()> {
    for (command, (acknowledged, unknown)) in known {
        let key = key(number, command);
        let count = wait::until("the node to answer", STUCK, || {
            let mut client = connect(number, nodes).context("no connection")?;
            let reply = match *command {
                "INCR" => client.call(&["GET", &key])?,
                "APPEND" => client.call(&["STRLEN", &key])?,
                "LPUSH" => client.call(&["LLEN", &key])?,
                _ => client.call(&["ZSCORE", &key, "m"])?,
            };
            let text = reply.as_text().and_then(|text| text.parse::<f64>().ok());
            let count = reply.as_integer().map(|n| n as f64).or(text);
            Ok(count.unwrap_or(0.0) as u64)
        })?;
        ensure!(
            (*acknowledged..=acknowledged + unknown).contains(&count),
            "{key} holds {count}: {acknowledged} were acknowledged, {unknown} have no answer"
        );
        once.acknowledged += acknowledged;
        once.unknown += unknown;
        once.took_effect += count - acknowledged;
    }
    Ok(())
}
