//! Coming in from a stock Redis: everything comes over while writes go on, each command takes effect
//! once whoever is killed, and what cannot be carried over is named.

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
use tests::redis::{Redis, contents, fill, info, same};
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

/// A node without a service.
fn node(dir: &Path, ports: &mut Ports) -> (Process, String) {
    let address = ports.next_address().unwrap();
    let own = dir.join("node").display().to_string();
    let process = program("node", "godwit-node", &["--dir", &own, "--listen", &address], dir);
    wait::until("the node to serve", LIMIT, || Client::connect(&address)?.call(&["PING"])).unwrap();
    (process, address)
}

fn follow(from: &str, to: &str, dir: &Path) -> Process {
    let state = dir.join("state").display().to_string();
    let to = format!("redis://{to}");
    let args = ["redis-in", "--from", from, "--to", &to, "--state", &state, "--log", "debug"];
    program("redis-in", "godwit-replicator", &args, dir)
}

/// Waits until the target has applied all that the source has written.
fn level(source: &mut Client, target: &mut Client, sidecar: &Process) {
    let wanted = info(source, "master_repl_offset").unwrap();
    wait::until("the target to be level", LIMIT, || {
        ensure!(sidecar.alive(), "the sidecar has ended");
        let at = target.text(&["GET", POSITION])?;
        let offset: Option<u64> = at.split(' ').nth(2).and_then(|offset| offset.parse().ok());
        ensure!(at.starts_with("at ") && offset >= Some(wanted), "{at}, wanted {wanted}");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
}

fn status(dir: &Path) -> serde_json::Value {
    let path = dir.join("state/status.json");
    let read = || Ok(serde_json::from_slice(&std::fs::read(&path)?)?);
    wait::until("a status", LIMIT, read).unwrap()
}

fn compare(source: &mut Client, target: &mut Client) {
    let (one, other) = (contents(source, POSITION).unwrap(), contents(target, POSITION).unwrap());
    same(&one, &other).unwrap();
}

/// Commands that would show if they took effect twice or not at all, until told to stop; says how many.
fn counting(address: String, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut client = Client::connect(&address).unwrap();
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let (n, end) = (count.to_string(), "x");
            for tag in ["{a}", "{b}", "{c}"] {
                client.push(&["INCR", &format!("count{tag}")]);
                client.push(&["APPEND", &format!("text{tag}"), end]);
                client.push(&["LPUSH", &format!("list{tag}"), &n]);
                client.push(&["MULTI"]);
                client.push(&["ZINCRBY", &format!("zset{tag}"), "1", "m"]);
                client.push(&["HINCRBY", &format!("hash{tag}"), "f", "1"]);
                client.push(&["EXEC"]);
            }
            client.flush().unwrap();
            (0..21).for_each(|_| drop(client.answer().unwrap()));
            count += 1;
            // About two thousand commands a second: the sidecar is killed in the middle of them.
            wait::pause(Duration::from_millis(5));
        }
        count
    })
}

