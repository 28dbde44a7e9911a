//! Snapshots laid out as databases: what one has already is never written again, and nothing is half there.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

mod stored;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use store::repository::Keys;
use stored::{Records, SLOTS, Stored, digest_of, key_in, noise, said};

fn place(stored: &Stored) -> PathBuf {
    stored.dir.path().join("store.materialised")
}

/// The database of a shard of a snapshot.
fn db(stored: &Stored, id: &str, n: usize) -> PathBuf {
    place(stored).join(format!("demo/a-{n}/{id}/db"))
}

fn sst_inodes(db: &Path) -> Vec<u64> {
    let tables = fs::read_dir(db).unwrap().flatten();
    let tables = tables.filter(|entry| entry.file_name().to_str().unwrap().ends_with(".sst"));
    tables.map(|entry| entry.metadata().unwrap().ino()).collect()
}

/// What is materialised is what the source has.
fn assert_same(stored: &Stored, id: &str) {
    for (n, slots) in SLOTS.iter().enumerate() {
        let slots = slots.parse().unwrap();
        let (source, here) = (stored.source(n), db(stored, id, n));
        assert_eq!(digest_of(&source, &slots), digest_of(&here, &slots), "shard {n}");
    }
}

fn sum(materialised: &Value, key: &str) -> u64 {
    let all = materialised["materialised"].as_array().unwrap();
    all.iter().map(|one| one[key].as_u64().unwrap()).sum()
}

#[test]
fn what_an_older_one_has_is_linked_and_the_rest_is_written_once() {
    let mut stored = Stored::new();
    stored.fill(0, 300);
    let nothing = Records::default();
    let first = stored.seal([&nothing, &nothing]).id.to_string();
    let made = stored.ok("materialise", &[]);
    assert_eq!((sum(&made, "linked-bytes"), sum(&made, "batches")), (0, 0), "{made}");
    let whole = sum(&made, "written-bytes");
    assert_same(&stored, &first);
    let again = stored.ok("materialise", &[]);
    assert!(again["materialised"].as_array().unwrap().iter().all(|one| one["already"] == true));

    // Some more by files, and some by a log behind them.
    stored.fill(300, 310);
    let (zero, one) = (key_in(0, "log"), key_in(1, "log"));
    let mut logs = [Records::default(), Records::default()];
    logs[0].string(&zero, b"0").hash(&key_in(0, "hash"), &[("f", "v")]);
    logs[1].string(&one, b"1").string(&key_in(1, "more"), b"1");
    let before = sst_inodes(&db(&stored, &first, 0));
    let second = stored.seal([&logs[0], &logs[1]]).id.to_string();
    let made = stored.ok("materialise", &["--keep", "2"]);
    assert!(sum(&made, "written-bytes") * 5 < whole, "{made}");
    assert!(sum(&made, "linked-bytes") > 0, "{made}");
    assert_eq!(sum(&made, "batches"), 4, "{made}");
    assert_same(&stored, &second);
    let after = sst_inodes(&db(&stored, &second, 0));
    assert!(before.iter().any(|inode| after.contains(inode)), "none is shared");

    let listed = stored.ok("list", &[]);
    for snapshot in listed["snapshots"].as_array().unwrap() {
        assert_eq!(snapshot["materialised"], serde_json::json!(["a/0", "a/1"]), "{listed}");
    }
    // The older one goes, and what it shared stays whole.
    let kept = stored.ok("materialise", &[]);
    assert_eq!(kept["removed"].as_array().unwrap().len(), 2, "{kept}");
    assert!(!db(&stored, &first, 0).exists());
    assert_same(&stored, &second);
    assert_eq!(stored.ok("show", &["--snapshot", &first])["materialised"], serde_json::json!([]));

    // By name it comes beside, and of one shard alone.
    stored.ok("materialise", &["--snapshot", &first, "--shard", "a/1"]);
    assert!(db(&stored, &first, 1).exists() && !db(&stored, &first, 0).exists());
    assert!(db(&stored, &second, 0).exists());
}

#[test]
fn a_file_that_was_changed_since_is_not_linked() {
    let mut stored = Stored::new();
    stored.fill(0, 100);
    let nothing = Records::default();
    let first = stored.seal([&nothing, &nothing]).id.to_string();
    stored.ok("materialise", &[]);
    let table = fs::read_dir(db(&stored, &first, 0)).unwrap().flatten().map(|entry| entry.path());
    let table =
        table.into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    stored.fill(100, 101);
    let second = stored.seal([&nothing, &nothing]).id.to_string();
    stored.ok("materialise", &["--keep", "2"]);
    assert_same(&stored, &second);
}

