//! What was pushed comes back: proven against its source, and as nodes that serve it.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::path::Path;

use keyspace::{Slot, SlotSet};
use serde_json::Value;
use tests::alone::Alone;
use tests::shelf::{Shelf, compact, one_cloud, value, write};

/// All keys are in the nodes of these slots.
fn hold(nodes: &mut [(SlotSet, Alone)], keys: usize) {
    for n in 0..keys {
        for (command, held) in [
            (vec!["GET".to_owned(), format!("key:{n}")], value(n)),
            (vec!["HGET".to_owned(), format!("hash:{n}"), "field".to_owned()], n.to_string()),
        ] {
            let slot = Slot::of_key(command[1].as_bytes());
            let (_, node) = nodes.iter_mut().find(|(slots, _)| slots.contains(slot)).unwrap();
            assert_eq!(node.client.text(&command).unwrap(), held, "{command:?}");
        }
    }
}

#[test]
fn what_was_pushed_by_files_and_by_log_is_proven_and_serves() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    write(&clouds, 0, 2_000);
    shelf.pushed(&clouds, "a", &["--digest", "on", "--way", "files"]);
    write(&clouds, 1_900, 2_100);
    compact(&clouds);
    let pushed = shelf.pushed(&clouds, "a", &["--digest", "on"]);
    let id = pushed["snapshot"].as_str().unwrap();
    let shown = shelf.ok("show", &[]);
    let by_log = |shard: &Value| shard["segments"].as_u64().unwrap() > 0;
    assert!(shown["shards"].as_array().unwrap().iter().all(by_log), "{shown}");
    assert_eq!(shelf.ok("verify", &["--all"])["verified"], true);
    let proven = shelf.ok("prove", &["--scratch", &shelf.path("scratch")]);
    for shard in proven["shards"].as_array().unwrap() {
        assert_eq!(shard["compared"], true, "{proven}");
    }
    let cat = shelf.ok("cat", &["key:2050"]);
    assert!(cat["found"]["value"].as_str().unwrap().starts_with("value 2050 "), "{cat}");

    // Each shard as it was; and three shards of what were two.
    for more in [&[][..], &["--shards", "3"]] {
        let to = shelf.path(&format!("restored-{}", more.len()));
        let args = [&["--snapshot", id, "--to", &to][..], more].concat();
        let restored = shelf.ok("restore", &args);
        let mut nodes = Vec::new();
        for shard in restored["shards"].as_array().unwrap() {
            let slots: SlotSet = shard["slots"].as_str().unwrap().parse().unwrap();
            nodes.push((slots, Alone::on(Path::new(shard["dir"].as_str().unwrap()))));
        }
        hold(&mut nodes, 2_100);
        // And goes on from there, on a timeline of its own.
        let (_, node) = &mut nodes[0];
        assert_eq!(node.client.text(&["SET", "new", "1"]).unwrap(), "OK");
    }
}
