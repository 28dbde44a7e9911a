//! What was pushed comes back: proven against its source, and as nodes that serve it.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use keyspace::{Slot, SlotSet};
use serde_json::Value;
use tests::client::Client;
use tests::clouds::plan::Plan;
use tests::clouds::process::Process;
use tests::clouds::{Clouds, binaries};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(30);

fn snapshotter(args: &[&str]) -> Output {
    Command::new(binaries::path("godwit-snapshotter").unwrap()).args(args).output().unwrap()
}

fn ok(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn push(clouds: &Clouds, store: &str, more: &[&str]) -> Output {
    let layout = &clouds.layout;
    let mut args = vec!["push", "--registry", &layout.registry, "--service", &layout.service];
    args.extend(["--cluster", "a", "--to", store, "--digest", "on", "--output", "json"]);
    args.extend(more);
    snapshotter(&args)
}

fn write(clouds: &Clouds, from: usize, to: usize) {
    let mut client = Client::connect(&clouds.cloud("a").proxies[0].client).unwrap();
    for n in from..to {
        client.push(&["SET", &format!("key:{n}"), &format!("value {n} {}", "x".repeat(200))]);
        client.push(&["HSET", &format!("hash:{n}"), "field", &n.to_string()]);
    }
    client.flush().unwrap();
    for _ in from..to {
        assert_eq!(client.answer().unwrap().as_text(), Some("OK"));
        client.answer().unwrap();
    }
}

/// A node that stands alone on a restored directory; it ends with its handle.
fn serve(dir: &Path) -> (Process, Client) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["--dir", dir.to_str().unwrap(), "--listen", &free].map(str::to_owned).to_vec();
    let log = dir.with_extension("log");
    let program = binaries::path("godwit-node").unwrap();
    let mut node = Process::new("restored".to_owned(), program, args, log);
    node.start().unwrap();
    let connect = || Client::connect_with(&free, Duration::from_secs(2));
    wait::until("the restored node to serve", PATIENCE, || connect().map(drop)).unwrap();
    (node, connect().unwrap())
}

/// All keys are in the nodes of these slots.
fn hold(nodes: &mut [(SlotSet, Process, Client)], keys: usize) {
    for n in 0..keys {
        for (command, value) in [
            (vec!["GET".to_owned(), format!("key:{n}")], format!("value {n} {}", "x".repeat(200))),
            (vec!["HGET".to_owned(), format!("hash:{n}"), "field".to_owned()], n.to_string()),
        ] {
            let slot = Slot::of_key(command[1].as_bytes());
            let (_, _, client) = nodes.iter_mut().find(|(slots, ..)| slots.contains(slot)).unwrap();
            assert_eq!(client.text(&command).unwrap(), value, "{command:?}");
        }
    }
}

#[test]
fn what_was_pushed_by_files_and_by_log_is_proven_and_serves() {
    let clouds = Clouds::for_test_with(|mut plan: Plan| {
        plan.clouds.truncate(1);
        plan
    });
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let store = path("store");
    write(&clouds, 0, 2_000);
    ok(&push(&clouds, &store, &["--way", "files"]));
    write(&clouds, 1_900, 2_100);
    for shard in &clouds.cloud("a").shards {
        let compact = ["compact", "--admin", &shard.node.admin];
        let done = Command::new(binaries::path("godwit-node").unwrap()).args(compact).output();
        assert!(done.unwrap().status.success());
    }
    let pushed = ok(&push(&clouds, &store, &[]));
    let id = pushed["snapshot"].as_str().unwrap();
    let from = |verb: &str, more: &[&str]| {
        let args = [&[verb, "--from", &store, "--output", "json"][..], more].concat();
        ok(&snapshotter(&args))
    };
    let shown = from("show", &[]);
    let by_log = |shard: &Value| shard["segments"].as_u64().unwrap() > 0;
    assert!(shown["shards"].as_array().unwrap().iter().all(by_log), "{shown}");
    assert_eq!(from("verify", &["--all"])["verified"], true);
    let proven = from("prove", &["--scratch", &path("scratch")]);
    for shard in proven["shards"].as_array().unwrap() {
        assert_eq!(shard["compared"], true, "{proven}");
    }
    let cat = from("cat", &["key:2050"]);
    assert!(cat["found"]["value"].as_str().unwrap().starts_with("value 2050 "), "{cat}");

    // Each shard as it was; and three shards of what were two.
    for more in [&[][..], &["--shards", "3"]] {
        let to = path(&format!("restored-{}", more.len()));
        let args = [&["--snapshot", id, "--to", &to][..], more].concat();
        let restored = from("restore", &args);
        let mut nodes = Vec::new();
        for shard in restored["shards"].as_array().unwrap() {
            let slots: SlotSet = shard["slots"].as_str().unwrap().parse().unwrap();
            let (node, client) = serve(Path::new(shard["dir"].as_str().unwrap()));
            nodes.push((slots, node, client));
        }
        hold(&mut nodes, 2_100);
        // And goes on from there, on a timeline of its own.
        let (_, _, client) = &mut nodes[0];
        assert_eq!(client.text(&["SET", "new", "1"]).unwrap(), "OK");
        nodes.iter_mut().for_each(|(_, node, _)| node.end());
    }
}
