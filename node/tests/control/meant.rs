//! What was decided by what a node said is not done to another database, and records of no slot are
//! taken back by their raw keys.

use admin::{Code, Follow, Status};
use keyspace::{Cf, library, user};
use topology::Epoch;
use topology::members::Role;
use wal::batch::{BatchBuilder, BatchRef, Record};
use wal::{Chain, Sequence};

use crate::cloud::{command, shard};
use crate::ship::{bring_seed, pair, ship};

fn follow(status: &Status) -> Follow {
    let applied = &status.applied[&shard("a")];
    Follow {
        source: shard("a"),
        position: applied.position,
        log_chain: Chain(0),
        stream_chain: Chain(9),
        epoch: Epoch(1),
        until: applied.position.sequence,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_swapped_in_between_is_left_alone() {
    let (_cloud, a, b) = pair("").await;
    let (old, adopt) = bring_seed(&a, &b).await;
    a.run("SET later value").unwrap();
    ship(&a, &b).await;
    // It says where it stands; then an older database takes its place.
    let before = b.status().await;
    assert_eq!(before.control, Status::CONTROL);
    b.admin.seed(&old, adopt.clone()).await.unwrap();
    let now = b.is(Role::Standby).await;
    assert_ne!(now.database, before.database);
    assert_eq!(b.get("later"), None);
    let meant = b.admin.on(&before);
    let follow_before = follow(&before);
    let fork = before.position;
    let refusals = [
        meant.follow(follow_before.clone()).await.unwrap_err(),
        meant.rewind_begin(&shard("a"), fork).await.unwrap_err(),
        meant.seed(&old, adopt).await.unwrap_err(),
        meant.export(&[b"before"]).await.unwrap_err(),
        meant.records(&[b"\xff\xffUdefault"]).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), Some(Code::Database), "{refusal}");
    }
    let after = b.status().await;
    assert_eq!((&after.applied, after.role), (&now.applied, Role::Standby));
    b.admin.on(&after).follow(follow(&after)).await.unwrap();
    let chain = b.status().await.applied[&shard("a")].stream_chain;
    assert_eq!(chain, Chain(9));
    ship(&a, &b).await;
    assert_eq!(b.get("later").as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_opened_again_is_another_too() {
    let (cloud, a, b) = pair("").await;
    ship(&a, &b).await;
    let before = b.status().await;
    b.stop().await;
    let b = cloud.start("b").await;
    let now = b.is(Role::Standby).await;
    assert_eq!(before.database, now.database);
    let refused = b.admin.on(&before).follow(follow(&before)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Database), "{refused}");
    assert!(refused.to_string().contains("opened again"), "{refused}");
    // One that is too old to be told so is asked as ever.
    let older = Status { control: 0, ..before.clone() };
    b.admin.on(&older).follow(follow(&now)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_libraries_are_taken_back_by_their_raw_keys() {
    let (_cloud, a, b) = pair("").await;
    let load = |name: &str, says: u8| {
        let text = format!(
            "#!lua name={name}\nredis.register_function{{function_name='{name}', callback=function() return {says} end, flags={{'no-writes'}}}}"
        );
        let mut command = redis::cmd("FUNCTION");
        command.arg("LOAD").arg("REPLACE").arg(text);
        command
    };
    let here = |command: redis::Cmd, at: &crate::cloud::Node| {
        command.query::<redis::Value>(&mut at.connection()).unwrap()
    };
    here(command("ACL SETUSER alice on nopass ~* +get"), &a);
    here(command("ACL SETUSER bob on nopass ~* +get"), &a);
    here(load("kept", 1), &a);
    here(load("gone", 1), &a);
    ship(&a, &b).await;
    let users = |node: &crate::cloud::Node| -> Vec<String> {
        redis::cmd("ACL").arg("USERS").query(&mut node.connection()).unwrap()
    };
    assert_eq!(users(&b), ["alice", "bob", "default"]);

    here(command("ACL SETUSER carol on nopass ~* +get"), &a);
    here(command("ACL DELUSER bob"), &a);
    here(load("kept", 2), &a);
    here(command("FUNCTION DELETE gone"), &a);
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for name in ["bob", "carol"] {
        keys.push(Vec::new());
        user::encode_key(name.as_bytes(), keys.last_mut().unwrap());
    }
    for name in ["kept", "gone"] {
        keys.push(Vec::new());
        library::encode_key(name, keys.last_mut().unwrap());
    }
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let got = a.admin.records(&keys).await.unwrap();
    assert_eq!(got.position.timeline, a.status().await.position.timeline);
    let batch = BatchRef::parse(&got.batch).unwrap();
    let put: Vec<&[u8]> = batch
        .records()
        .map(|record| match record {
            Record::Put { cf: Cf::Data, key, .. } => key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(put, [keys[1], keys[2]], "what is not there is not put");

    let too_soon = b.admin.rewind_records(&keys, &got.batch).await.unwrap_err();
    assert_eq!(too_soon.code(), Some(Code::Role), "{too_soon}");
    let at = b.status().await;
    b.admin.rewind_begin(&shard("a"), at.position).await.unwrap();
    let of_a_slot: [&[u8]; 1] = [b"\x00\x01k"];
    let refused = b.admin.rewind_records(&of_a_slot, &got.batch).await.unwrap_err();
    assert!(refused.to_string().contains("no key of a record of no slot"), "{refused}");
    let mut more = BatchBuilder::new(Sequence(0));
    more.put(Cf::Data, b"\xff\xffUmallory", b"");
    let refused = b.admin.rewind_records(&keys, &more.finish()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Damaged), "{refused}");

    b.admin.rewind_records(&keys, &got.batch).await.unwrap();
    b.admin.rewind_end(follow(&at)).await.unwrap();
    b.is(Role::Standby).await;
    assert_eq!(users(&b), ["alice", "carol", "default"]);
    let mut connection = b.connection();
    let _: redis::Value = redis::cmd("READONLY").query(&mut connection).unwrap();
    let mut call = |name: &str| {
        redis::cmd("FCALL_RO").arg(name).arg(1).arg("key").query::<i64>(&mut connection)
    };
    assert_eq!(call("kept").unwrap(), 2);
    assert!(call("gone").is_err());
}
