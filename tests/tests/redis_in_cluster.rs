//! Coming in from a stock Redis into a Godwit cluster of two shards: each shard has its part and a position
//! of its own, whoever is killed, and whoever becomes the primary meanwhile.

#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng};
use tests::client::Client;
use tests::clouds::ports::Ports;
use tests::clouds::{Cloud, Clouds, Process, binaries};
use tests::redis::{Contents, Redis, contents, fill, info, same};
use tests::story::Story;
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
const POSITION: &str = "godwit.redis.position";

fn follow(source: &Redis, to: &str, dir: &Path) -> Process {
    let (state, to) = (dir.join("state").display().to_string(), format!("redis://{to}"));
    let args = ["redis-in", "--from", &source.url(), "--to", &to, "--state", &state];
    let args = args.map(str::to_owned).into();
    let program = binaries::path("godwit-replicator").unwrap();
    let mut process = Process::new("redis-in".to_owned(), program, args, dir.join("redis-in.log"));
    process.start().unwrap();
    process
}

fn shards(cloud: &Cloud) -> Result<Vec<Client>> {
    cloud.shards.iter().map(|shard| Client::connect(&shard.node.client)).collect()
}

/// The name of a shard's position key, and what it holds.
fn position(shard: &mut Client) -> Result<(String, String)> {
    let found = shard.call(&["KEYS", &format!("{POSITION}*")])?;
    let names = found.as_array().context("no keys")?;
    ensure!(names.len() == 1, "its position keys are {names:?}");
    let name = names[0].as_text().context("a name is no text")?.to_owned();
    let held = shard.text(&["GET", &name])?;
    Ok((name, held))
}

/// Waits until each shard has applied all that the source has written.
fn level(source: &Redis, cloud: &Cloud, sidecar: &Process) {
    let wanted = info(&mut source.client(), "master_repl_offset").unwrap();
    wait::until("all shards to be level", LIMIT, || {
        ensure!(sidecar.alive(), "the sidecar has ended");
        for mut shard in shards(cloud)? {
            let (_, held) = position(&mut shard)?;
            let offset: Option<u64> = held.split(' ').nth(2).and_then(|offset| offset.parse().ok());
            ensure!(held.starts_with("at ") && offset >= Some(wanted), "{held}, wanted {wanted}");
        }
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e:#}\n{}", sidecar.tail(30)));
}

/// What all shards have together, each key on one of them.
fn together(cloud: &Cloud) -> Contents {
    let mut all = Contents::new();
    for mut shard in shards(cloud).unwrap() {
        let own = contents(&mut shard, POSITION).unwrap();
        assert!(!own.is_empty(), "a shard of {} has nothing", cloud.name);
        for (key, value) in own {
            assert!(all.insert(key.clone(), value).is_none(), "two shards have {key}");
        }
    }
    all
}

fn compare(source: &Redis, cloud: &Cloud, why: &str) {
    let wanted = contents(&mut source.client(), POSITION).unwrap();
    same(&wanted, &together(cloud)).unwrap_or_else(|e| panic!("{why}: {e:#}"));
}

/// Commands that would show if they took effect twice or not at all, over slots of both shards in one
/// transaction, until told to stop; says how many.
fn counting(source: &Redis, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (mut client, stop) = (source.client(), stop.clone());
    std::thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            client.push(&["MULTI"]);
            for tag in 0..8 {
                client.push(&["INCR", &format!("count:{tag}")]);
                client.push(&["APPEND", &format!("text:{tag}"), "x"]);
                client.push(&["RPUSH", &format!("list:{tag}"), &count.to_string()]);
            }
            client.push(&["MSET", "part:1", &count.to_string(), "part:2", &count.to_string()]);
            client.push(&["EXEC"]);
            client.flush().unwrap();
            (0..27).for_each(|_| drop(client.answer().unwrap()));
            if count % 8 == 0 {
                crossing(&mut client, count / 8);
            }
            count += 1;
            // About five thousand commands a second: something is always in flight.
            wait::pause(Duration::from_millis(5));
        }
        count
    })
}

/// Commands with keys on both shards (`{a}` and `{b}`), one of them in a transaction; each would show if it
/// took effect twice or not at all.
fn crossing(client: &mut Client, round: u64) {
    let number = round.to_string();
    let (member, once) = (format!("m{}", round % 40), format!("{{a}}once:{round}"));
    let lines: [&[&str]; 17] = [
        &["RPUSH", "{a}queue", &number, &member],
        &["LMOVE", "{a}queue", "{b}queue", "LEFT", "RIGHT"],
        &["RPOPLPUSH", "{b}queue", "{a}again"],
        &["SADD", "{a}set", &member],
        &["SMOVE", "{a}set", "{b}set", &member],
        &["MULTI"],
        &["INCR", "{a}count"],
        &["SUNIONSTORE", "{a}union", "{b}set", "{a}set"],
        &["INCR", "{b}count"],
        &["EXEC"],
        &["SET", "{a}name", &number, "EX", "1000"],
        &["RENAME", "{a}name", "{b}name"],
        &["PFADD", "{b}seen", &number],
        &["PFMERGE", "{a}seen", "{b}seen"],
        &["MSETNX", &once, &number, &format!("{{b}}once:{round}"), &number],
        &["ZADD", "{b}board", &number, &member],
        &["ZUNIONSTORE", "{a}board", "2", "{b}board", "{a}set", "WEIGHTS", "2", "1"],
    ];
    for line in lines {
        client.call(line).unwrap();
    }
}

