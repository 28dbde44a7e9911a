//! What is stored comes back: read, proven, restored in every form, and key by key.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

mod stored;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use keyspace::SlotSet;
use stored::{NOW_MS, Records, Stored, digest_of, key_in, last_line, said};

/// A snapshot of many files with a log behind them, in which keys of every type are.
fn of_every_type() -> (Stored, [String; 7]) {
    let mut stored = Stored::new();
    stored.fill(0, 1_500);
    let names = ["string", "hash", "list", "set", "zset", "stream", "expired"];
    let names = names.map(|name| key_in(1, name));
    let [string, hash, list, set, zset, stream, expired] = &names;
    let mut log = Records::default();
    log.string(string, b"a\"b").hash(hash, &[("f", "v"), ("g", "w")]);
    let mut files = Records::default();
    files.list(list, &["x", "y", "z"]).set(set, &["m", "n"]);
    files.zset(zset, &[("low", -1.5), ("high", 20.0)]);
    files.stream(stream, &[(5, "f", "v"), (6, "f", "w")]).expiring(expired, NOW_MS);
    stored.write(1, &files);
    let mut other = Records::default();
    other.string(&key_in(0, "other"), b"1").string(&key_in(0, "more"), b"2");
    stored.seal([&other, &log]);
    (stored, names)
}

#[test]
fn a_snapshot_is_shown_verified_proven_and_restored_as_it_was() {
    let (stored, _) = of_every_type();
    let listed = stored.ok("list", &[]);
    assert_eq!(listed["snapshots"][0]["state"], "sealed", "{listed}");
    let shown = stored.ok("show", &[]);
    assert_eq!(shown["shards"][1]["shard"], "a/1", "{shown}");
    assert_eq!(shown["shards"][1]["segments"], 1, "{shown}");

    let sample = stored.ok("verify", &["--sample", "30"]);
    assert_eq!(sample["verified"], true);
    assert_eq!(stored.ok("list", &[])["snapshots"][0]["state"], "sealed");
    let verified = stored.ok("verify", &[]);
    assert!(verified["objects"].as_u64().unwrap() > 10, "{verified}");
    assert_eq!(stored.ok("list", &[])["snapshots"][0]["state"], "verified");

    let scratch = stored.dir.path().join("scratch");
    let proven = stored.ok("prove", &["--scratch", scratch.to_str().unwrap()]);
    for shard in proven["shards"].as_array().unwrap() {
        assert_eq!(shard["compared"], true, "{proven}");
        assert!(shard["keys"].as_u64().unwrap() > 100, "{proven}");
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left of it");
    assert_eq!(stored.ok("list", &[])["snapshots"][0]["state"], "proven");

    let to = stored.dir.path().join("restored");
    let restored = stored.ok("restore", &["--to", to.to_str().unwrap()]);
    assert_eq!(restored["shards"][0]["segments"], 1, "{restored}");
    stored.assert_restored(&[to.join("0"), to.join("1")]);
    let adopt = admin::Adopt::parse(&fs::read(to.join("1/db/ADOPT")).unwrap()).unwrap();
    assert!(adopt.follow.is_none() && adopt.stamp.ms() >= NOW_MS);
    assert!(!to.join("0/restore.json").exists());
    let again = stored.run("restore", &["--to", to.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));

    // One shard, into a directory of its own.
    let one = stored.dir.path().join("one");
    let restored = stored.ok("restore", &["--shard", "a/1", "--to", one.to_str().unwrap()]);
    assert_eq!(restored["shard"], "a/1");
    let slots: SlotSet = stored::SLOTS[1].parse().unwrap();
    assert!(digest_of(&one.join("db"), &slots) == digest_of(&stored.source(1), &slots));
    let none = stored.run("restore", &["--shard", "b/7", "--to", "/nowhere"]);
    assert!(said(&none).contains("no shard b/7; it has a/0, a/1"), "{}", said(&none));
}

#[test]
fn a_cluster_comes_back_with_other_shards() {
    let (stored, _) = of_every_type();
    let to = stored.dir.path().join("three");
    let args = ["--to", to.to_str().unwrap(), "--shards", "3"];
    // Killed after more and more milliseconds; asked again, it goes on.
    let mut killed = 0;
    for after in (2..40).step_by(4) {
        let mut running = stored.command("restore", &args);
        let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(Duration::from_millis(after));
        running.kill().unwrap();
        if running.wait().unwrap().success() {
            // It was faster.
            fs::remove_dir_all(&to).unwrap();
            continue;
        }
        killed += 1;
    }
    assert!(killed > 0);
    let restored = stored.ok("restore", &args);
    let dirs: Vec<_> = (0..3).map(|n| to.join(n.to_string())).collect();
    stored.assert_restored(&dirs);
    for (n, dir) in dirs.iter().enumerate() {
        let slots: SlotSet = restored["shards"][n]["slots"].as_str().unwrap().parse().unwrap();
        let (own, all) =
            (digest_of(&dir.join("db"), &slots), digest_of(&dir.join("db"), &SlotSet::all()));
        assert!(own == all && own.len() > 50, "no slot of another shard is in {n}");
        assert!(dir.join("db/ADOPT").exists());
    }
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3, "nothing but the shards is left");

    let few = stored.dir.path().join("few");
    let slots = ["--slots", "0-99,9000-9999", "--slots", "100-200"];
    let args = [&["--to", few.to_str().unwrap()][..], &slots].concat();
    stored.ok("restore", &args);
    let (first, second) = (slots[1].parse().unwrap(), slots[3].parse().unwrap());
    for (n, slots) in [&first, &second].into_iter().enumerate() {
        let found = digest_of(&few.join(n.to_string()).join("db"), &SlotSet::all());
        let mut expected = digest_of(&stored.source(0), slots);
        expected.extend(digest_of(&stored.source(1), slots));
        assert!(found == expected, "{n}");
    }
    let twice = ["--slots", "0-99", "--slots", "50-60", "--to", "/nowhere"];
    let twice = stored.run("restore", &twice);
    assert_eq!(twice.status.code(), Some(3), "{}", said(&twice));
    assert!(said(&twice).contains("twice"), "{}", said(&twice));
}