#[test]
fn a_run_that_dies_leaves_nothing_that_is_listed_and_the_next_one_is_whole() {
    let mut stored = Stored::new();
    stored.fill(0, 50);
    let mut log = Records::default();
    log.string(&key_in(0, "log"), b"0").string(&key_in(0, "more"), &noise(3, 100));
    let id = stored.seal([&log, &Records::default()]).id.to_string();
    for point in ["materialise-before-log", "materialise-before-rename"] {
        let mut command = stored.command("materialise", &[]);
        let output = command.env("GODWIT_FAILPOINTS", point).output().unwrap();
        assert_eq!(output.status.code(), None, "{point} was not reached: {}", said(&output));
        let partial = place(&stored).join(format!("demo/a-0/.partial-{id}"));
        assert!(partial.exists(), "{point}");
        let listed = stored.ok("list", &[]);
        assert_eq!(listed["snapshots"][0]["materialised"], serde_json::json!([]), "{point}");
        stored.ok("materialise", &[]);
        assert!(!partial.exists(), "{point}");
        assert_same(&stored, &id);
        fs::remove_dir_all(place(&stored)).unwrap();
    }
}

#[test]
fn damage_a_full_disk_and_keys_that_are_missing_make_nothing() {
    let mut stored = Stored::new();
    stored.fill(0, 20);
    let nothing = Records::default();
    let id = stored.seal([&nothing, &nothing]).id.to_string();
    let full = stored.run("materialise", &["--free", "1024TiB"]);
    assert_eq!(full.status.code(), Some(3), "{}", said(&full));
    assert!(said(&full).contains("make room"), "{}", said(&full));
    let unknown = stored.run("materialise", &["--shard", "a/7"]);
    assert!(said(&unknown).contains("a/7"), "{}", said(&unknown));

    let object = stored.stored().into_iter().find(|path| {
        path.to_string_lossy().contains("/objects/") && fs::metadata(path).unwrap().len() > 10_000
    });
    let object = object.unwrap();
    let good = fs::read(&object).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&object, bad).unwrap();
    assert_eq!(stored.run("materialise", &[]).status.code(), Some(1));
    let whole = (0..SLOTS.len()).filter(|n| db(&stored, &id, *n).exists()).count();
    assert!(whole < SLOTS.len());
    fs::write(&object, good).unwrap();
    stored.ok("materialise", &[]);
    assert_same(&stored, &id);

    let mut sealed = Stored::with(Keys::generate().unwrap(), Duration::ZERO);
    sealed.fill(0, 20);
    let id = sealed.seal([&nothing, &nothing]).id.to_string();
    let key = sealed.dir.path().join("all.key");
    sealed.keys.write_new(&key).unwrap();
    let blind = sealed.run("materialise", &[]);
    assert!(said(&blind).contains("name the key file"), "{}", said(&blind));
    sealed.ok("materialise", &["--key-file", key.to_str().unwrap()]);
    assert_same(&sealed, &id);
}

/// A daemon that ends with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_keeps_the_newest_one_ready_and_says_why_it_cannot() {
    let mut stored = Stored::new();
    stored.fill(0, 20);
    let nothing = Records::default();
    let id = stored.seal([&nothing, &nothing]).id.to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let serve = |stored: &Stored| {
        let (listen, store) = (free.to_string(), stored.url());
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_godwit-snapshotter"));
        daemon.args(["serve", "--listen", &listen, "--service", "demo", "--in", &store]);
        daemon.args(["--materialise", "1", "--materialise-shards", "a/1"]);
        daemon
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let daemon = Daemon(serve(&stored).stderr(Stdio::null()).spawn().unwrap());
    while !db(&stored, &id, 1).exists() {
        assert!(Instant::now() < deadline, "it is not materialised");
        std::thread::yield_now();
    }
    assert!(!db(&stored, &id, 0).exists(), "nobody asked for it");
    drop(daemon);
    let slots = SLOTS[1].parse().unwrap();
    assert_eq!(digest_of(&stored.source(1), &slots), digest_of(&db(&stored, &id, 1), &slots));

    let mut sealed = Stored::with(Keys::generate().unwrap(), Duration::ZERO);
    sealed.seal([&nothing, &nothing]);
    let mut daemon = Daemon(serve(&sealed).stderr(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find(|line| line.contains("not materialised"));
    assert!(said.unwrap().contains("--key-file"));
}
