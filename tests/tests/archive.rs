//! The archive: any moment comes back, a bucket that hangs holds up nobody, and what is kept is enough.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tests::client::Client;
use tests::clouds::observer::{metric, sidecar_counter};
use tests::clouds::process::Process;
use tests::clouds::start::http_get;
use tests::clouds::{Clouds, binaries};
use tests::story::Story;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// One cloud of one shard, archived under `url` with more arguments.
fn archived(url: &str, more: &[&str]) -> Clouds {
    let mut args = vec!["--archive-url", url, "--archive-segment-every", "300ms"];
    args.extend(more);
    let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
    Clouds::for_test_with(|mut plan| {
        plan.clouds = vec![("a".to_owned(), vec!["0-16383".to_owned()])];
        plan.args.push(("godwit-replicator".to_owned(), args));
        plan
    })
}

fn replicator(args: &[&str]) -> Output {
    let mut command = Command::new(binaries::path("godwit-replicator").unwrap());
    command.args(args).env("GODWIT_LOG", "warn").output().unwrap()
}

fn ok(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// What `archive list` says of the one archive.
fn listed(url: &str) -> anyhow::Result<Value> {
    let output = replicator(&["archive", "list", "--from", url, "--output", "json"]);
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    Ok(listed["archives"][0].clone())
}

/// Waits until the archive's newest span holds a position of that sequence.
fn reaches(url: &str, sequence: u64) -> Value {
    wait::until("the archive to reach that far", PATIENCE, || {
        let archive = listed(url)?;
        let to = archive["spans"][0]["to"].as_str().unwrap_or_default().to_owned();
        let reached: u64 = to.rsplit('@').next().unwrap().parse().unwrap_or(0);
        anyhow::ensure!(reached >= sequence, "{archive}");
        Ok(archive)
    })
    .unwrap()
}

/// A barrier's position and the digest of every slot there.
fn digest(admin: &str) -> (String, BTreeMap<String, Value>) {
    let mut client = Client::connect(admin).unwrap();
    let barrier = client.call(&["GODWIT.BARRIER"]).unwrap();
    let parts = barrier.as_array().unwrap();
    let (id, position) = (parts[0].as_text().unwrap(), parts[1].as_text().unwrap());
    let json = wait::until("the digest", PATIENCE, || client.text(&["GODWIT.DIGEST", id])).unwrap();
    let digest: Value = serde_json::from_str(&json).unwrap();
    let slots = digest["slots"].as_object().unwrap().iter();
    let filled = slots.filter(|(_, slot)| slot["keys"].as_u64() != Some(0));
    (position.to_owned(), filled.map(|(n, slot)| (n.clone(), slot.clone())).collect())
}

fn sequence(position: &str) -> u64 {
    position.rsplit('@').next().unwrap().parse().unwrap()
}

/// A node that stands alone on a restored directory; it ends with its handle.
fn serve(dir: &Path) -> (Process, Client, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let admin = format!("unix:{}", dir.join("admin.sock").display());
    let args = ["--dir", dir.to_str().unwrap(), "--listen", &free, "--admin", &admin];
    let log = dir.with_extension("log");
    let program = binaries::path("godwit-node").unwrap();
    let args = args.map(str::to_owned).to_vec();
    let mut node = Process::new("restored".to_owned(), program, args, log);
    node.start().unwrap();
    let connect = || Client::connect_with(&free, Duration::from_secs(5));
    wait::until("the restored node to serve", PATIENCE, || connect().map(drop)).unwrap();
    (node, connect().unwrap(), admin)
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[test]
fn any_moment_comes_back_when_everything_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    let mut clouds = archived(&url, &["--archive-checkpoint-every", "3s"]);
    let admin = clouds.cloud("a").shards[0].node.admin.clone();
    let mut client = clouds.client("a").unwrap();
    reaches(&url, 1);

    let traffic =
        tests::load::Traffic::start(tests::load::TrafficPlan::small("story", clouds.proxies()));
    let more = |writes: u64| {
        let enough = traffic.acknowledged() + writes;
        let acknowledged = || {
            anyhow::ensure!(traffic.acknowledged() >= enough, "{}", traffic.acknowledged());
            Ok(())
        };
        wait::until("writes", PATIENCE, acknowledged).unwrap();
    };
    more(2_000);
    client.call(&["SET", "{m}moment", "first"]).unwrap();
    let (middle, held) = digest(&admin);
    more(500);
    client.call(&["SET", "{m}moment", "second"]).unwrap();
    // Stamps are of milliseconds: what comes after this moment has a later one.
    wait::pause(Duration::from_millis(5));
    let moment = now();
    wait::pause(Duration::from_millis(5));
    client.call(&["SET", "{m}moment", "third"]).unwrap();
    more(1_000);
    // A restarted node goes on with another timeline, of the same line.
    let node = &mut clouds.shard("a/0").node;
    node.process.kill9().unwrap();
    node.process.start().unwrap();
    more(500);
    traffic.stop();
    client = clouds.client("a").unwrap();
    client.call(&["SET", "{m}moment", "last"]).unwrap();
    let (end, all) = digest(&admin);
    reaches(&url, sequence(&end));
    clouds.down();

    let restore = |name: &str, more: &[&str]| {
        let dir = scratch.path().join(name);
        let mut args = vec!["restore", "--from", &url, "--to", dir.to_str().unwrap()];
        args.extend(["--output", "json"]);
        args.extend(more);
        ok(&replicator(&args));
        serve(&dir)
    };
    let (mut node, mut restored, admin) = restore("middle", &["--position", &middle]);
    assert_eq!(restored.text(&["GET", "{m}moment"]).unwrap(), "first");
    let found = digest(&admin).1;
    assert!(held.len() > 100 && found == held, "{} and {} slots", held.len(), found.len());
    node.end();
    let (mut node, mut restored, _) = restore("moment", &["--at", &moment]);
    assert_eq!(restored.text(&["GET", "{m}moment"]).unwrap(), "second");
    node.end();
    // One that is killed on its way goes on when the same is asked for again.
    let dir = scratch.path().join("end");
    let mut command = Command::new(binaries::path("godwit-replicator").unwrap());
    command.args(["restore", "--from", &url, "--to", dir.to_str().unwrap(), "--position", &end]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait::until("the restore to begin", PATIENCE, || {
        anyhow::ensure!(dir.join("restore.json").exists() || dir.join("db").exists());
        Ok(())
    })
    .unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    if dir.join("db").exists() && !dir.join("restore.json").exists() {
        // It was too fast.
        std::fs::remove_dir_all(&dir).unwrap();
    }
    let (mut node, mut restored, admin) = restore("end", &["--position", &end]);
    assert_eq!(restored.text(&["GET", "{m}moment"]).unwrap(), "last");
    assert_eq!(digest(&admin).1, all);
    // And it goes on from there.
    assert_eq!(restored.text(&["SET", "new", "1"]).unwrap(), "OK");
    node.end();

    let listed = listed(&url).unwrap();
    assert!(
        listed["checkpoints"].as_array().unwrap().iter().any(|c| !c["proven-at"].is_null()),
        "{listed}"
    );
    let verify = ["archive", "verify", "--from", &url, "--output", "json"];
    assert_eq!(ok(&replicator(&verify))["damage"].as_array().map(Vec::len), Some(0));

    // A restore into what is not empty, or to a moment that is not there, is refused.
    let refused = |args: &[&str], says: &str| {
        let output = replicator(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(3) && said.contains(says),
            "{:?}: {said}",
            output.status
        );
    };
    let (full, new) = (scratch.path().join("end"), scratch.path().join("new"));
    let to = |dir: &Path| dir.to_str().unwrap().to_owned();
    refused(&["restore", "--from", &url, "--to", &to(&full)], "is not empty");
    refused(
        &["restore", "--from", &url, "--to", &to(&new), "--at", "2020-01-01T00:00:00Z"],
        "oldest",
    );
    refused(
        &["restore", "--from", &url, "--to", &to(&new), "--at", "2100-01-01T00:00:00Z"],
        "reaches to",
    );
    // A missing segment is named before anything is written.
    let mut segments = Vec::new();
    files(&scratch.path().join("archive/archive/demo/a-0/segments"), &mut segments);
    segments.sort();
    let gone = segments.last().unwrap();
    std::fs::rename(gone, scratch.path().join("aside")).unwrap();
    let output = replicator(&["restore", "--from", &url, "--to", &to(&new)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("missing"), "{said}");
    assert!(said.contains(gone.file_name().unwrap().to_str().unwrap()), "{said}");
    assert!(!new.exists(), "something was written");
    // One flipped byte is found.
    std::fs::rename(scratch.path().join("aside"), gone).unwrap();
    let mut bytes = std::fs::read(gone).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(gone, bytes).unwrap();
    let output = replicator(&verify);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("damaged"), "{said}");
}

#[test]
fn a_moment_after_a_switch_needs_no_checkpoint_of_the_new_primary() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    let args = ["--archive-url", &url, "--archive-segment-every", "300ms"];
    let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
    let mut story = Story::begin_with(|mut plan| {
        let whole = || vec!["0-16383".to_owned()];
        plan.clouds = ["a", "b"].map(|name| (name.to_owned(), whole())).to_vec();
        plan.args.push(("godwit-replicator".to_owned(), args));
        plan
    });
    let of = |shard: &str| -> anyhow::Result<Value> {
        let args = ["archive", "list", "--from", &url, "--service", "demo", "--shard", shard];
        let output = replicator(&[&args[..], &["--output", "json"]].concat());
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice::<Value>(&output.stdout)?["archives"][0].clone())
    };
    let archived = |shard: &str, position: &str| {
        wait::until("the archive to reach that far", PATIENCE, || {
            let archive = of(shard)?;
            let spans = archive["spans"].as_array().cloned().unwrap_or_default();
            let (timeline, sequence) = position.split_once('@').unwrap();
            let reaches = |span: &Value| {
                let (on, end) = span["to"].as_str()?.split_once('@')?;
                let far = end.parse::<u64>().ok()? >= sequence.parse().ok()?;
                Some(on == timeline && far)
            };
            anyhow::ensure!(spans.iter().any(|s| reaches(s) == Some(true)), "{archive}");
            Ok(archive)
        })
        .unwrap()
    };
    story.load();
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["SET", "{m}moment", "of a"]).unwrap();
    let (before, _) = digest(&story.clouds.cloud("a").shards[0].node.admin);
    archived("a/0", &before);
    wait::pause(Duration::from_millis(5));
    let moment = now();
    wait::pause(Duration::from_millis(5));
    client.call(&["SET", "{m}moment", "last of a"]).unwrap();
    // The new primary can take no checkpoint.
    let checkpoints = story.clouds.cloud("b").shards[0].node.dir.join("checkpoints");
    let _ = std::fs::remove_dir_all(&checkpoints);
    std::fs::write(&checkpoints, "in the way").unwrap();
    story.switch(&["run", "--to", "b", "--yes"]);
    let mut client = story.clouds.client("b").unwrap();
    assert_eq!(client.text(&["GET", "{m}moment"]).unwrap(), "last of a");
    client.call(&["SET", "{m}moment", "of b"]).unwrap();
    let admin = story.clouds.cloud("b").shards[0].node.admin.clone();
    let (end, all) = digest(&admin);
    let listed = archived("b/0", &end);
    assert_eq!(listed["checkpoints"].as_array().map(Vec::len), Some(0), "{listed}");
    assert_eq!(listed["holes"].as_array().map(Vec::len), Some(0), "{listed}");
    story.clouds.stop_cloud("a").unwrap();
    story.clouds.stop_cloud("b").unwrap();

    let restore = |name: &str, more: &[&str]| {
        let dir = scratch.path().join(name);
        let mut args = vec!["restore", "--from", &url, "--service", "demo", "--shard", "b/0"];
        args.extend(["--to", dir.to_str().unwrap(), "--output", "json"]);
        args.extend(more);
        ok(&replicator(&args));
        serve(&dir)
    };
    let (mut node, mut restored, admin) = restore("end", &["--position", &end]);
    assert_eq!(restored.text(&["GET", "{m}moment"]).unwrap(), "of b");
    assert_eq!(digest(&admin).1, all);
    node.end();
    let (mut node, mut restored, _) = restore("moment", &["--at", &moment]);
    assert_eq!(restored.text(&["GET", "{m}moment"]).unwrap(), "of a");
    node.end();
    let verify = ["archive", "verify", "--from", &url, "--output", "json"];
    let said = ok(&replicator(&verify));
    assert_eq!(said["damage"].as_array().map(Vec::len), Some(0), "{said}");
}