/// Cloud a alone, a source with data, and a sidecar between them.
fn begin(dir: &Path, ports: &mut Ports, clouds: &Clouds) -> (Redis, Process) {
    let source = Redis::start("source", dir, ports, &[]);
    fill(&mut source.client(), "before:").unwrap();
    source.client().call(&["DEBUG", "POPULATE", "5000", "key", "64"]).unwrap();
    // Any node of it tells of all.
    let sidecar = follow(&source, &clouds.cloud("a").shards[1].node.client, dir);
    (source, sidecar)
}

#[test]
fn each_command_takes_effect_once_on_each_shard_whoever_is_killed() {
    let mut clouds = Clouds::for_test_with(|mut plan| {
        plan.clouds.truncate(1);
        plan
    });
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (source, mut sidecar) = begin(dir, &mut ports, &clouds);
    level(&source, clouds.cloud("a"), &sidecar);
    compare(&source, clouds.cloud("a"), "after the snapshot");

    let names: BTreeSet<String> =
        shards(clouds.cloud("a")).unwrap().iter_mut().map(|s| position(s).unwrap().0).collect();
    assert_eq!(names.len(), 2, "each shard has a position of its own: {names:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let load = counting(&source, &stop);
    let seed: u64 = rand::random();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for round in 0..12 {
        wait::pause(Duration::from_millis(random.random_range(50..250)));
        sidecar.kill9().unwrap();
        // Now and then one of the shards as well: the other one goes on from where it is.
        if round % 4 == 3 {
            let node = &mut clouds.shard(["a/0", "a/1"][round / 4 % 2]).node.process;
            node.kill9().unwrap();
            node.start().unwrap();
        }
        sidecar.start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let count = load.join().unwrap();
    level(&source, clouds.cloud("a"), &sidecar);
    compare(&source, clouds.cloud("a"), &format!("seed {seed}"));
    let all = together(clouds.cloud("a"));
    for tag in 0..8 {
        let (_, _, value) = &all[&format!("count:{tag}")];
        assert_eq!(value, &[count.to_string()], "seed {seed}");
    }
    assert_eq!(info(&mut source.client(), "sync_full").unwrap(), 1, "seed {seed}");
}

#[test]
fn a_switch_of_the_target_meanwhile_is_followed() {
    let story = Story::begin();
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (source, sidecar) = begin(dir, &mut ports, &story.clouds);
    level(&source, story.clouds.cloud("a"), &sidecar);
    let stop = Arc::new(AtomicBool::new(false));
    let load = counting(&source, &stop);
    story.switch(&["run", "--to", "b", "--yes"]);
    source.client().call(&["SET", "after", "the switch"]).unwrap();
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    // The positions went with the data, so the new primaries have them.
    level(&source, story.clouds.cloud("b"), &sidecar);
    compare(&source, story.clouds.cloud("b"), "after a switch");
    assert_eq!(info(&mut source.client(), "sync_full").unwrap(), 1);
}

#[test]
fn what_cannot_be_parted_is_named_and_the_rest_goes_on() {
    let clouds = Clouds::for_test_with(|mut plan| {
        plan.clouds.truncate(1);
        plan
    });
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut ports = Ports::reserve().unwrap();
    let (source, sidecar) = begin(dir, &mut ports, &clouds);
    level(&source, clouds.cloud("a"), &sidecar);
    let mut one = source.client();
    // `foo` is of slot 12182, `bar` of 5061 and `hello` of 866: the last two are of one shard.
    for args in [
        &["SADD", "foo", "1", "2"][..],
        &["SADD", "bar", "2", "3"],
        &["SADD", "hello", "3"],
        &["SUNIONSTORE", "bar", "hello", "bar"],
        &["SMOVE", "foo", "bar", "1"],
        // Which keys it reads only the elements say.
        &["SORT", "foo", "BY", "weight:*", "STORE", "bar"],
        &["DEL", "key:1", "key:2", "key:3", "key:4"],
        &["FLUSHALL"],
        &["MSET", "foo", "1", "bar", "2"],
    ] {
        assert!(one.call(args).unwrap().as_error().is_none(), "{args:?}");
    }
    level(&source, clouds.cloud("a"), &sidecar);
    compare(&source, clouds.cloud("a"), "after FLUSHALL and MSET");
    let path = dir.join("state/status.json");
    wait::until("the status to name it", LIMIT, || {
        let status: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let missing = status["not-carried"].as_array().cloned().unwrap_or_default();
        let [only] = &missing[..] else { anyhow::bail!("{status}") };
        ensure!(only["why"] == "shards" && only["what"] == "SORT" && only["count"] == 1, "{only}");
        Ok(())
    })
    .unwrap();
}
