//! A standby that holds what it should not is found out slot by slot and key by key, and mended
//! through its stream, all while writes go on.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use keyspace::Slot;
use serde_json::Value;
use tests::check::tamper::Tampered;
use tests::clouds::certificates::Authority;
use tests::story::Story;

/// What was tampered with, by the slots of these tags; all are of shard 0.
const KEYS: [&str; 4] = ["{t1}hash", "{t2}expires", "{t3}string", "{t4}zset"];

fn of_service(story: &Story) -> [String; 4] {
    let layout = &story.clouds.layout;
    ["--registry", &layout.registry, "--service", &layout.service].map(str::to_owned)
}

fn verb(story: &Story, args: &[&str]) -> tests::clouds::control::Run {
    let of = of_service(story);
    let args: Vec<&str> = args.iter().copied().chain(of.iter().map(String::as_str)).collect();
    tests::clouds::control::replicator(&args).unwrap()
}

/// All slots, or keys, that a report says differ.
fn named(report: &Value, what: &str) -> BTreeSet<String> {
    let comparisons = report["comparisons"].as_array().unwrap();
    let all = comparisons.iter().flat_map(|c| c[what].as_array().unwrap());
    all.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
}

#[test]
fn a_tampered_standby_is_named_slot_by_slot_and_mended_under_load() {
    let mut story = Story::begin();
    story.load();
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["HSET", KEYS[0], "field", "value", "other", "value"]).unwrap();
    client.call(&["SET", KEYS[1], "value", "PX", "100000000"]).unwrap();
    client.call(&["SET", KEYS[2], "value"]).unwrap();
    client.call(&["ZADD", KEYS[3], "1", "m", "2", "n"]).unwrap();
    let traffic = story.traffic();
    story.more(&traffic, 100);
    let equal = verb(&story, &["verify"]);
    assert_eq!(equal.code, 0, "{}", equal.said);

    for shard in 0..2 {
        let name = format!("b/{shard}");
        let node = &mut story.clouds.shard(&name).node;
        node.process.term().unwrap();
        let db = Tampered::open(&node.dir).unwrap();
        for key in KEYS {
            if usize::from(Slot::of_key(key.as_bytes()).number() >= 8192) != shard {
                continue;
            }
            match key {
                "{t1}hash" => db.change_field(key, "field").unwrap(),
                "{t2}expires" => db.change_expiry(key).unwrap(),
                _ => db.remove(key).unwrap(),
            }
        }
        drop(db);
        story.clouds.shard(&name).node.process.start().unwrap();
    }
    story.clouds.wait_ready("b").unwrap();
    story.more(&traffic, 100);
    story.followed("a", "b");

    let slots = KEYS.map(|key| Slot::of_key(key.as_bytes()).to_string()).into();
    let found = verb(&story, &["verify", "--keys"]);
    assert_eq!(found.code, 1, "{}", found.said);
    assert_eq!(named(&found.report, "different-slots"), slots);
    assert_eq!(named(&found.report, "different-keys"), KEYS.map(str::to_owned).into());

    let asked = verb(&story, &["repair"]);
    assert_eq!(asked.code, 3, "nothing is sent unasked: {}", asked.said);
    let mended = verb(&story, &["repair", "--yes"]);
    assert_eq!(mended.code, 0, "{}", mended.said);
    assert_eq!(mended.report["repaired-keys"], KEYS.len(), "{}", mended.said);
    story.more(&traffic, 100);
    let clean = verb(&story, &["verify"]);
    assert_eq!(clean.code, 0, "{}", clean.said);

    // The stream went on: its chains agree, and the other side takes over without a loss.
    story.switch(&["run", "--to", "b", "--yes"]);
    story.more(&traffic, 100);
    story.equal("b", "a");
    let (_, verdict) = story.judge(traffic, "b");
    verdict.assert_good();
}

/// Nodes that publish a listener for other machines are asked there, by TLS, and by nobody unknown.
#[test]
fn nodes_of_other_machines_are_compared_and_mended_by_tls() {
    let certificates = tempfile::tempdir().unwrap();
    let dir = certificates.path();
    let authority = Authority::create(dir, "admin").unwrap();
    authority.sign("node", "127.0.0.1").unwrap();
    authority.sign("tool", "a.tool").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let mut story = Story::begin_with(|mut plan| {
        let flags = [
            "--admin-listen",
            "tls://127.0.0.1:0",
            "--admin-tls-cert",
            &path("node.pem"),
            "--admin-tls-key",
            &path("node.key"),
            "--admin-tls-client-ca",
            &path("ca.pem"),
        ];
        plan.args.push(("godwit-node".to_owned(), flags.map(str::to_owned).to_vec()));
        plan
    });
    story.load();
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["SET", KEYS[2], "value"]).unwrap();
    let shard = usize::from(Slot::of_key(KEYS[2].as_bytes()).number() >= 8192);
    let name = format!("b/{shard}");
    story.equal("a", "b");
    let node = &mut story.clouds.shard(&name).node;
    node.process.term().unwrap();
    let db = Tampered::open(&node.dir).unwrap();
    db.remove(KEYS[2]).unwrap();
    drop(db);
    story.clouds.shard(&name).node.process.start().unwrap();
    story.clouds.wait_ready("b").unwrap();
    story.followed("a", "b");

    let (ca, cert, key) = (path("ca.pem"), path("tool.pem"), path("tool.key"));
    let shows = ["--admin-ca", &ca, "--admin-cert", &cert, "--admin-key", &key];
    let stranger = verb(&story, &["verify", "--admin-ca", &ca]);
    assert_eq!(stranger.code, 1, "{}", stranger.said);
    assert!(stranger.said.contains("wants a certificate"), "{}", stranger.said);
    let unsure = verb(&story, &["verify"]);
    assert!(unsure.said.contains("--admin-ca"), "{}", unsure.said);

    let found = verb(&story, &[&["verify", "--keys"], &shows[..]].concat());
    assert_eq!(found.code, 1, "{}", found.said);
    assert_eq!(named(&found.report, "different-keys"), [KEYS[2].to_owned()].into());
    let mended = verb(&story, &[&["repair", "--yes"], &shows[..]].concat());
    assert_eq!(mended.code, 0, "{}", mended.said);
    assert_eq!(mended.report["repaired-keys"], 1, "{}", mended.said);
    assert_eq!(verb(&story, &[&["verify"], &shows[..]].concat()).code, 0);
}