#[test]
fn everything_comes_over_while_writes_go_on() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let user = ["--user", "ann", "on", ">p@ss", "~*", "&*", "+@all"];
    let source = Redis::start("source", dir, &mut ports, &user);
    let mut client = source.client();
    fill(&mut client, "before:").unwrap();
    let library = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    client.call(&["FUNCTION", "LOAD", library]).unwrap();
    client.call(&["DEBUG", "POPULATE", "20000", "key", "64"]).unwrap();

    let (_node, at) = node(dir, &mut ports);
    let mut target = Client::connect(&at).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let load = counting(source.address.clone(), stop.clone());
    let from = source.url().replace("redis://", "redis://ann:p%40ss@");
    let sidecar = follow(&from, &at, dir);
    wait::until("the snapshot to be in", LIMIT, || {
        ensure!(target.text(&["GET", POSITION])?.starts_with("at "));
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
    fill(&mut client, "after:").unwrap();
    for args in [
        &["DEL", "before:text", "before:list-small", "key:7"][..],
        &["RENAME", "before:number", "after:number-was"],
        &["EXPIRE", "before:long", "5000"],
        &["SPOP", "before:set-large", "30"],
        &["LMOVE", "before:list-large", "after:list-moved", "LEFT", "RIGHT"],
        &["XTRIM", "before:stream", "MAXLEN", "0"],
        &[
            "EVAL",
            "redis.call('set', KEYS[1], ARGV[1]) return redis.call('incr', KEYS[1])",
            "1",
            "scripted",
            "41",
        ],
        &["SUNIONSTORE", "after:union", "before:set-large", "before:ints-large"],
        &["GETEX", "after:text", "PX", "9000000"],
        &["PUBLISH", "channel", "message"],
    ] {
        client.call(args).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let count = load.join().unwrap();
    level(&mut client, &mut target, &sidecar);
    compare(&mut client, &mut target);
    assert_eq!(target.text(&["GET", "count{a}"]).unwrap(), count.to_string());
    assert_eq!(target.call(&["FCALL", "one", "0"]).unwrap().as_integer(), Some(1));
    let missing = wait::until("a status that follows", LIMIT, || {
        let status = status(dir);
        ensure!(status["state"] == "following" && status["problem"].is_null(), "{status}");
        Ok(status["not-carried"].clone())
    });
    assert_eq!(missing.unwrap().as_array().map(Vec::len), Some(0));
    // FLUSHALL takes the position with it, and it comes back in the same transaction.
    client.call(&["FLUSHALL"]).unwrap();
    client.call(&["SET", "alone", "now"]).unwrap();
    level(&mut client, &mut target, &sidecar);
    compare(&mut client, &mut target);
}

#[test]
fn each_command_takes_effect_once_whoever_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let source = Redis::start("source", dir, &mut ports, &[]);
    let (mut node, at) = node(dir, &mut ports);
    let mut sidecar = follow(&source.url(), &at, dir);
    level(&mut source.client(), &mut Client::connect(&at).unwrap(), &sidecar);
    let stop = Arc::new(AtomicBool::new(false));
    let load = counting(source.address.clone(), stop.clone());
    let seed: u64 = rand::random();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for round in 0..20 {
        wait::pause(Duration::from_millis(random.random_range(50..250)));
        sidecar.kill9().unwrap();
        // Now and then the target as well, with a group in flight.
        if round % 5 == 4 {
            node.kill9().unwrap();
            node.start().unwrap();
        }
        sidecar.start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let count = load.join().unwrap();
    let (mut one, mut other) =
        (source.client(), wait::until("the node", LIMIT, || Client::connect(&at)).unwrap());
    level(&mut one, &mut other, &sidecar);
    compare(&mut one, &mut other);
    assert_eq!(other.text(&["GET", "count{b}"]).unwrap(), count.to_string(), "seed {seed}");
    assert_eq!(info(&mut one, "sync_full").unwrap(), 1, "seed {seed}");
}

#[test]
fn a_cut_link_goes_on_and_another_source_replaces_all() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let mut source = Redis::start("source", dir, &mut ports, &["--repl-diskless-sync", "no"]);
    let mut one = source.client();
    one.call(&["SET", "gone", "later"]).unwrap();
    // The target is a Redis this time.
    let copy = Redis::start("copy", dir, &mut ports, &[]);
    let mut other = copy.client();
    let sidecar = follow(&source.url(), &copy.address, dir);
    level(&mut one, &mut other, &sidecar);
    for round in 0..5 {
        one.call(&["CLIENT", "KILL", "TYPE", "replica"]).unwrap();
        one.call(&["INCR", "round"]).unwrap();
        one.call(&["RPUSH", "rounds", &round.to_string()]).unwrap();
        level(&mut one, &mut other, &sidecar);
    }
    compare(&mut one, &mut other);
    assert_eq!(info(&mut one, "sync_full").unwrap(), 1);
    assert!(info(&mut one, "sync_partial_ok").unwrap() >= 1);

    // The source dies and comes back with less: keys that it does not have disappear.
    source.process.kill9().unwrap();
    source.forget();
    source.serve();
    let mut one = source.client();
    one.call(&["SET", "fresh", "value"]).unwrap();
    wait::until("the copy to be the new source's", LIMIT, || {
        ensure!(other.text(&["GET", "fresh"])? == "value");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
    level(&mut one, &mut other, &sidecar);
    compare(&mut one, &mut other);
    assert_eq!(other.call(&["EXISTS", "gone"]).unwrap().as_integer(), Some(0));
}

#[test]
fn what_is_not_carried_over_is_named_and_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let source = Redis::start("source", dir, &mut ports, &[]);
    let mut one = source.client();
    for args in [&["SET", "here", "1"][..], &["SELECT", "3"], &["MSET", "x", "1", "y", "2"]] {
        one.call(args).unwrap();
    }
    let (_node, at) = node(dir, &mut ports);
    let mut other = Client::connect(&at).unwrap();
    // Somebody's keys are not deleted for a snapshot.
    other.call(&["SET", "mine", "1"]).unwrap();
    let mut sidecar = follow(&source.url(), &at, dir);
    let refusal = wait::until("a refusal", LIMIT, || {
        let problem = status(dir)["problem"].as_str().unwrap_or_default().to_owned();
        ensure!(problem.contains("1 keys and no position"), "{problem}");
        Ok(())
    });
    refusal.unwrap();
    assert_eq!(other.text(&["GET", "mine"]).unwrap(), "1");
    other.call(&["DEL", "mine"]).unwrap();
    level(&mut one, &mut other, &sidecar);
    for args in [&["SET", "z", "1"][..], &["SELECT", "0"], &["SWAPDB", "3", "4"], &["INCR", "here"]]
    {
        one.call(args).unwrap();
    }
    level(&mut one, &mut other, &sidecar);
    assert_eq!(other.text(&["GET", "here"]).unwrap(), "2");
    let told = |count: u64| {
        let wanted = [("database", "SWAPDB", 1), ("database", "database 3", count)];
        wait::until("a status with all counts", LIMIT, || {
            let status = status(dir);
            let missing = status["not-carried"].as_array().cloned().unwrap_or_default();
            let told = |(why, what, count): &(&str, &str, u64)| {
                missing
                    .iter()
                    .any(|m| m["why"] == *why && m["what"] == *what && m["count"] == *count)
            };
            ensure!(wanted.iter().all(told) && missing.len() == wanted.len(), "{status}");
            Ok(())
        })
    };
    // The counts outlive the process, and the position says which database is selected.
    one.call(&["SELECT", "3"]).unwrap();
    one.call(&["SET", "here", "4"]).unwrap();
    level(&mut one, &mut other, &sidecar);
    told(4).unwrap();
    sidecar.kill9().unwrap();
    sidecar.start().unwrap();
    one.call(&["SET", "here", "5"]).unwrap();
    one.call(&["SELECT", "0"]).unwrap();
    one.call(&["INCR", "here"]).unwrap();
    level(&mut one, &mut other, &sidecar);
    told(5).unwrap();
    compare(&mut one, &mut other);
}

#[test]
fn a_cluster_that_is_not_ours_is_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let source = Redis::start("source", dir, &mut ports, &[]);
    let other = Redis::start("cluster", dir, &mut ports, &["--cluster-enabled", "yes"]);
    other.client().call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    let sidecar = follow(&source.url(), &other.address, dir);
    wait::until("a refusal", LIMIT, || {
        let problem = status(dir)["problem"].as_str().unwrap_or_default().to_owned();
        ensure!(problem.contains("is of a cluster"), "{problem}");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
}
