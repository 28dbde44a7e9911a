//! A snapshot of a living cluster is what its nodes held, and comes back as nodes that serve it.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use keyspace::Slot;
use serde_json::Value;
use tests::client::Client;
use tests::clouds::process::Process;
use tests::clouds::{Clouds, binaries};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);

fn snapshotter(args: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("godwit-snapshotter").unwrap());
    command.args(args);
    command
}

fn ok(output: Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// A push of a cluster of these clouds.
fn push(clouds: &Clouds, cluster: &str, store: &str) -> Command {
    let layout = &clouds.layout;
    let mut args = vec!["push", "--registry", &layout.registry, "--service", &layout.service];
    args.extend(["--cluster", cluster, "--to", store, "--output", "json"]);
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
        assert_eq!(client.answer().unwrap().as_integer(), Some(1));
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

#[test]
fn what_was_pushed_comes_back_as_nodes_that_serve_it() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let store = format!("file://{}", scratch.path().join("store").display());
    write(&clouds, 0, 2_000);
    let first = ok(push(&clouds, "a", &store).output().unwrap());
    write(&clouds, 2_000, 2_100);
    let second = ok(push(&clouds, "a", &store).output().unwrap());
    let sent = |pushed: &Value| pushed["bytes_sent"].as_u64().unwrap();
    assert!(sent(&second) < sent(&first), "{first}\n{second}");
    for shard in second["shards"].as_array().unwrap() {
        assert_eq!(shard["way"], "objects-reused", "{second}");
    }
    for shard in &clouds.cloud("a").shards {
        let left = std::fs::read_dir(shard.node.dir.join("checkpoints")).unwrap().count();
        assert_eq!(left, 0, "a checkpoint was left in {}", shard.name);
    }

    // A standby will do as well, once it has been seeded; until then it is refused in words.
    let standby = wait::until("the standby to be stored", PATIENCE, || {
        let output = push(&clouds, "b", &store).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        Ok(ok(output))
    });
    assert_eq!(standby.unwrap()["cluster"], "b");

    let id = second["snapshot"].as_str().unwrap();
    let verify = ["verify", "--from", &store, "--snapshot", id, "--output", "json"];
    assert_eq!(ok(snapshotter(&verify).output().unwrap())["verified"], true);
    let mut nodes: Vec<_> = (0..2)
        .map(|n| {
            let dir = scratch.path().join(format!("restored-{n}"));
            let (shard, to) = (format!("a/{n}"), dir.to_str().unwrap());
            let mut args = vec!["restore", "--from", &store, "--snapshot", id];
            args.extend(["--shard", &shard, "--to", to, "--output", "json"]);
            ok(snapshotter(&args).output().unwrap());
            serve(&dir)
        })
        .collect();
    for n in 0..2_100 {
        for (command, value) in [
            (vec!["GET".to_owned(), format!("key:{n}")], format!("value {n} {}", "x".repeat(200))),
            (vec!["HGET".to_owned(), format!("hash:{n}"), "field".to_owned()], n.to_string()),
        ] {
            let slot = Slot::of_key(command[1].as_bytes()).number();
            let (_, client) = &mut nodes[usize::from(slot >= 8192)];
            assert_eq!(client.text(&command).unwrap(), value, "{command:?}");
        }
    }
    // And goes on from there, on a timeline of its own.
    assert_eq!(nodes[0].1.text(&["SET", "new", "1"]).unwrap(), "OK");
    nodes.iter_mut().for_each(|(node, _)| node.end());
}

#[test]
fn a_push_that_is_killed_seals_nothing_and_the_next_one_is_whole() {
    let clouds = Clouds::for_test();
    let scratch = tempfile::tempdir().unwrap();
    let store = format!("file://{}", scratch.path().join("store").display());
    write(&clouds, 0, 500);
    // Killed wherever it is after these many milliseconds: before, during or after its seal.
    for after in [5, 20, 40] {
        let mut running =
            push(&clouds, "a", &store).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(Duration::from_millis(after));
        running.kill().unwrap();
        running.wait().unwrap();
    }
    // The sidecar finds out by itself that nobody listens; until then it says that it is busy.
    wait::until("the next push to be whole", PATIENCE, || {
        let output = push(&clouds, "a", &store).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
    .unwrap();
    let listed = ok(snapshotter(&["list", "--from", &store, "--output", "json"]).output().unwrap());
    for snapshot in listed["snapshots"].as_array().unwrap() {
        let id = snapshot["snapshot"].as_str().unwrap();
        let verify = ["verify", "--from", &store, "--snapshot", id, "--output", "json"];
        assert_eq!(ok(snapshotter(&verify).output().unwrap())["verified"], true, "{id}");
    }
}
