//! An old primary comes back with writes that nobody received: it rewinds, and the bytes that are
//! fetched for that depend on what changed, not on what there is.

#![allow(clippy::unwrap_used)]

use anyhow::ensure;
use tests::check::digest;
use tests::client::Client;
use tests::clouds::Plan;
use tests::clouds::observer::sidecar_counter;
use tests::story::{STUCK, Story};
use tests::wait;

const SEED_BYTES: &str = "godwit_replicator_seed_bytes_total";

fn stranded(strand: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    story.equal("a", "b");
    story.strand(strand);
    story
}

/// The old side comes back: bytes fetched until both are equal, and the keys compared.
fn returned(story: &mut Story) -> (u64, u64) {
    story.link("b", true);
    let before = sidecar_counter(&story.clouds.layout, "b", SEED_BYTES);
    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    let found = story.equal("b", "a");
    (sidecar_counter(&story.clouds.layout, "b", SEED_BYTES) - before, found.keys)
}

/// Whether a line of the old side's sidecars says so.
fn said(story: &Story, words: &str) -> bool {
    let shards = &story.clouds.cloud("a").shards;
    shards.iter().any(|s| s.sidecar.process.tail(500).contains(words))
}

#[test]
fn what_a_rewind_fetches_depends_on_the_keys_that_changed() {
    const KEYS: u64 = 200;
    let mut story = stranded(|story| {
        let mut client = story.clouds.client("a").unwrap();
        for number in 0..KEYS {
            client.call(&["SET", &format!("stranded:{number}"), "on the old side"]).unwrap();
        }
    });
    // Half of them are there on the new side too.
    let mut client = story.clouds.client("b").unwrap();
    for number in 0..KEYS / 2 {
        client.call(&["SET", &format!("stranded:{number}"), "on the new side"]).unwrap();
    }
    let (fetched, keys) = returned(&mut story);
    println!("{fetched} bytes fetched for {KEYS} keys, of {keys} keys in all");
    assert!(fetched > 0 && fetched < KEYS * 200, "{fetched} bytes for {KEYS} keys");
    assert!(!said(&story, "being seeded"), "a rewind is no seed");
}

#[test]
fn a_stranded_flushall_is_taken_back_by_fetching_the_slots() {
    let mut level = 0;
    let mut story = stranded(|story| {
        level = digest::compare(story.clouds.cloud("a"), story.clouds.cloud("a")).unwrap().keys;
        let mut client = story.clouds.client("a").unwrap();
        client.call(&["FLUSHALL"]).unwrap();
        client.call(&["SET", "{a}after", "1"]).unwrap();
        client.call(&["SET", "{b}after", "1"]).unwrap();
    });
    let mut client = story.clouds.client("b").unwrap();
    client.call(&["SET", "{a}new", "1"]).unwrap();
    let (fetched, keys) = returned(&mut story);
    println!("{fetched} bytes fetched for {keys} keys");
    assert_eq!(keys, level + 1, "the new side has what was level before");
    assert!(!said(&story, "being seeded"), "so little is not worth a seed");
    assert!(said(&story, "cheaper than a seed"), "the log says why");
    for shard in ["a-0", "a-1"] {
        let ledger = story.clouds.layout.dir.join("data").join(shard).join("spool/ledger");
        let files = std::fs::read_dir(&ledger).unwrap().map(|entry| entry.unwrap().path());
        let mut ends: Vec<_> =
            files.filter_map(|path| Some(path.extension()?.to_owned())).collect();
        ends.sort();
        assert_eq!(ends, ["keys", "seg"], "what {shard} wrote past the fork is kept");
    }
}

/// Gives a command to each node of a cloud.
fn on_each(story: &mut Story, cloud: &str, command: &[&str]) {
    for number in 0..2 {
        let address = story.clouds.shard(&format!("{cloud}/{number}")).node.client.clone();
        let answered = Client::connect(&address).and_then(|mut node| node.call(command));
        answered.unwrap_or_else(|e| panic!("{cloud}/{number} {command:?}: {e:#}"));
    }
}

/// Users and libraries of a node, as it shows them.
fn shown(story: &mut Story, shard: &str) -> anyhow::Result<String> {
    let address = story.clouds.shard(shard).node.client.clone();
    let mut node = Client::connect(&address)?;
    node.call(&["READONLY"])?;
    let users = words(&node.call(&["ACL", "LIST"])?);
    Ok(format!("{users} {}", words(&node.call(&["FUNCTION", "LIST", "WITHCODE"])?)))
}

/// All texts of an answer.
fn words(reply: &resp::reply::Reply) -> String {
    match (reply.as_text(), reply.as_array()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(parts)) => parts.iter().map(words).collect::<Vec<_>>().join(" "),
        (None, None) => String::new(),
    }
}

#[test]
fn stranded_users_and_libraries_are_taken_back_without_a_seed() {
    let library = |name: &str, says: &str| {
        format!(
            "#!lua name={name}\nredis.register_function('{name}', function() return '{says}' end)"
        )
    };
    let mut story = Story::begin_with(Plan::with_toxics);
    story.load();
    for user in ["alice", "bob"] {
        on_each(&mut story, "a", &["ACL", "SETUSER", user, "on", ">before", "~*", "+@all"]);
    }
    for name in ["kept", "gone"] {
        on_each(&mut story, "a", &["FUNCTION", "LOAD", &library(name, "before")]);
    }
    story.equal("a", "b");
    let before = shown(&mut story, "a/0").unwrap();
    wait::until("b to have users and libraries", STUCK, || {
        ensure!(shown(&mut story, "b/0")? == before);
        Ok(())
    })
    .unwrap();

    story.strand(|story| {
        on_each(story, "a", &["ACL", "SETUSER", "mallory", "on", ">stranded", "~*", "+@all"]);
        on_each(story, "a", &["ACL", "SETUSER", "alice", "resetpass", ">stranded"]);
        on_each(story, "a", &["ACL", "DELUSER", "bob"]);
        on_each(story, "a", &["FUNCTION", "LOAD", &library("new", "stranded")]);
        on_each(story, "a", &["FUNCTION", "LOAD", "REPLACE", &library("kept", "stranded")]);
        on_each(story, "a", &["FUNCTION", "DELETE", "gone"]);
    });
    on_each(&mut story, "b", &["ACL", "SETUSER", "alice", "resetpass", ">after"]);
    on_each(&mut story, "b", &["FUNCTION", "LOAD", &library("later", "after")]);
    let (fetched, _) = returned(&mut story);
    println!("{fetched} bytes fetched");
    assert!(
        fetched > 0 && fetched < 10_000,
        "{fetched} bytes for four users and libraries a shard"
    );
    assert!(!said(&story, "being seeded"), "a rewind is no seed");
    for number in 0..2 {
        let wanted = shown(&mut story, &format!("b/{number}")).unwrap();
        assert!(wanted.contains("bob") && wanted.contains("gone") && wanted.contains("later"));
        wait::until("what the new primary has", STUCK, || {
            let here = shown(&mut story, &format!("a/{number}"))?;
            ensure!(here == wanted, "{here} and not {wanted}");
            Ok(())
        })
        .unwrap();
        let dir = story.clouds.layout.dir.join(format!("data/a-{number}/spool/ledger"));
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let keys: Vec<_> = files.filter(|path| path.extension().unwrap() == "keys").collect();
        let said = story.replicator(&["ledger", "show", keys[0].to_str().unwrap()]).said;
        for words in ["user", "mallory", "alice", "bob", "library", "new", "kept", "gone"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