#[test]
fn a_load_is_a_hole_with_a_name_up_to_a_checkpoint_that_is_taken_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    let clouds = archived(&url, &[]);
    let mut client = clouds.client("a").unwrap();
    client.call(&["SET", "before", "1"]).unwrap();
    let admin = clouds.cloud("a").shards[0].node.admin.clone();
    reaches(&url, sequence(&digest(&admin).0));
    let (rows, load) = (scratch.path().join("rows.tsv"), scratch.path().join("load"));
    std::fs::write(&rows, (0..500).map(|n| format!("{n}\tname-{n}\n")).collect::<String>())
        .unwrap();
    let (rows, load) = (rows.display().to_string(), load.display().to_string());
    let node = |args: &[&str]| {
        let mut command = Command::new(binaries::path("godwit-node").unwrap());
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let columns = ["--columns", "id,name", "--type", "hash", "--key", "%{id}"];
    node(&[&["build", &rows, "--out", &load][..], &columns].concat());
    node(&["ingest", &load, "--admin", &admin]);
    // What comes before the checkpoint is in the hole, whatever was written meanwhile.
    let closed = || {
        let archive = listed(&url)?;
        let holes = archive["holes"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(holes == 1, "{archive}");
        Ok(())
    };
    wait::until("a checkpoint behind the load", PATIENCE, closed).unwrap();
    client.call(&["SET", "after", "1"]).unwrap();
    let (end, all) = digest(&admin);
    let listed = reaches(&url, sequence(&end));
    assert_eq!(listed["holes"].as_array().map(Vec::len), Some(1), "{listed}");
    let page = http_get(&format!("http://{}/metrics", clouds.cloud("a").shards[0].sidecar.metrics));
    assert_eq!(metric(&page.unwrap(), "godwit_replicator_archive_holes_total"), 1);
    let verify = ["archive", "verify", "--from", &url, "--output", "json"];
    let said = ok(&replicator(&verify));
    assert_eq!(said["holes"].as_array().map(Vec::len), Some(1), "{said}");
    let dir = scratch.path().join("restored");
    ok(&replicator(&[
        "restore",
        "--from",
        &url,
        "--to",
        dir.to_str().unwrap(),
        "--position",
        &end,
        "--output",
        "json",
    ]));
    let (mut node, mut restored, admin) = serve(&dir);
    assert_eq!(digest(&admin).1, all);
    assert_eq!(restored.text(&["HGET", "7", "name"]).unwrap(), "name-7");
    node.end();
}

fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_segment_costs_two_requests_and_nothing_is_listed() {
    let scratch = tempfile::tempdir().unwrap();
    let url = scratch.path().join("archive").display().to_string();
    let clouds = archived(&url, &[]);
    let mut client = clouds.client("a").unwrap();
    let page = || {
        let metrics = &clouds.cloud("a").shards[0].sidecar.metrics;
        http_get(&format!("http://{metrics}/metrics")).unwrap()
    };
    let name = "godwit_replicator_archive_requests_total";
    let of = |page: &str, operation: &str| {
        let line = format!("{name}{{operation=\"{operation}\"}} ");
        let found =
            page.lines().find_map(|l| l.strip_prefix(&line)).map(|n| n.parse::<u64>().unwrap());
        found.unwrap_or(0)
    };
    let segments = |page: &str| metric(page, "godwit_replicator_archive_segments_total");
    let mut past = |count: u64| {
        wait::until("segments", PATIENCE, || {
            client.call(&["INCR", "n"])?;
            let page = page();
            let checkpoints = metric(&page, "godwit_replicator_archive_checkpoints_total");
            anyhow::ensure!(checkpoints >= 1 && segments(&page) >= count, "{page}");
            Ok(page)
        })
        .unwrap()
    };
    let before = past(2);
    let after = past(segments(&before) + 5);
    let made = segments(&after) - segments(&before);
    let more = |operation| of(&after, operation) - of(&before, operation);
    // The page may be read between a segment and its record, and the next.
    assert!(more("put") <= 2 * made + 2, "{} puts for {made} segments", more("put"));
    assert_eq!((more("get"), more("head"), more("list"), more("delete")), (0, 0, 0, 0));
    // At the default of a minute a segment: 120 puts an hour.
    assert!(more("put") * 60 <= 120 * made + 120);
}

#[test]
fn a_store_that_hangs_holds_up_neither_the_node_nor_its_standby() {
    // It takes connections and never says a word.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hung.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((socket, _)) = hung.accept() {
            held.push(socket);
        }
    });
    let args = ["--archive-url", "s3://hung/archive", "--archive-endpoint", &endpoint];
    let args: Vec<_> =
        args.iter().chain(&["--archive-budget", "1MiB"]).map(|arg| (*arg).to_owned()).collect();
    let story = Story::begin_with(|mut plan| {
        plan.args.push(("godwit-replicator".to_owned(), args));
        for sidecar in ["a-0-sidecar", "a-1-sidecar", "b-0-sidecar", "b-1-sidecar"] {
            plan = plan.with_env(sidecar, "AWS_ACCESS_KEY_ID", "key");
            plan = plan.with_env(sidecar, "AWS_SECRET_ACCESS_KEY", "secret");
        }
        plan
    });
    let mut client = story.clouds.client("a").unwrap();
    for n in 0..40_u32 {
        let noise: String =
            (0..100_000_u32).map(|i| char::from(33 + (i.wrapping_mul(n + 7) % 90) as u8)).collect();
        client.call(&["SET", &format!("{{a}}{n}"), &noise]).unwrap();
        client.call(&["SET", &format!("{{b}}{n}"), &noise]).unwrap();
    }
    // Past its own budget the archive is lost, and says so; the stream is not.
    wait::until("the archive to be let go of", PATIENCE, || {
        let failures =
            sidecar_counter(&story.clouds.layout, "a", "godwit_replicator_archive_failures_total");
        anyhow::ensure!(failures >= 2, "{failures} failures");
        Ok(())
    })
    .unwrap();
    story.equal("a", "b");
    let log = std::fs::read_to_string(story.clouds.layout.dir.join("log/a-0-sidecar.log")).unwrap();
    assert!(log.contains("its own budget"), "{log}");
}
