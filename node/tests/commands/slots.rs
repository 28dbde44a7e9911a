//! Slots of a running node: exported to another while clients write, and deleted.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use admin::{Client as Admin, Digest};
use redis::Commands;
use serde_json::Value;

use crate::moto::Moto;
use crate::node::{Client, Node};

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(node: &Node, args: &[&str]) -> Output {
    let admin = format!("unix:{}", node.dir().join("admin.sock").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
    command.args(args).args(["--admin", &admin]).output().unwrap()
}

fn good(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit code, and what was said.
fn bad(output: &Output) -> (i32, String) {
    assert!(!output.status.success());
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn export(node: &Node, slots: &str, to: &Path) -> Output {
    run(node, &["export", slots, "--out", to.to_str().unwrap()])
}

fn ingest(node: &Node, from: &Path) -> Value {
    good(&run(node, &["ingest", from.to_str().unwrap()]))
}

fn digest(node: &Node) -> Digest {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let admin = format!("unix:{}", node.dir().join("admin.sock").display());
        let admin = Admin::connect(&admin).await.unwrap();
        let barrier = admin.barrier().await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match admin.digest(barrier.id).await {
                Ok(digest) => return digest,
                Err(why) if why.code() == Some(admin::Code::Pending) => {}
                Err(why) => panic!("{why}"),
            }
            assert!(Instant::now() < deadline, "no digest in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// Keys of every type in many slots, and what is left of some that changed.
fn fill(client: &mut Client) {
    for n in 0..60 {
        for line in [
            format!("SET plain:{n} value-{n}"),
            format!("SET expiring:{n} value PX 600000"),
            format!("HSET hash:{n} one {n} two 2 three 3"),
            format!("HPEXPIRE hash:{n} 600000 FIELDS 1 three"),
            format!("ZADD zset:{n} 1.5 one -2 two {n} three"),
            format!("RPUSH list:{n} a b c d"),
            format!("LPOP list:{n}"),
            format!("LPUSH list:{n} z"),
            format!("SADD set:{n} one two {n}"),
            format!("XADD stream:{n} 1-1 field one"),
            format!("XADD stream:{n} 2-1 field two"),
            format!("XGROUP CREATE stream:{n} group 0"),
            format!("XREADGROUP GROUP group alice COUNT 1 STREAMS stream:{n} >"),
            // What another version of a key leaves behind is nobody's.
            format!("HSET again:{n} old 1 older 2"),
            format!("DEL again:{n}"),
            format!("HSET again:{n} new {n}"),
            format!("HDEL hash:{n} two"),
        ] {
            let answer = client.ask(&line);
            assert!(!answer.starts_with('('), "{line}: {answer}");
        }
    }
    assert_eq!(client.ask("SET gone soon PX 1"), "OK");
    let deadline = Instant::now() + PATIENCE;
    while client.ask("GET gone") != "nil" {
        assert!(Instant::now() < deadline, "it does not expire");
    }
}

#[test]
fn slots_that_are_exported_and_taken_in_elsewhere_have_the_same_digests() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (Node::new(), Node::new());
    let mut client = from.client();
    fill(&mut client);
    let whole = digest(&from);
    let load = scratch.path().join("half");
    let report = good(&export(&from, "0-8191,9000", &load));
    let written: Value =
        serde_json::from_slice(&std::fs::read(load.join("load.json")).unwrap()).unwrap();
    assert_eq!(written["id"], report["id"]);
    assert_eq!(written["origin"]["position"], report["position"]);
    assert_eq!(written["origin"]["slots"], "0-8191,9000");
    ingest(&to, &load);
    let half: std::collections::BTreeMap<_, _> =
        whole.slots.iter().filter(|(slot, _)| **slot <= 8191 || **slot == 9000).collect();
    let there = digest(&to);
    assert_eq!(there.slots.iter().collect::<std::collections::BTreeMap<_, _>>(), half);
    assert_eq!(report["keys"], there.total.keys);
    assert!(there.total.keys > 100 && there.total.keys < whole.total.keys);
    // The rest of them, and it is the whole; what is there of the first half stays.
    let rest = scratch.path().join("rest");
    good(&export(&from, "8192-16383", &rest));
    ingest(&to, &rest);
    assert_eq!(digest(&to).slots, whole.slots);
    // They are keys like others, of this node.
    to.client().story(
        "HGETALL hash:7 => [one 7 three 3]
         HDEL hash:7 one => 1
         HLEN hash:7 => 1
         LRANGE list:7 0 -1 => [z b c d]
         RPUSH list:7 e => 5
         ZRANGE zset:7 0 -1 => [two one three]
         ZADD zset:7 0 four => 1
         ZRANGE zset:7 0 1 => [two four]
         XREADGROUP GROUP group bob STREAMS stream:7 > => [[stream:7 [[2-1 [field two]]]]]
         XLEN stream:7 => 2
         HGETALL again:7 => [new 7]
         EXISTS gone => 0",
    );
    let left: i64 = to.redis().pttl("expiring:7").unwrap();
    assert!((500_000..=600_000).contains(&left), "{left}");
}

#[test]
fn slots_are_exported_to_a_bucket() {
    let Some(s3) = Moto::start() else { return };
    let (from, to) = (Node::new(), Node::new());
    fill(&mut from.client());
    let run = |verb: &[&str], node: &Node| {
        let admin = format!("unix:{}", node.dir().join("admin.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_godwit-node"));
        command.args(verb).args(["--admin", &admin, "--s3-endpoint", &s3.url]);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.output().unwrap()
    };
    let export = ["export", "0-16383", "--out", "s3://loads/exported"];
    good(&run(&export, &from));
    good(&run(&["ingest", "s3://loads/exported"], &to));
    assert_eq!(digest(&to).slots, digest(&from).slots);
    let (code, said) = bad(&run(&export, &from));
    assert!(code == 3 && said.contains("choose another prefix"), "{code} {said}");
}

#[test]
fn slots_without_keys_make_a_load_too() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (Node::new(), Node::new());
    let load = scratch.path().join("nothing");
    let report = good(&export(&from, "0-16383", &load));
    assert_eq!((&report["keys"], &report["files"]), (&0.into(), &0.into()));
    ingest(&to, &load);
    assert_eq!(digest(&to).total.keys, 0);
}

#[test]
fn who_waits_for_a_key_gets_what_a_load_brings() {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (Node::new(), Node::new());
    from.client().story(
        "RPUSH queue a b => 2
         ZADD board 1 one => 1
         XADD stream 1-1 f v => 1-1",
    );
    let load = scratch.path().join("load");
    good(&export(&from, "0-16383", &load));
    let mut waiters: Vec<_> = (0..5).map(|_| to.client()).collect();
    let mut other = to.client();
    for (number, (waiter, line)) in waiters
        .iter_mut()
        .zip([
            "BLPOP queue 0",
            // Of several workers.
            "BLPOP another queue third 0",
            "BLPOP queue 0",
            // Not what it waits for.
            "BZPOPMIN queue 0",
            "XREAD BLOCK 0 STREAMS stream 0",
        ])
        .enumerate()
    {
        waiter.say(line);
        other.see_waiting(number + 1);
    }
    ingest(&to, &load);
    assert_eq!(waiters[0].hear(), "[queue a]");
    assert_eq!(waiters[1].hear(), "[queue b]");
    assert_eq!(waiters[4].hear(), "[[stream [[1-1 [f v]]]]]");
    other.see_waiting(2);
    other.story("EXISTS queue => 0\nRPUSH queue c => 1\nZCARD board => 1");
    assert_eq!(waiters[2].hear(), "[queue c]");
    assert_eq!(other.ask("ZADD queue 1 last"), "1");
    assert_eq!(waiters[3].hear(), "[queue last 1]");
}

/// Moves money between two keys of a slot, and of two slots, in transactions, until told to stop.
fn move_money(node: &Node, ends: &Arc<AtomicBool>, seed: u64) -> std::thread::JoinHandle<u64> {
    let (mut client, ends) = (node.client(), ends.clone());
    std::thread::spawn(move || {
        let mut state = seed;
        let mut moved = 0;
        while !ends.load(Ordering::Relaxed) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (bank, amount) = (state >> 33 & 7, state >> 40 & 31);
            // Every other bank's accounts are in two slots.
            let [left, right] = match bank & 1 {
                0 => [format!("{{bank:{bank}}}:a"), format!("{{bank:{bank}}}:b")],
                _ => [format!("bank:{bank}:a"), format!("bank:{bank}:b")],
            };
            assert_eq!(client.ask("MULTI"), "OK");
            client.ask(&format!("DECRBY {left} {amount}"));
            client.ask(&format!("HSET {left}:log last {amount}"));
            client.ask(&format!("INCRBY {right} {amount}"));
            client.ask(&format!("HSET {right}:log last {amount}"));
            let done = client.ask("EXEC");
            assert!(done.starts_with('['), "{done}");
            moved += 1;
        }
        moved
    })
}

#[test]
fn an_export_shows_no_half_of_a_transaction_while_clients_write() {
    let scratch = tempfile::tempdir().unwrap();
    let from = Node::new();
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let ends = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3).map(|n| move_money(&from, &ends, seed ^ (n << 50))).collect();
    let mut client = from.client();
    let mut moments = std::collections::BTreeSet::new();
    for round in 0..5 {
        // Between two exports something happens.
        let deadline = Instant::now() + PATIENCE;
        let before = client.ask("INFO persistence");
        while client.ask("INFO persistence") == before {
            assert!(Instant::now() < deadline, "nobody writes");
        }
        let load = scratch.path().join(round.to_string());
        let report = good(&export(&from, "0-16383", &load));
        moments.insert(report["position"].to_string());
        let to = Node::new();
        ingest(&to, &load);
        let mut there = to.redis();
        let keys: Vec<String> = there.keys("*:?").unwrap();
        assert!(!keys.is_empty(), "round {round}");
        for bank in 0..8 {
            let named = |side: &str| match bank & 1 {
                0 => format!("{{bank:{bank}}}:{side}"),
                _ => format!("bank:{bank}:{side}"),
            };
            let sides = ["a", "b"].map(|side| {
                let sum: Option<i64> = there.get(named(side)).unwrap();
                let log: Option<i64> = there.hget(named(&format!("{side}:log")), "last").unwrap();
                (sum.unwrap_or(0), log)
            });
            assert_eq!(sides[0].0 + sides[1].0, 0, "bank {bank} in round {round}: {sides:?}");
            assert_eq!(sides[0].1, sides[1].1, "bank {bank} in round {round}");
        }
    }
    ends.store(true, Ordering::Relaxed);
    let moved: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert_eq!(moments.len(), 5, "{moved} transfers, and not each export was of another moment");
}

#[test]
fn a_node_that_dies_while_it_exports_leaves_no_load_and_can_do_it_again() {
    let scratch = tempfile::tempdir().unwrap();
    let mut node = Node::failing("export-before-rename");
    fill(&mut node.client());
    let load = scratch.path().join("load");
    assert_eq!(bad(&export(&node, "0-16383", &load)).0, 6);
    node.ended();
    assert!(!load.exists(), "a load is there");
    node.forget_variables();
    node.crash();
    let before = digest(&node);
    good(&export(&node, "0-16383", &load));
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 1, "what the first one had begun is left");
    let to = Node::new();
    ingest(&to, &load);
    assert_eq!(digest(&to).slots, before.slots);
    let (code, said) = bad(&export(&node, "0-16383", &load));
    assert!(code == 1 && said.contains("is not empty"), "{code} {said}");
    let (code, said) = bad(&export(&node, "0-16384", &load));
    assert!(code == 2 && said.contains("no set of slots"), "{code} {said}");
}

