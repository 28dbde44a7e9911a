//! How fast a standby catches up after an outage, beside what RocksDB alone takes for as many puts, and
//! beside clients who write one by one.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::account::{cpu, memory_mb};
use super::floor;
use crate::client::Client;
use crate::clouds::observer::sidecar_counter;
use crate::clouds::{Clouds, Observer, Plan};
use crate::wait;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Clients that write one by one.
const CLIENTS: usize = 50;
/// For so long.
const ONE_BY_ONE: Duration = Duration::from_secs(5);
/// Commands that are sent together during the outage.
const PIPELINE: u64 = 500;
/// Keys that are written over and over.
const KEYS: u64 = 1_000_000;

/// What is measured.
#[derive(Clone, Debug)]
pub struct CatchUp {
    /// Writes during the outage.
    pub writes: u64,
    /// Bytes of a value.
    pub value: usize,
    /// The spool's budget.
    pub budget: String,
    /// Whether the sidecars speak TLS.
    pub tls: bool,
}

/// Measures, and answers a report.
pub fn run(bench: &CatchUp) -> Result<String> {
    let scratch = tempfile::Builder::new().prefix("godwit-catch-up-").tempdir()?;
    let mut plan = Plan::two_clouds(scratch.path());
    plan.tls = bench.tls;
    let flags = ["--spool-budget", &bench.budget].map(str::to_owned).to_vec();
    plan.args.push(("godwit-replicator".to_owned(), flags));
    for (_, shards) in &mut plan.clouds {
        *shards = vec!["0-16383".to_owned()];
    }
    let mut clouds = Clouds::create(plan)?;
    clouds.start_all()?;
    let observer = Observer::of(&clouds.layout)?;
    wait::until("b to follow a", PATIENCE, || observer.is_followed("a", 1))?;
    let address = clouds.cloud("a").shards[0].node.client.clone();
    let one_by_one = clients(&address, bench.value)?;
    level(&clouds)?;
    let seeded = sidecar_counter(&clouds.layout, "a", "godwit_replicator_seed_bytes_total");

    clouds.shard("b/0").sidecar.process.kill9()?;
    let wrote = Instant::now();
    let mut writer = Client::connect(&address)?;
    let value = value_of(bench.value);
    let mut spool_bytes = 0;
    for batch in 0..bench.writes / PIPELINE {
        for put in 0..PIPELINE {
            let key = (batch * PIPELINE + put).wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
            writer.push(&[b"SET", format!("key:{key:020}").as_bytes(), &value]);
        }
        writer.flush()?;
        (0..PIPELINE).try_for_each(|_| writer.answer().map(drop))?;
        if batch % 200 == 0 {
            spool_bytes = spool_bytes.max(spool(&clouds));
        }
    }
    let outage = wrote.elapsed();
    spool_bytes = spool_bytes.max(spool(&clouds));
    let b = &clouds.cloud("b").shards[0];
    let node_before = cpu(&b.node.process)?;
    let source_before = cpu(&clouds.cloud("a").shards[0].sidecar.process)?;
    clouds.shard("b/0").sidecar.process.start()?;
    let begun = Instant::now();
    level(&clouds)?;
    let took = begun.elapsed().as_secs_f64();
    let (a, b) = (&clouds.cloud("a").shards[0], &clouds.cloud("b").shards[0]);
    let node = (cpu(&b.node.process)? - node_before) * 1e6 / bench.writes as f64;
    let target = cpu(&b.sidecar.process)? * 1e6 / bench.writes as f64;
    let source = (cpu(&a.sidecar.process)? - source_before) * 1e6 / bench.writes as f64;
    let again = sidecar_counter(&clouds.layout, "a", "godwit_replicator_seed_bytes_total");
    ensure!(again == seeded, "the follower was seeded: {} bytes", again - seeded);
    let memory = [memory_mb(&a.sidecar.process, "VmHWM")?, memory_mb(&b.sidecar.process, "VmHWM")?];
    drop(clouds);
    let (floor_cpu, floor_rate) =
        floor::put(&scratch.path().join("floor"), bench.writes, KEYS, bench.value)?;
    let rate = bench.writes as f64 / took;
    Ok(format!(
        "{} writes of {} B while the standby's sidecar was away ({:.0} s), {:.2} GB of spool of {} allowed, no seed\n\
         level after {took:.1} s: {rate:.0} writes/s, {:.1}x of {CLIENTS} clients one by one ({one_by_one:.0}/s)\n\
         processor a write: the standby's node {node:.2} us; RocksDB alone, batches of 16, {floor_cpu:.2} us ({floor_rate:.0}/s): {:.2}x of its rate a core\n\
         sidecars: source {source:.2} us, target {target:.2} us; memory at most {:.0} and {:.0} MB",
        bench.writes,
        bench.value,
        outage.as_secs_f64(),
        spool_bytes as f64 / 1e9,
        bench.budget,
        rate / one_by_one,
        floor_cpu / node,
        memory[0],
        memory[1],
    ))
}

fn spool(clouds: &Clouds) -> u64 {
    sidecar_counter(&clouds.layout, "a", "godwit_replicator_spool_bytes")
}

fn value_of(bytes: usize) -> Vec<u8> {
    vec![b'v'; bytes]
}

/// Waits until what is written now can be read on the standby.
fn level(clouds: &Clouds) -> Result<()> {
    let stamp = format!("{:x}", rand::random::<u64>());
    let mut a = Client::connect(&clouds.cloud("a").shards[0].node.client)?;
    a.call(&["SET", "level", &stamp])?;
    let mut b = Client::connect(&clouds.cloud("b").shards[0].node.client)?;
    b.call(&["READONLY"])?;
    wait::until("the standby to be level", PATIENCE, || {
        let value = b.call(&["GET", "level"])?;
        ensure!(value.as_text() == Some(&*stamp), "it is not");
        Ok(())
    })
}

/// Writes a second of clients that each wait for their answer.
fn clients(address: &str, value: usize) -> Result<f64> {
    let begun = Instant::now();
    let write = |number: usize| {
        let address = address.to_owned();
        thread::spawn(move || -> Result<u64> {
            let (mut client, value) = (Client::connect(&address)?, value_of(value));
            let mut count = 0_u64;
            while begun.elapsed() < ONE_BY_ONE {
                let key = (count * 1009 + number as u64) % KEYS;
                client.call(&[b"SET", format!("key:{key:020}").as_bytes(), &value])?;
                count += 1;
            }
            Ok(count)
        })
    };
    let writers: Vec<_> = (0..CLIENTS).map(write).collect();
    let mut sum = 0;
    for writer in writers {
        sum += writer.join().ok().context("a client died")??;
    }
    Ok(sum as f64 / begun.elapsed().as_secs_f64())
}
