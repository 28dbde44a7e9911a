//! Roles, leases, freezes, promotions.

use std::time::Duration;

use topology::members::Role;
use topology::{Epoch, FreezeId};
use wal::{Chain, Continuation, Position};

use crate::cloud::{Cloud, shard};
use crate::ship::{compare, pair, seed, ship};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_has_a_primary_and_a_standby_that_waits_for_its_seed() {
    let cloud = Cloud::new().await;
    let (a, b) = (cloud.start("a").await, cloud.start("b").await);
    a.writable().await;
    b.is(Role::Standby).await;
    a.run("SET key value").unwrap();
    assert_eq!(b.refused("SET key other"), "LOADING");
    assert_eq!(b.refused("GET key"), "LOADING");
    // It holds nothing, so it cannot take over.
    cloud.commit("b").await;
    a.is(Role::Standby).await;
    let status = b.wait("epoch 2", |status| !status.writable).await;
    assert_ne!(status.role, Role::Primary);
    assert_eq!(a.refused("SET key late"), "READONLY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_loses_nothing_and_goes_back_by_following() {
    let (cloud, a, b) = pair("").await;
    a.run("SET key one").unwrap();
    ship(&a, &b).await;
    assert_eq!(b.get("key").as_deref(), Some("one"));
    assert_eq!(b.get("before").as_deref(), Some("seed"));

    let freeze = cloud.freeze("a", "b", LONG).await;
    let frozen = a.wait("ended", |status| status.ended.is_some()).await;
    let (ended, end) = frozen.ended.unwrap();
    assert_eq!(ended, freeze);
    assert!(!frozen.writable && frozen.role == Role::Primary);
    assert_eq!(a.refused("SET key late"), "READONLY");
    assert_eq!(a.get("key").as_deref(), Some("one"), "reads go on");
    ship(&a, &b).await;
    let level = b.status().await.applied[&shard("a")].clone();
    assert_eq!(level.ended, Some(freeze));
    assert!(level.position.sequence >= end.sequence);

    let epoch = cloud.commit("b").await;
    let promoted = b.writable().await;
    assert_eq!((promoted.role, promoted.epoch), (Role::Primary, epoch));
    let start = promoted.history.current().unwrap();
    assert!(start.parents.contains(&level.position), "{start:?}");
    assert!(promoted.applied.is_empty());
    b.run("SET key two").unwrap();

    let old = a.is(Role::Standby).await;
    assert_eq!(old.own_end, Some(end));
    let (at, until) = (old.own_end.unwrap(), old.local_until.unwrap());
    let Continuation::From(resume) =
        promoted.history.continue_from(at, until, promoted.position.sequence)
    else {
        panic!("an old primary that ended its log goes on from the fork");
    };
    follow(&a, &shard("b"), resume, epoch).await;
    ship(&b, &a).await;
    assert_eq!(a.get("key").as_deref(), Some("two"));
    let (left, right) = compare(&b, &a).await;
    assert_eq!(left, right);
    assert_eq!(left.total.keys, 2);
}

pub(crate) async fn follow(
    node: &crate::cloud::Node,
    source: &topology::ShardName,
    at: Position,
    epoch: Epoch,
) {
    let follow = admin::Follow {
        source: source.clone(),
        position: at,
        log_chain: Chain(0),
        stream_chain: Chain(3),
        epoch,
        until: at.sequence,
    };
    node.admin.follow(follow).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_freeze_leaves_no_write_without_an_answer() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    for round in 1..=5 {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let mut connection = a.connection();
                std::thread::spawn(move || {
                    let incr = redis::cmd("INCR").arg(format!("{round}:{writer}")).clone();
                    let mut written = 0u64;
                    loop {
                        match incr.query::<u64>(&mut connection) {
                            Ok(now) => written = now,
                            Err(refused) if refused.code() == Some("READONLY") => return written,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        crate::cloud::eventually("traffic", || async {
            a.get(&format!("{round}:3")).filter(|n| n.len() > 2)
        })
        .await;
        cloud.freeze("a", "b", LONG).await;
        for (writer, thread) in writers.into_iter().enumerate() {
            let written = thread.join().unwrap();
            assert_eq!(a.get(&format!("{round}:{writer}")), Some(written.to_string()));
        }
        cloud.change(topology::Record::cancelled).await;
        a.writable().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_ends_by_its_deadline_and_the_primary_goes_on() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    cloud.freeze("a", "b", Duration::from_millis(700)).await;
    a.wait("ended", |status| status.ended.is_some()).await;
    let after = a.writable().await;
    assert_eq!((after.epoch, after.ended, after.freeze), (Epoch(2), None, None));
    a.run("SET key value").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_registry_the_lease_ends_and_reads_go_on() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    a.run("SET key value").unwrap();
    let (there, away) = (cloud.dir.path().join("registry"), cloud.dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    let silent = a.wait("no lease", |status| !status.writable).await;
    assert_eq!(silent.role, Role::Primary);
    assert_eq!(a.refused("SET key late"), "READONLY");
    assert_eq!(a.get("key").as_deref(), Some("value"));
    std::fs::rename(&away, &there).unwrap();
    a.writable().await;
    a.run("SET key again").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_writes_once_the_record_reaches_the_epoch() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    a.admin.fence(Epoch(2)).await.unwrap();
    a.wait("fenced", |status| !status.writable).await;
    assert!(a.run("SET k v").unwrap_err().to_string().contains("fenced"));
    a.stop().await;
    let a = cloud.start("a").await;
    let still = a.wait("primary", |status| status.role == Role::Primary).await;
    assert_eq!((still.fence, still.writable), (Epoch(2), false));
    cloud.change(topology::Record::cancelled).await;
    a.writable().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn freezes_by_hand_are_for_nodes_without_a_service() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    let refused = a.admin.freeze(FreezeId(1), topology::record::UnixMs::now()).await.unwrap_err();
    assert_eq!(refused.code(), Some(admin::Code::Role));
    assert!(a.admin.promote(Epoch(9)).await.unwrap_err().to_string().contains("record"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_never_seeded_over() {
    let (_cloud, a, b) = pair("").await;
    let (path, adopt) = crate::ship::bring_seed(&b, &a).await;
    let refused = a.admin.seed(&path, adopt).await.unwrap_err();
    assert_eq!(refused.code(), Some(admin::Code::Role));
    a.run("SET still here").unwrap();
    seed(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_slots_are_for_a_proxys_connection() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    assert_eq!(a.refused("MSET one 1 two 2 three 3"), "CROSSSLOT");
    let mut proxy = a.connection();
    let _: redis::Value = crate::cloud::command("GODWIT.HOLD").query(&mut proxy).unwrap();
    let _: () = crate::cloud::command("MSET one 1 two 2 three 3").query(&mut proxy).unwrap();
    let read: Vec<i64> = crate::cloud::command("MGET three two one").query(&mut proxy).unwrap();
    assert_eq!(read, [3, 2, 1]);
    // A refusal is of the whole, and sticks.
    cloud.freeze("a", "b", LONG).await;
    a.wait("ended", |status| status.ended.is_some()).await;
    let mut refused = || {
        let line = "MSET one 4 two 5 three 6";
        let sent = crate::cloud::command(line).query::<redis::Value>(&mut proxy);
        sent.unwrap_err().code().unwrap_or_default().to_owned()
    };
    assert_eq!([refused(), refused()], ["READONLY", "READONLY"]);
    let read: Vec<i64> = crate::cloud::command("MGET one two three").query(&mut proxy).unwrap();
    assert_eq!(read, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_over_slots_are_for_who_asks() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    let mut one = a.connection();
    let mut run = |line: &str| crate::cloud::command(line).query::<redis::Value>(&mut one);
    let code = |answer: redis::RedisResult<redis::Value>| {
        answer.unwrap_err().code().unwrap_or_default().to_owned()
    };
    // As in a Redis Cluster: what is queued must be of one slot, together too.
    assert_eq!(code(run("WATCH one two")), "CROSSSLOT");
    run("MULTI").unwrap();
    assert_eq!(code(run("MSET one 1 two 2")), "CROSSSLOT");
    assert_eq!(code(run("EXEC")), "EXECABORT");
    for line in ["MULTI", "SET one 1", "SET two 2"] {
        run(line).unwrap();
    }
    assert_eq!(code(run("EXEC")), "CROSSSLOT");
    assert_eq!(run("EXISTS one").unwrap(), redis::Value::Int(0));

    for line in ["GODWIT.CROSSSLOT", "MSET one 1 two 2", "WATCH one three"] {
        run(line).unwrap();
    }
    for line in ["MULTI", "INCR one", "MSET two 3 three 4", "MGET one two three"] {
        run(line).unwrap();
    }
    let redis::Value::Array(answers) = run("EXEC").unwrap() else { panic!("no answers") };
    assert_eq!(redis::from_redis_value::<[i64; 3]>(answers[2].clone()).unwrap(), [2, 3, 4]);
    // What is watched is watched on all slots.
    run("WATCH one three").unwrap();
    a.run("SET three 5").unwrap();
    for line in ["MULTI", "SET two 9", "SET one 9"] {
        run(line).unwrap();
    }
    assert_eq!(run("EXEC").unwrap(), redis::Value::Nil);
    run("RESET").unwrap();
    assert_eq!(code(run("MSET one 1 two 2")), "CROSSSLOT");
    assert_eq!(code(a.run("MSET one 1 two 2")), "CROSSSLOT");

    // A refusal is of the whole of it.
    for line in ["GODWIT.CROSSSLOT", "MULTI", "SET one 7", "SET two 7"] {
        run(line).unwrap();
    }
    cloud.freeze("a", "b", LONG).await;
    a.wait("ended", |status| status.ended.is_some()).await;
    let refused = run("EXEC").unwrap_err().to_string();
    assert!(refused.contains("READONLY"), "{refused}");
    assert_eq!(a.get("two").as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_that_the_node_is_no_primary_any_more() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    let mut client = a.connection();
    let waits = tokio::task::spawn_blocking(move || {
        crate::cloud::command("BLPOP k 0").query::<redis::Value>(&mut client).unwrap_err()
    });
    crate::cloud::eventually("a client that waits", || async {
        let info: String = redis::from_redis_value(a.run("INFO clients").unwrap()).unwrap();
        info.contains("blocked_clients:1\r\n").then_some(())
    })
    .await;
    cloud.freeze("a", "b", LONG).await;
    assert_eq!(waits.await.unwrap().code(), Some("UNBLOCKED"));
    assert_eq!(a.refused("BLPOP k 0"), "READONLY");
}