#[test]
fn slots_are_deleted_at_once_and_only_those_and_everybody_is_told() {
    let node = Node::new();
    let (mut client, mut watcher, mut waiter) = (node.client(), node.client(), node.client());
    fill(&mut client);
    let before = digest(&node);
    let slot: u16 = client.ask("CLUSTER KEYSLOT stream:7").parse().unwrap();
    let last = (slot + 4000).min(16_383);
    let range = format!("{slot}-{last}");
    let (code, said) = bad(&run(&node, &["delete", &range]));
    assert!(code == 3 && said.contains("--yes") && said.contains("nothing was deleted"), "{said}");
    assert_eq!(digest(&node).slots, before.slots);
    waiter.say("XREADGROUP GROUP group bob BLOCK 0 STREAMS stream:7 >");
    assert!(waiter.hear().contains("2-1"));
    waiter.say("XREADGROUP GROUP group bob BLOCK 0 STREAMS stream:7 >");
    client.see_waiting(1);
    watcher.ask("WATCH stream:7");
    watcher.ask("HELLO 3");
    watcher.ask("CLIENT TRACKING ON");
    assert_eq!(watcher.ask("XLEN stream:7"), "2");
    let report = good(&run(&node, &["delete", &range, "--yes"]));
    assert_eq!((&report["slots"], &report["held"]), (&Value::from(&range[..]), &range[..].into()));
    assert_eq!(watcher.hear(), "[invalidate nil]");
    assert!(waiter.hear().starts_with("(NOGROUP"), "a reader of the group waits on");
    client.story("XLEN stream:7 => 0\nEXISTS stream:7 => 0\nTYPE stream:7 => none");
    watcher.ask("MULTI");
    watcher.ask("PING");
    assert_eq!(watcher.ask("EXEC"), "nil");
    let kept = before.slots.into_iter().filter(|(other, _)| !(slot..=last).contains(other));
    let kept: std::collections::BTreeMap<_, _> = kept.collect();
    assert!(kept.len() < 400, "nothing was to be deleted");
    assert_eq!(digest(&node).slots, kept);
    // A key of that name is a new one.
    client.story("HSET stream:7 f v => 1\nHGETALL stream:7 => [f v]");
}

#[test]
fn a_crash_around_a_delete_leaves_all_or_nothing_of_it() {
    for (point, is_left) in [("delete-before-batch", true), ("delete-after-batch", false)] {
        let mut node = Node::failing(point);
        fill(&mut node.client());
        let before = digest(&node);
        assert_eq!(bad(&run(&node, &["delete", "0-16383", "--yes"])).0, 6, "{point}");
        node.ended();
        node.forget_variables();
        node.crash();
        let after = digest(&node);
        assert_eq!(after.slots, if is_left { before.slots } else { Default::default() }, "{point}");
        // Again, as it was told.
        good(&run(&node, &["delete", "0-16383", "--yes"]));
        node.crash();
        assert_eq!(digest(&node).total.keys, 0, "{point}: what was answered is gone");
    }
}
