//! Users follow the service: who may log in at a primary may log in at whoever is promoted, and
//! nobody else; a user is made, changed and deleted at the primary and nowhere else.

#![allow(clippy::unwrap_used)]

use anyhow::ensure;
use tests::client::Client;
use tests::clouds::Plan;
use tests::story::{STUCK, Story};
use tests::wait;

fn node(story: &mut Story, shard: &str) -> Client {
    Client::connect(&story.clouds.shard(shard).node.client).unwrap()
}

/// Gives a command to each node of a cloud.
fn on_each(story: &mut Story, cloud: &str, command: &[&str]) {
    for shard in ["0", "1"].map(|number| format!("{cloud}/{number}")) {
        node(story, &shard).call(command).unwrap_or_else(|e| panic!("{shard} {command:?}: {e:#}"));
    }
}

/// Waits until a node lets this user in with that password, or does not.
fn lets_in(story: &mut Story, shard: &str, user: &str, password: &str, wanted: bool) {
    let address = story.clouds.shard(shard).node.client.clone();
    let waited = wait::until(&format!("{user} at {shard}: {wanted}"), STUCK, || {
        let answer = Client::connect(&address)?.call(&["AUTH", user, password]);
        ensure!(answer.is_ok() == wanted, "{answer:?}");
        if let Err(why) = answer {
            ensure!(why.to_string().contains("WRONGPASS"), "{why:#}");
        }
        Ok(())
    });
    waited.unwrap_or_else(|e| panic!("{e:#}"));
}

#[test]
fn who_may_log_in_is_the_same_after_a_switch_and_a_crash() {
    let mut story = Story::begin();
    story.load();
    on_each(&mut story, "a", &["ACL", "SETUSER", "alice", "on", ">wonder", "~*", "+@all"]);
    on_each(&mut story, "a", &["ACL", "SETUSER", "bob", "on", ">builder", "~*", "+@all"]);
    lets_in(&mut story, "b/0", "alice", "wonder", true);
    lets_in(&mut story, "b/1", "bob", "builder", true);

    // A standby's users are the service's: it takes no changes, and says where they are made.
    let mut standby = node(&mut story, "b/0");
    for refused in [
        &["ACL", "SETUSER", "mallory", "on", "nopass"][..],
        &["ACL", "DELUSER", "alice"],
        &["ACL", "LOAD"],
        &["CONFIG", "SET", "requirepass", "mine"],
    ] {
        let why = standby.call(refused).unwrap_err().to_string();
        assert!(why.contains("change them at the primary"), "{refused:?}: {why}");
    }
    assert!(
        standby.call(&["ACL", "DRYRUN", "mallory", "GET", "k"]).is_err(),
        "there is no mallory"
    );

    // Who is deleted at the primary is thrown out of the standby too.
    standby.call(&["AUTH", "bob", "builder"]).unwrap();
    on_each(&mut story, "a", &["ACL", "DELUSER", "bob"]);
    wait::until("bob's connection to end", STUCK, || {
        ensure!(standby.call(&["PING"]).is_err(), "it still answers");
        Ok(())
    })
    .unwrap();
    // What deletes every key deletes no user.
    on_each(&mut story, "a", &["FLUSHALL"]);
    let plan = story.switch(&["plan", "--to", "b"]).report;
    let guard = plan["guards"].as_array().unwrap().iter().find(|g| g["guard"] == "users").unwrap();
    assert_eq!(guard["detail"], "the same on both sides", "{plan}");

    story.switch(&["run", "--to", "b", "--yes"]);
    lets_in(&mut story, "b/1", "alice", "wonder", true);
    lets_in(&mut story, "b/1", "alice", "guess", false);
    lets_in(&mut story, "b/0", "bob", "builder", false);
    lets_in(&mut story, "a/0", "bob", "builder", false);
    on_each(&mut story, "b", &["ACL", "SETUSER", "alice", "resetpass", ">land"]);
    lets_in(&mut story, "a/0", "alice", "land", true);

    // What was answered outlives the node: its log is read to its end.
    node(&mut story, "b/0").call(&["ACL", "SETUSER", "carol", "on", ">c", "+get"]).unwrap();
    story.clouds.shard("b/0").node.process.kill9().unwrap();
    story.switch(&["failover", "--to", "a", "--yes"]);
    lets_in(&mut story, "a/0", "carol", "c", true);
    lets_in(&mut story, "a/0", "alice", "wonder", false);
    // And a start: users are in the database, not in a file.
    story.clouds.shard("b/0").node.process.start().unwrap();
    lets_in(&mut story, "b/0", "carol", "c", true);
    assert!(!story.clouds.shard("b/0").node.dir.join("users.acl").exists());
}

#[test]
fn users_of_a_file_become_those_of_the_service() {
    let mut story = Story::begin();
    let dir = story.clouds.shard("a/0").node.dir.clone();
    std::fs::write(
        dir.join("users.acl"),
        "user default on nopass ~* &* +@all\nuser dave on >dave ~* &* +@all\n",
    )
    .unwrap();
    // A standby's own file counts until the service has users.
    let other = story.clouds.shard("b/0").node.dir.clone();
    std::fs::write(other.join("users.acl"), "user eve on >eve ~* &* +@all\n").unwrap();
    for shard in ["b/0", "a/0"] {
        let process = &mut story.clouds.shard(shard).node.process;
        process.end();
        process.start().unwrap();
    }
    lets_in(&mut story, "b/0", "dave", "dave", true);
    lets_in(&mut story, "b/0", "eve", "eve", false);
    // The file is how many are changed at once.
    std::fs::write(dir.join("users.acl"), "user frank on >frank ~* &* +@all\n").unwrap();
    node(&mut story, "a/0").call(&["ACL", "LOAD"]).unwrap();
    lets_in(&mut story, "b/0", "frank", "frank", true);
    lets_in(&mut story, "b/0", "dave", "dave", false);
    node(&mut story, "b/0").call(&["PING"]).expect("`default` is as it is without a file");
}

/// A user that an old primary made and nobody received is no user of the service.
#[test]
fn a_stranded_user_is_taken_back() {
    let mut story = Story::begin_with(Plan::with_toxics);
    on_each(&mut story, "a", &["ACL", "SETUSER", "alice", "on", ">wonder", "~*", "+@all"]);
    lets_in(&mut story, "b/0", "alice", "wonder", true);
    lets_in(&mut story, "b/1", "alice", "wonder", true);
    story.strand(|story| {
        on_each(story, "a", &["ACL", "SETUSER", "mallory", "on", ">m", "~*", "+@all"]);
        on_each(story, "a", &["ACL", "DELUSER", "alice"]);
    });
    lets_in(&mut story, "b/0", "alice", "wonder", true);
    lets_in(&mut story, "b/0", "mallory", "m", false);
    story.link("b", true);
    story.clouds.start_cloud("a").unwrap_or_else(|e| panic!("{e:#}"));
    story.followed("b", "a");
    lets_in(&mut story, "a/0", "alice", "wonder", true);
    lets_in(&mut story, "a/0", "mallory", "m", false);
}
