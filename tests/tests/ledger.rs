//! Stranded writes are listed when the old side returns, and can be given back: to keys that the new
//! side has left alone, or wherever they are newer; once, however often it is asked.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use tests::client::Client;
use tests::clouds::Plan;
use tests::story::Story;

/// Keys of both shards of a.
const TAGS: [&str; 2] = ["{a}", "{b}"];

fn set(client: &mut Client, key: &str, value: &str) {
    TAGS.iter().for_each(|tag| drop(client.call(&["SET", &format!("{tag}{key}"), value]).unwrap()));
}

fn get(client: &mut Client, key: &str) -> [String; 2] {
    TAGS.map(|tag| {
        let reply = client.call(&["GET", &format!("{tag}{key}")]).unwrap();
        reply.as_text().unwrap_or("(nil)").to_owned()
    })
}

fn both(value: &str) -> [String; 2] {
    [value.to_owned(), value.to_owned()]
}

/// Writes on both sides of a fork: what is stranded on a, and what b has written since.
fn forked() -> Story {
    let mut story = Story::begin_with(Plan::with_toxics);
    let mut client = story.clouds.client("a").unwrap();
    for key in ["left-alone", "changed", "deleted"] {
        set(&mut client, key, "before");
    }
    for tag in TAGS {
        client.call(&["RPUSH", &format!("{tag}list"), "one", "two"]).unwrap();
        client.call(&["ZADD", &format!("{tag}zset"), "1", "m"]).unwrap();
        client.call(&["XADD", &format!("{tag}stream"), "1-1", "f", "v"]).unwrap();
    }
    story.equal("a", "b");
    story.strand(|story| {
        let mut client = story.clouds.client("a").unwrap();
        for key in ["left-alone", "changed", "created"] {
            set(&mut client, key, "stranded");
        }
        for tag in TAGS {
            client.call(&["DEL", &format!("{tag}deleted")]).unwrap();
            client.call(&["LPUSH", &format!("{tag}list"), "zero"]).unwrap();
            client.call(&["ZINCRBY", &format!("{tag}zset"), "2", "m"]).unwrap();
            client.call(&["HSET", &format!("{tag}hash"), "f", "v"]).unwrap();
            client.call(&["XADD", &format!("{tag}stream"), "2-1", "f", "w"]).unwrap();
        }
    });
    let mut client = story.clouds.client("b").unwrap();
    set(&mut client, "changed", "on the new side");
    story.link("b", true);
    story.clouds.start_cloud("a").unwrap();
    story.equal("b", "a");
    assert_eq!(get(&mut client, "left-alone"), both("before"), "it was taken back");
    story
}

fn node_dir(story: &Story, shard: usize) -> String {
    story.clouds.cloud("a").shards[shard].node.dir.display().to_string()
}

/// Replays every ledger of a, and sums up what came of the entries.
fn replay(story: &Story, how: &[&str]) -> Value {
    let mut sums = serde_json::Map::new();
    for shard in 0..TAGS.len() {
        let dir = node_dir(story, shard);
        let listed = story.replicator(&["ledger", "list", "--node-dir", &dir]);
        let ledgers = listed.report["ledgers"].as_array().unwrap().clone();
        assert_eq!(ledgers.len(), 1, "{}", listed.said);
        let name = ledgers[0]["name"].as_str().unwrap();
        let layout = &story.clouds.layout;
        let of = ["--registry", &layout.registry, "--service", &layout.service];
        let at = ["ledger", "replay", name, "--node-dir", &dir];
        let run = story.replicator(&[&at[..], &of, how].concat());
        for (what, count) in run.report["outcomes"].as_object().unwrap() {
            let sum = sums.get(what).and_then(Value::as_u64).unwrap_or(0);
            sums.insert(what.clone(), (sum + count.as_u64().unwrap()).into());
        }
    }
    sums.into()
}

#[test]
fn keys_that_the_new_side_left_alone_get_their_stranded_writes_back_once() {
    let story = forked();
    let dir = node_dir(&story, 0);
    let listed = story.replicator(&["ledger", "list", "--node-dir", &dir]);
    let name = listed.report["ledgers"][0]["name"].as_str().unwrap().to_owned();
    let shown = story.replicator(&["ledger", "show", &name, "--node-dir", &dir]).said;
    assert_eq!(shown.lines().count(), 8, "{shown}");
    assert!(shown.contains("left-alone") && shown.contains("\"type\":\"zset\""), "{shown}");

    let expected = serde_json::json!({"replaced": 8, "created": 4, "changed": 2, "deleted": 2});
    let mut client = story.clouds.client("b").unwrap();
    assert_eq!(replay(&story, &["--if-unchanged", "--dry-run"]), expected);
    assert_eq!(get(&mut client, "left-alone"), both("before"), "a dry run writes nothing");
    assert_eq!(replay(&story, &["--if-unchanged"]), expected);

    assert_eq!(get(&mut client, "left-alone"), both("stranded"));
    assert_eq!(get(&mut client, "created"), both("stranded"));
    assert_eq!(get(&mut client, "changed"), both("on the new side"));
    assert_eq!(get(&mut client, "deleted"), both("(nil)"));
    for tag in TAGS {
        let list = client.call(&["LRANGE", &format!("{tag}list"), "0", "-1"]).unwrap();
        let list: Vec<_> = list.as_array().unwrap().iter().filter_map(|e| e.as_text()).collect();
        assert_eq!(list, ["zero", "one", "two"]);
        let score = client.call(&["ZSCORE", &format!("{tag}zset"), "m"]).unwrap();
        assert_eq!(score.as_text(), Some("3"));
        let length = client.call(&["XLEN", &format!("{tag}stream")]).unwrap();
        assert_eq!(length.as_integer(), Some(2));
        // They are as others are.
        client.call(&["ZINCRBY", &format!("{tag}zset"), "1", "m"]).unwrap();
        client.call(&["XADD", &format!("{tag}stream"), "*", "f", "x"]).unwrap();
    }
    let again = serde_json::json!({"changed": 6, "same": 10});
    assert_eq!(replay(&story, &["--if-unchanged"]), again, "asked again, nothing is done twice");
    story.equal("b", "a");
}

#[test]
fn where_the_newest_wins_later_writes_of_the_new_side_stay() {
    let story = forked();
    let sums = replay(&story, &["--newest-wins"]);
    assert_eq!(sums, serde_json::json!({"replaced": 8, "created": 4, "newer": 2, "deleted": 2}));
    let mut client = story.clouds.client("b").unwrap();
    assert_eq!(get(&mut client, "changed"), both("on the new side"));
    assert_eq!(get(&mut client, "left-alone"), both("stranded"));
    story.equal("b", "a");
}
