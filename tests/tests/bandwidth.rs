//! A bound on what a sidecar sends: it is kept, and a seed for one follower leaves the others' lag alone.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::{RngCore, SeedableRng};
use tests::client::Client;
use tests::clouds::Clouds;
use tests::clouds::observer::{Observer, sidecar_counter};
use tests::story::STUCK;
use tests::wait;

const RATE: u64 = 2 << 20;
const VALUES: u64 = 600;
const VALUE_BYTES: usize = 10_000;

fn state(observer: &Observer, to: &str) -> String {
    let streams = observer.streams("a");
    streams.into_iter().find(|(_, of, _)| of == to).map(|(_, _, s)| s.state).unwrap_or_default()
}

fn streaming(observer: &Observer, to: &str) {
    let streams = wait::until(&format!("{to} to follow"), STUCK, || {
        ensure!(state(observer, to) == "streaming", "it is {}", state(observer, to));
        Ok(())
    });
    streams.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_seed_keeps_to_the_bound_and_live_frames_go_before_it() {
    let mut clouds = Clouds::for_test_with(|mut plan| {
        let whole = || vec!["0-16383".to_owned()];
        plan.clouds = ["a", "b", "c"].map(|name| (name.to_owned(), whole())).to_vec();
        let bound = ["--bandwidth", "2MiB"].map(str::to_owned).to_vec();
        plan.args.push(("godwit-replicator".to_owned(), bound));
        plan
    });
    let observer = Observer::of(&clouds.layout).unwrap();
    let mut a = clouds.client("a").unwrap();
    clouds.stop_cloud("c").unwrap();
    let (seed, mut value) = (rand::random::<u64>(), vec![0; VALUE_BYTES]);
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for number in 0..VALUES {
        random.fill_bytes(&mut value);
        a.call(&[b"SET", format!("value:{number}").as_bytes(), &value]).unwrap();
    }
    streaming(&observer, "b/0");
    let mut b = Client::connect(&clouds.cloud("b").shards[0].node.client).unwrap();
    b.call(&["READONLY"]).unwrap();
    arrives(&mut a, &mut b, "before");

    std::fs::remove_dir_all(&clouds.cloud("c").shards[0].node.dir).unwrap();
    let counter = "godwit_replicator_seed_bytes_total";
    let before = sidecar_counter(&clouds.layout, "a", counter);
    for process in clouds.cloud_mut("c").processes_mut() {
        process.start().unwrap();
    }
    let (mut begun, mut during) = (None, 0);
    let seeded = wait::until("c to be seeded", STUCK, || {
        let sent = sidecar_counter(&clouds.layout, "a", counter) - before;
        if sent > 0 && state(&observer, "c/0") == "seeding" {
            begun.get_or_insert((Instant::now(), sent));
            let lag = arrives(&mut a, &mut b, &format!("probe:{during}"));
            // In a queue behind the seed it would be the rest of it: seconds.
            ensure_quick(lag);
            during += 1;
        }
        ensure!(state(&observer, "c/0") == "streaming", "it is {}", state(&observer, "c/0"));
        Ok(sent)
    });
    let sent = seeded.unwrap_or_else(|error| panic!("{error:#}"));
    let (begun, from) = begun.expect("it was seen while it was seeded");
    assert!(during >= 5, "{during} probes while it was seeded");
    let least = Duration::from_secs_f64((sent - from) as f64 / RATE as f64 * 0.9);
    assert!(begun.elapsed() >= least, "{sent} bytes in {:?}", begun.elapsed());
}

fn ensure_quick(lag: Duration) {
    assert!(lag < Duration::from_millis(1500), "a live write took {lag:?} beside a seed");
}

/// Writes at one end and waits until it is seen at the other.
fn arrives(a: &mut Client, b: &mut Client, key: &str) -> Duration {
    let begun = Instant::now();
    a.call(&["SET", key, "here"]).unwrap();
    let seen = wait::until("a write to arrive", STUCK, || {
        let value = b.call(&["GET", key])?;
        ensure!(value.as_text() == Some("here"), "not yet");
        Ok(())
    });
    seen.unwrap_or_else(|error| panic!("{error:#}"));
    begun.elapsed()
}
