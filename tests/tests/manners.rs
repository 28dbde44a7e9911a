//! A sidecar spares its node: seen from outside, what it sends as bulk slows down while the node's
//! commands are slow, and goes on at full speed when they are quick again.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::{RngCore, SeedableRng};
use tests::client::Client;
use tests::clouds::observer::{metric, sidecar_counter};
use tests::clouds::start::http_get;
use tests::story::{STUCK, Story};
use tests::wait;

const BANDWIDTH: u64 = 4 << 20;
const VALUES: u32 = 1600;
const VALUE_BYTES: usize = 16 << 10;
/// A loop that takes some ten milliseconds.
const SLOW: &str = "local n = 0; for i = 1, 1000000 do n = n + i end; return n";

/// Keeps a node's commands slow until it is told to stop.
fn slow_down(address: &str, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let address = address.to_owned();
    thread::spawn(move || {
        let mut client = Client::connect(&address).unwrap();
        while !stop.load(Ordering::Relaxed) {
            client.call(&["EVAL", SLOW, "1", "slow"]).unwrap();
            // Of fewer than a hundred commands a second nothing is said.
            for _ in 0..10 {
                client.call(&["GET", "slow"]).unwrap();
            }
        }
    })
}

#[test]
fn catching_up_slows_down_while_the_node_is_slow() {
    let mut story = Story::begin_with(|mut plan| {
        for (_, shards) in &mut plan.clouds {
            *shards = vec!["0-16383".to_owned()];
        }
        let flags = ["--bandwidth", "4MiB", "--node-p99-max", "2ms", "--bulk-rate-min", "256KiB"];
        plan.args.push(("godwit-replicator".to_owned(), flags.map(str::to_owned).to_vec()));
        plan
    });
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let (mut random, mut value) = (rand::rngs::StdRng::seed_from_u64(seed), vec![0; VALUE_BYTES]);
    story.clouds.shard("b/0").sidecar.process.kill9().unwrap();
    let address = story.clouds.cloud("a").shards[0].node.client.clone();
    let mut client = Client::connect(&address).unwrap();
    for n in 0..VALUES {
        random.fill_bytes(&mut value);
        client.call(&[b"SET", format!("value:{n}").as_bytes(), &value]).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let slow = slow_down(&address, stop.clone());
    story.clouds.shard("b/0").sidecar.process.start().unwrap();
    let sidecar = story.clouds.cloud("a").shards[0].sidecar.metrics.clone();
    let bound = || {
        let page = http_get(&format!("http://{sidecar}/metrics"))?;
        anyhow::Ok(metric(&page, "godwit_replicator_bulk_bound_bytes"))
    };
    let bounded = wait::until("bulk to be slowed down", STUCK, || {
        let bound = bound()?;
        ensure!(bound > 0 && bound <= BANDWIDTH / 8, "the bound is {bound}");
        Ok(())
    });
    bounded.unwrap_or_else(|error| panic!("{error:#}"));
    let sent =
        || sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_sent_bytes_total") as f64;
    let (before, begun) = (sent(), Instant::now());
    wait::pause(Duration::from_secs(2));
    let rate = (sent() - before) / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    slow.join().unwrap();
    assert!(rate < BANDWIDTH as f64 / 2.0, "{rate:.0} bytes a second went while the node was slow");
    // And then it is let go of: the rest goes as the line allows.
    let level = wait::until("the bound to go", STUCK, || {
        ensure!(bound()? == 0, "it is {}", bound()?);
        Ok(())
    });
    level.unwrap_or_else(|error| panic!("{error:#}"));
    story.equal("a", "b");
}
