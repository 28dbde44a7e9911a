//! A snapshot of a living cluster is what its nodes held, and comes back as nodes that serve it.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tests::clouds::Clouds;
use tests::shelf::{self, Shelf, at_last, checkpoints, compact, ok, read_back, run, write};

#[test]
fn what_is_pushed_is_there_whole_and_the_next_push_sends_what_is_new() {
    let clouds = Clouds::for_test();
    let shelf = Shelf::new();
    let store = format!("file://{}", shelf.store());
    write(&clouds, 0, 2_000);
    let first = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    write(&clouds, 2_000, 2_100);
    let second = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    let sent = |pushed: &Value| pushed["bytes_sent"].as_u64().unwrap();
    assert!(sent(&second) < sent(&first), "{first}\n{second}");
    for shard in second["shards"].as_array().unwrap() {
        assert_eq!(shard["way"], "objects-reused", "{second}");
    }
    assert!(checkpoints(&clouds).is_empty(), "{:?}", checkpoints(&clouds));

    // A standby will do as well, once it has been seeded; until then it is refused in words.
    let standby = at_last("the standby to be stored", || shelf::push(&clouds, "b", &store));
    assert_eq!(standby["cluster"], "b");
    let standby_id = standby["snapshot"].as_str().unwrap().to_owned();
    // Its nodes digest what they hold, unasked; a primary has clients to serve.
    let prove = |id: &str, more: &[&str]| {
        let dir = shelf.path("scratch");
        shelf.run("prove", &[&["--scratch", &dir, "--snapshot", id][..], more].concat())
    };
    let proven = ok(&prove(&standby_id, &[]));
    assert_eq!(proven["proven"], true, "{proven}");
    assert_eq!(proven["shards"][0]["compared"], true, "{proven}");
    let id = second["snapshot"].as_str().unwrap();
    let refused = prove(id, &[]);
    assert_eq!(refused.status.code(), Some(3), "there is nothing to compare with");
    let read = ok(&prove(id, &["--without-digest"]));
    assert_eq!((&read["good"], &read["proven"]), (&true.into(), &false.into()), "{read}");

    let manifests = read_back(&store, id);
    assert!(manifests.iter().all(|manifest| manifest.cut.is_some()), "one cut for all shards");
}

#[test]
fn a_push_that_is_killed_seals_nothing_and_the_next_one_is_whole() {
    let clouds = Clouds::for_test();
    let shelf = Shelf::new();
    let store = format!("file://{}", shelf.store());
    write(&clouds, 0, 500);
    // Killed wherever it is after these many milliseconds: before, during or after its seal.
    for after in [5, 20, 40] {
        let mut push = shelf::push(&clouds, "a", &store);
        let mut running = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(Duration::from_millis(after));
        running.kill().unwrap();
        running.wait().unwrap();
    }
    // The sidecar finds out by itself that nobody listens; until then it says that it is busy.
    let last = at_last("the next push to be whole", || shelf::push(&clouds, "a", &store));
    read_back(&store, last["snapshot"].as_str().unwrap());
    assert!(checkpoints(&clouds).is_empty(), "{:?}", checkpoints(&clouds));
}

#[test]
fn after_a_compaction_the_log_is_sent_and_not_the_files() {
    let clouds = Clouds::for_test();
    let shelf = Shelf::new();
    let store = format!("file://{}", shelf.store());
    write(&clouds, 0, 20_000);
    let first = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    // A twentieth of the keys again, and then the whole tree is rewritten.
    write(&clouds, 7_000, 8_000);
    compact(&clouds);
    let second = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    let sent = |pushed: &Value| pushed["bytes_sent"].as_u64().unwrap();
    for shard in second["shards"].as_array().unwrap() {
        assert_eq!(shard["way"], "log", "{second}");
        assert!(shard["log_estimate"].as_u64() < shard["files_estimate"].as_u64(), "{second}");
    }
    assert!(sent(&second) * 5 < sent(&first), "{first}\n{second}");
    let manifests = read_back(&store, second["snapshot"].as_str().unwrap());
    assert!(manifests.iter().all(|manifest| manifest.end() != manifest.position));

    // The next one goes on from there; by files alone is a setting.
    write(&clouds, 8_000, 8_100);
    let third = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    assert_eq!(third["shards"][0]["way"], "log", "{third}");
    let longer = read_back(&store, third["snapshot"].as_str().unwrap());
    assert!(longer[0].log.len() > manifests[0].log.len(), "it grows at its end");
    assert_eq!(longer[0].files, manifests[0].files);
    let files = ok(&run(shelf::push(&clouds, "a", &store).args(["--way", "files"])));
    assert_ne!(files["shards"][0]["way"], "log", "{files}");
    read_back(&store, files["snapshot"].as_str().unwrap());
}

#[test]
fn what_was_damaged_in_the_store_is_set_aside_and_stored_again() {
    let clouds = Clouds::for_test();
    let shelf = Shelf::new();
    let (dir, store) = (shelf.dir(), shelf.store());
    write(&clouds, 0, 500);
    let first = ok(&run(&mut shelf::push(&clouds, "a", &store)));
    let first = first["snapshot"].as_str().unwrap();
    // One bit of a table file.
    let manifest = read_back(&store, first).remove(0);
    let table = manifest.files.iter().find(|file| file.name.as_str().ends_with(".sst")).unwrap();
    let blob = dir.join(table.pieces[0].name());
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();

    let verify = |more: &[&str]| {
        let output = shelf.run("verify", more);
        (output.status.code(), shelf::report(&output))
    };
    let (code, report) = verify(&["--snapshot", first]);
    assert_eq!(
        (code, report["set-aside"].as_array().map(Vec::len)),
        (Some(1), Some(0)),
        "{report}"
    );
    let (code, report) = verify(&["--snapshot", first, "--set-aside"]);
    assert_eq!(
        (code, report["set-aside"].as_array().map(Vec::len)),
        (Some(1), Some(1)),
        "{report}"
    );
    assert!(!blob.exists() && dir.join("damaged").join(table.pieces[0].name()).exists());

    let second = ok(&run(shelf::push(&clouds, "a", &store).args(["--way", "files"])));
    assert!(second["bytes_sent"].as_u64() > Some(0), "{second}");
    let (code, report) = verify(&["--all"]);
    assert_eq!(code, Some(0), "the old one is whole again as well: {report}");
}
