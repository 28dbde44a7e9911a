//! Equal is checked: one changed field, one changed expiry, one missing key, and an applier that
//! drops batches are each noticed, and the slot is named.

#![allow(clippy::unwrap_used)]

use keyspace::Slot;
use tests::check::digest;
use tests::check::tamper::Tampered;
use tests::story::Story;

/// Changes the standby's database behind its back; the comparison must name the key's slot alone.
fn tampered(key: &str, change: impl FnOnce(&Tampered)) {
    let mut story = Story::begin();
    story.load();
    let mut client = story.clouds.client("a").unwrap();
    client.call(&["HSET", "{t}hash", "field", "value", "other", "value"]).unwrap();
    client.call(&["SET", "{t}expires", "value", "PX", "100000000"]).unwrap();
    client.call(&["SET", "{t}string", "value"]).unwrap();
    story.equal("a", "b");

    let slot = Slot::of_key(b"{t}").number();
    let shard = if slot < 8192 { "b/0" } else { "b/1" };
    let node = &mut story.clouds.shard(shard).node;
    node.process.term().unwrap();
    change(&Tampered::open(&node.dir).unwrap());
    node.process.start().unwrap();
    story.clouds.wait_ready("b").unwrap();
    story.followed("a", "b");
    let found = digest::compare(story.clouds.cloud("a"), story.clouds.cloud("b")).unwrap();
    assert_eq!(found.differing, [slot], "only the slot of {key} differs");
}

#[test]
fn one_changed_field() {
    tampered("{t}hash", |db| db.change_field("{t}hash", "field").unwrap());
}

#[test]
fn one_changed_expiry() {
    tampered("{t}expires", |db| db.change_expiry("{t}expires").unwrap());
}

#[test]
fn one_missing_key() {
    tampered("{t}string", |db| db.remove("{t}string").unwrap());
}

#[test]
fn an_applier_that_drops_batches_is_found_by_digests_and_by_the_checker() {
    let mut story = Story::begin_with(|plan| {
        let plan = plan.with_env("b-0-node", "GODWIT_FAILPOINTS", "apply-drop-batch:every=100");
        plan.with_env("b-1-node", "GODWIT_FAILPOINTS", "apply-drop-batch:every=100")
    });
    let traffic = story.traffic();
    story.more(&traffic, 3000);
    let found = digest::compare(story.clouds.cloud("a"), story.clouds.cloud("b")).unwrap();
    assert!(!found.equal(), "batches were dropped, and the digests are equal: {found:?}");
    story.switch(&["run", "--to", "b", "--yes"]);
    let (_, verdict) = story.judge(traffic, "b");
    assert!(verdict.lost > 0, "batches were dropped, and the checker found nothing: {verdict:?}");
}