#[test]
fn a_delta_fetches_what_a_directory_lacks() {
    let (mut stored, _) = of_every_type();
    let to = stored.dir.path().join("node");
    let to = to.to_str().unwrap();
    stored.ok("restore", &["--shard", "a/1", "--to", to]);
    stored.fill(1_500, 1_550);
    stored.seal([&Records::default(), &Records::default()]);
    // A node runs on it, or so its lock says.
    let lock = fs::File::create(PathBuf::from(to).join("LOCK")).unwrap();
    lock.lock().unwrap();
    let args = ["--shard", "a/1", "--to", to, "--delta"];
    let refused = stored.run("restore", &args);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(said(&refused).contains("in use"), "{}", said(&refused));
    drop(lock);
    let restored = stored.ok("restore", &args);
    let number = |key: &str| restored[key].as_u64().unwrap();
    assert!(number("reused-bytes") > number("bytes") / 2, "{restored}");
    let slots: SlotSet = stored::SLOTS[1].parse().unwrap();
    let db = PathBuf::from(to).join("db");
    assert!(digest_of(&db, &slots) == digest_of(&stored.source(1), &slots));
    assert!(!PathBuf::from(to).join("db.old").exists());
    let empty = stored.dir.path().join("empty");
    let none =
        stored.run("restore", &["--shard", "a/1", "--to", empty.to_str().unwrap(), "--delta"]);
    assert_eq!(none.status.code(), Some(3), "{}", said(&none));
}

#[test]
fn a_key_is_read_without_restoring_all() {
    let (stored, names) = of_every_type();
    let [string, hash, list, set, zset, stream, expired] = &names;
    let scratch = stored.dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let cat = |key: &str| {
        let args = ["cat", "--from", &stored.url(), "--scratch", scratch.to_str().unwrap(), key];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_godwit-snapshotter"));
        let text = command.args(args).output().unwrap();
        assert!(text.status.success(), "{}", said(&text));
        let json = command.args(["--output", "json"]).output().unwrap();
        (String::from_utf8(text.stdout).unwrap(), last_line(&json))
    };
    let looks = |key: &str, text: &str| {
        let (shown, json) = cat(key);
        assert_eq!(shown, format!("{text}\n"), "{key}");
        let (fetched, of) = (&json["fetched-bytes"], &json["of-bytes"]);
        assert!(fetched.as_u64().unwrap() < of.as_u64().unwrap() / 2, "{key}: {fetched} of {of}");
        json
    };
    looks(string, r#""a\"b""#);
    let json = looks(hash, "1) \"f\"\n2) \"v\"\n3) \"g\"\n4) \"w\"");
    assert_eq!(json["found"]["value"][1]["field"], "g");
    looks(list, "1) \"x\"\n2) \"y\"\n3) \"z\"");
    looks(set, "1) \"m\"\n2) \"n\"");
    looks(zset, "1) \"low\"\n2) \"-1.5\"\n3) \"high\"\n4) \"20\"");
    let entries = "1) 1) \"5-0\"\n   2) 1) \"f\"\n      2) \"v\"\n2) 1) \"6-0\"\n   2) 1) \"f\"\n      2) \"w\"";
    assert_eq!(looks(stream, entries)["found"]["value"]["last-id"], "6-0");
    assert!(looks(expired, "(nil)")["found"].is_null());
    looks("no such key", "(nil)");
    let (_, json) = cat("fill:17");
    assert_eq!(json["found"]["size"], 4096, "{json}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left of it");
}
