//! How long a seed takes while writes go on, beside redis-server's full sync of the same data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

use super::account::memory_mb;
use crate::client::Client;
use crate::clouds::observer::sidecar_counter;
use crate::clouds::ports::Ports;
use crate::clouds::{Clouds, Observer, Plan};
use crate::redis::Redis;
use crate::wait;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Commands that are sent together when the data is loaded.
const PIPELINE: u64 = 200;
/// How often the writer of both writes.
const TICK: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Keys.
    pub keys: u64,
    /// Bytes of a value; half of them compress.
    pub value: usize,
    /// Writes a second while it is seeded.
    pub rate: u64,
}

/// Measures, and answers a report.
pub fn run(bench: &Seed) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("godwit-seed-").tempdir()?;
    let ours = ours(bench, &scratch.path().join("godwit"))?;
    let redis = redis(bench, scratch.path())?;
    Ok(format!(
        "{} keys of {} B, {} writes/s going on\n\
         a seed: level after {:.1} s, {:.2} GB sent; memory of the sidecars at most {:.0} and {:.0} MB\n\
         redis-server's full sync: level after {redis:.1} s: a seed takes {:.2}x of that",
        bench.keys,
        bench.value,
        bench.rate,
        ours.seconds,
        ours.bytes as f64 / 1e9,
        ours.memory[0],
        ours.memory[1],
        ours.seconds / redis,
    ))
}

struct Seeded {
    seconds: f64,
    bytes: u64,
    memory: [f64; 2],
}

fn ours(bench: &Seed, dir: &std::path::Path) -> Result<Seeded> {
    let mut plan = Plan::two_clouds(dir);
    for (_, shards) in &mut plan.clouds {
        *shards = vec!["0-16383".to_owned()];
    }
    let mut clouds = Clouds::create(plan)?;
    clouds.start_cloud("a")?;
    let address = clouds.cloud("a").shards[0].node.client.clone();
    fill(&address, bench)?;
    let b = clouds.shard("b/0");
    b.node.process.start()?;
    let observer = Observer::of(&clouds.layout)?;
    wait::until("the node of b to be there", PATIENCE, || {
        ensure!(observer.view().nodes.keys().any(|shard| shard.cluster == "b"), "it is not");
        Ok(())
    })?;
    let writing = Writing::start(&address, bench);
    let begun = Instant::now();
    clouds.shard("b/0").sidecar.process.start()?;
    let b = clouds.cloud("b").shards[0].node.client.clone();
    level(&address, &b, true)?;
    let seconds = begun.elapsed().as_secs_f64();
    writing.end()?;
    let bytes = sidecar_counter(&clouds.layout, "a", "godwit_replicator_seed_bytes_total");
    ensure!(bytes > 0, "it was not seeded");
    let memory = |cloud: &str| memory_mb(&clouds.cloud(cloud).shards[0].sidecar.process, "VmHWM");
    Ok(Seeded { seconds, bytes, memory: [memory("a")?, memory("b")?] })
}

fn redis(bench: &Seed, dir: &std::path::Path) -> Result<f64> {
    let mut ports = Ports::reserve()?;
    // What is written while the snapshot is made must have a place.
    let room = ["--client-output-buffer-limit", "replica 0 0 0"];
    let mut primary = Redis::start("primary", dir, &mut ports, &room);
    fill(&primary.address, bench)?;
    let mut replica = Redis::start("replica", dir, &mut ports, &[]);
    let writing = Writing::start(&primary.address, bench);
    let begun = Instant::now();
    let (host, port) = primary.address.rsplit_once(':').context("no port")?;
    Client::connect(&replica.address)?.call(&["REPLICAOF", host, port])?;
    level(&primary.address, &replica.address, false)?;
    let seconds = begun.elapsed().as_secs_f64();
    writing.end()?;
    primary.process.end();
    replica.process.end();
    Ok(seconds)
}

/// A value of which half is random.
fn value(bench: &Seed, random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = vec![b'v'; bench.value];
    random.fill_bytes(&mut bytes[..bench.value / 2]);
    bytes
}

fn fill(address: &str, bench: &Seed) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut random = SmallRng::seed_from_u64(1);
    for first in (0..bench.keys).step_by(PIPELINE as usize) {
        let last = (first + PIPELINE).min(bench.keys);
        for key in first..last {
            let value = value(bench, &mut random);
            client.push(&[b"SET", format!("key:{key}").as_bytes(), &value]);
        }
        client.flush()?;
        (first..last).try_for_each(|_| client.answer().map(drop))?;
    }
    Ok(())
}

/// Waits until what is written now can be read at the other end.
fn level(from: &str, to: &str, godwit: bool) -> Result<()> {
    let stamp = format!("{:x}", rand::random::<u64>());
    Client::connect(from)?.call(&["SET", "level", &stamp])?;
    wait::until("the follower to be level", PATIENCE, || {
        let mut there = Client::connect(to)?;
        if godwit {
            there.call(&["READONLY"])?;
        }
        let value = there.call(&["GET", "level"])?;
        ensure!(value.as_text() == Some(&*stamp), "it is not");
        Ok(())
    })
}

/// Writes that go on.
struct Writing {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Writing {
    fn start(address: &str, bench: &Seed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, bench, ended) = (address.to_owned(), bench.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut client = Client::connect(&address)?;
            let mut random = SmallRng::seed_from_u64(2);
            let (begun, mut written) = (Instant::now(), 0);
            while !ended.load(Ordering::Relaxed) {
                let wanted = (begun.elapsed().as_secs_f64() * bench.rate as f64) as u64;
                for _ in written..wanted {
                    let key = format!("key:{}", random.random_range(0..bench.keys));
                    let value = value(&bench, &mut random);
                    client.push(&[b"SET", key.as_bytes(), &value]);
                }
                client.flush()?;
                (written..wanted).try_for_each(|_| client.answer().map(drop))?;
                written = wanted;
                wait::pause(TICK);
            }
            Ok(())
        });
        Self { stop, thread }
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer died"))?
    }
}
