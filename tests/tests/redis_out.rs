//! Going out to a plain Redis: a node's keys arrive, and what is written later, whoever is killed.

#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use rand::{Rng, SeedableRng};
use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Process, binaries};
use tests::redis::{Redis, contents, fill, same};
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const POSITION: &str = "godwit.redis.position";

fn program(name: &str, program: &str, args: &[&str], dir: &Path) -> Process {
    let args = args.iter().map(|&a| a.to_owned()).collect();
    let log = dir.join(format!("{name}.log"));
    let mut process = Process::new(name.to_owned(), binaries::path(program).unwrap(), args, log);
    process.start().unwrap();
    process
}

/// Waits until both hold the same.
fn level(node: &mut Client, copy: &mut Client, feeder: &Process) {
    wait::until("the copy to be level", LIMIT, || {
        same(&contents(node, POSITION)?, &contents(copy, POSITION)?)
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", feeder.tail(30)));
}

#[test]
fn a_node_s_keys_arrive_and_stay_level_whoever_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (at, own) = (ports.next_address().unwrap(), dir.join("node").display().to_string());
    let mut node = program("node", "godwit-node", &["--dir", &own, "--listen", &at], dir);
    wait::until("the node to serve", LIMIT, || Client::connect(&at)?.call(&["PING"])).unwrap();
    let mut one = Client::connect(&at).unwrap();
    fill(&mut one, "before:").unwrap();
    let library = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    one.call(&["FUNCTION", "LOAD", library]).unwrap();

    let copy = Redis::start("copy", dir, &mut ports, &[]);
    let mut other = copy.client();
    // Somebody's keys are not deleted for a copy.
    other.call(&["SET", "mine", "1"]).unwrap();
    let (from, state) = (format!("redis://{at}"), dir.join("state").display().to_string());
    let args =
        ["redis-out", "--node-dir", &own, "--node", &from, "--to", &copy.url(), "--state", &state];
    let mut feeder = program("redis-out", "godwit-replicator", &args, dir);
    wait::until("a refusal", LIMIT, || {
        let status = std::fs::read_to_string(dir.join("state/status.json"))?;
        ensure!(status.contains("1 keys and no position"), "{status}");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", feeder.tail(30)));
    other.call(&["DEL", "mine"]).unwrap();
    level(&mut one, &mut other, &feeder);
    assert_eq!(other.call(&["FCALL", "one", "0"]).unwrap().as_integer(), Some(1));

    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, address) = (stop.clone(), at.clone());
    let load = std::thread::spawn(move || {
        let mut client = Client::connect(&address).unwrap();
        let mut count: u64 = 0;
        while !stopped.load(Ordering::Relaxed) {
            let n = count.to_string();
            client.push(&["INCR", "count"]);
            client.push(&["APPEND", "text", "x"]);
            client.push(&["LPUSH", "list", &n]);
            client.push(&["HSET", "hash", &n, &n]);
            client.push(&["SET", &format!("key:{}", count % 100), &n, "EX", "5000"]);
            client.push(&["DEL", &format!("key:{}", (count + 50) % 100)]);
            client.flush().unwrap();
            (0..6).for_each(|_| drop(client.answer().unwrap()));
            count += 1;
            wait::pause(Duration::from_millis(5));
        }
        count
    });
    let seed: u64 = rand::random();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for _ in 0..8 {
        wait::pause(Duration::from_millis(random.random_range(50..250)));
        feeder.kill9().unwrap();
        feeder.start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let count = load.join().unwrap();
    level(&mut one, &mut other, &feeder);
    assert_eq!(other.text(&["GET", "count"]).unwrap(), count.to_string(), "seed {seed}");
    // It went on from its position each time: one copy of everything is in the log.
    let log = std::fs::read_to_string(dir.join("redis-out.log")).unwrap();
    assert_eq!(log.matches("every key is copied").count(), 1, "{log}");

    // A node that died, and one that forgets everything.
    node.kill9().unwrap();
    node.start().unwrap();
    let again = || Client::connect(&at)?.call(&["FLUSHALL"]);
    wait::until("the node to serve", LIMIT, again).unwrap();
    let mut one = Client::connect(&at).unwrap();
    one.call(&["SET", "alone", "now", "PX", "9000000"]).unwrap();
    level(&mut one, &mut other, &feeder);
}
