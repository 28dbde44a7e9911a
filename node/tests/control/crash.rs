//! Kills: of a primary, of a node in the middle of a swap; and what comes back.

use topology::Epoch;
use topology::members::Role;
use wal::Continuation;
use wal::batch::{BatchRef, Record};

use crate::cloud::{Cloud, shard};
use crate::ship::{batches, bring_seed, compare, pair, seed, ship, ship_from};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_comes_back_on_a_new_timeline_with_everything() {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    let first = a.writable().await;
    for i in 0..200 {
        a.run(&format!("SET key:{i} {i}")).unwrap();
    }
    let end = a.status().await.position;
    a.kill();
    let a = cloud.start("a").await;
    let again = a.writable().await;
    let starts = again.history.starts();
    let last = &starts[starts.len() - 1];
    assert_eq!(last.parents.len(), 1);
    assert_eq!(last.parents[0].timeline, first.position.timeline);
    assert!(last.parents[0].sequence >= end.sequence, "what was answered was recovered");
    assert_eq!(again.own_end, None, "it is primary still");
    assert_eq!(a.get("key:199").as_deref(), Some("199"));
    assert!(again.position.timeline != first.position.timeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primary_is_drained_and_comes_back_as_a_standby_at_the_fork() {
    let (cloud, a, b) = pair("").await;
    for _ in 0..20 {
        a.run("INCR counter").unwrap();
    }
    let history = a.status().await.history;
    let ghost = shard("a");
    let dir = a.kill();
    let a = crate::cloud::shard("a");
    assert_eq!(ghost, a);
    // The log of the dead node is a file.
    let drained = drain(&dir, &history, &b).await;
    cloud.commit("b").await;
    let promoted = b.writable().await;
    assert_eq!(b.get("counter").as_deref(), Some("20"));
    let a = cloud.start("a").await;
    let old = a.is(Role::Standby).await;
    let own_end = old.own_end.unwrap();
    assert_eq!(own_end.sequence, drained);
    let next = promoted.history.continue_from(
        own_end,
        old.local_until.unwrap(),
        promoted.position.sequence,
    );
    assert!(matches!(next, Continuation::From(_)), "{next:?}");
    // Once more: it still finds the fork.
    a.kill();
    let a = cloud.start("a").await;
    assert_eq!(a.is(Role::Standby).await.own_end, Some(own_end));
}

async fn drain(
    dir: &std::path::Path,
    history: &wal::History,
    to: &crate::cloud::Node,
) -> wal::Sequence {
    let source = shard("a");
    let applied = to.status().await.applied[&source].clone();
    let mut now = applied.position.sequence;
    for frame in crate::ship::frames(dir, history, applied.position, applied.stream_chain) {
        now = to.admin.apply(&source, &frame).await.unwrap();
    }
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_past_the_fork_rewinds_and_follows() {
    let (cloud, a, b) = pair("").await;
    a.run("SET shared one").unwrap();
    a.run("HSET hash field one").unwrap();
    ship(&a, &b).await;
    // Written and never shipped: stranded.
    a.run("SET shared stranded").unwrap();
    a.run("SET only-here stranded").unwrap();
    a.run("HSET hash field stranded other stranded").unwrap();
    let dir = a.kill();
    cloud.commit("b").await;
    let promoted = b.writable().await;
    b.run("SET shared two").unwrap();

    let a = cloud.start("a").await;
    let old = a.is(Role::Standby).await;
    let end = b.status().await.position.sequence;
    let next = promoted.history.continue_from(old.own_end.unwrap(), old.local_until.unwrap(), end);
    let Continuation::Rewind { fork, resume } = next else { panic!("{next:?}") };
    let keys = touched_after(&dir, fork.sequence);
    assert!(keys.contains(&b"only-here".to_vec()) && keys.contains(&b"hash".to_vec()));
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();

    let source = shard("b");
    a.admin.rewind_begin(&source, fork).await.unwrap();
    assert_eq!(a.refused("GET shared"), "LOADING");
    // It is rewinding after a crash, too.
    a.kill();
    let a = cloud.start("a").await;
    a.is(Role::Rewinding).await;
    let exported = b.admin.export(&keys).await.unwrap();
    a.admin.rewind_keys(&keys, &exported.batch).await.unwrap();
    b.run("SET after fetch").unwrap();
    let follow = admin::Follow {
        source: source.clone(),
        position: resume,
        log_chain: wal::Chain(0),
        stream_chain: wal::Chain(5),
        epoch: Epoch(2),
        until: exported.position.sequence,
    };
    a.admin.rewind_end(follow).await.unwrap();
    assert_eq!(a.status().await.role, Role::Rewinding, "not before it has applied what it fetched");
    a.wait("it knows its slots", |status| !status.slots.is_empty()).await;
    ship(&b, &a).await;
    assert_eq!(a.status().await.role, Role::Standby);
    assert_eq!(a.get("only-here"), None);
    assert_eq!(a.get("shared").as_deref(), Some("two"));
    let (left, right) = compare(&b, &a).await;
    assert_eq!(left, right);
}

/// The user keys that batches after this sequence touched.
fn touched_after(dir: &std::path::Path, after: wal::Sequence) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for bytes in batches(dir) {
        let batch = BatchRef::parse(&bytes).unwrap();
        for record in batch.records().filter(|_| batch.sequence() > after) {
            if let Record::Put { cf: keyspace::Cf::Meta, key, .. } = record {
                keys.push(keyspace::meta::decode_key(key).unwrap().1.to_vec());
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_swap_leaves_one_database_or_the_other() {
    for (point, swapped) in [
        ("seed-before-renames", false),
        ("seed-between-renames", false),
        ("seed-after-renames", true),
    ] {
        let (cloud, a, b) = pair("").await;
        let old = b.status().await.database;
        b.stop().await;
        a.run("SET later value").unwrap();
        let b = cloud.start_with("b", point).await;
        let (path, adopt) = bring_seed(&a, &b).await;
        let lost = b.admin.seed(&path, adopt).await.unwrap_err();
        assert!(matches!(lost, admin::Error::Lost { .. }), "{lost}");
        b.ended().await;
        let b = cloud.start("b").await;
        let status = b.is(Role::Standby).await;
        assert_eq!(status.database != old, swapped, "{point}");
        assert_eq!(b.get("before").as_deref(), Some("seed"), "{point}");
        // And it can be done again.
        b.wait("it knows its slots", |status| !status.slots.is_empty()).await;
        seed(&a, &b).await;
        ship(&a, &b).await;
        assert_eq!(b.get("later").as_deref(), Some("value"), "{point}");
        assert!(!b.dir.join("db.old").exists(), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_lasts_until_the_seeds_position_is_applied() {
    let (cloud, a, b) = pair("").await;
    let (path, mut adopt) = bring_seed(&a, &b).await;
    a.run("SET later value").unwrap();
    let position = a.status().await.position;
    adopt.follow.as_mut().unwrap().until = position.sequence;
    b.admin.seed(&path, adopt).await.unwrap();
    assert_eq!(b.status().await.role, Role::Seeding);
    assert_eq!(b.refused("GET before"), "LOADING");
    b.kill();
    let b = cloud.start("b").await;
    b.is(Role::Seeding).await;
    b.wait("it knows its slots", |status| !status.slots.is_empty()).await;
    let history = a.status().await.history;
    ship_from(&a.dir, &history, &a, &b).await;
    assert_eq!(b.status().await.role, Role::Standby);
    assert_eq!(b.get("later").as_deref(), Some("value"));
}
