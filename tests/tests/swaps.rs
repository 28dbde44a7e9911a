//! A node's database is swapped just between what it said of itself and what its sidecar has it do by
//! that: it must not follow on from where the database before stood.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use admin::{Adopt, Follow};
use anyhow::ensure;
use tests::story::{STUCK, Story};
use tests::wait;
use topology::ShardName;

/// Keys of the slots of shard 1 of two.
fn write(story: &Story, cloud: &str, from: u32, to: u32) {
    let mut client = story.clouds.client(cloud).unwrap();
    for number in from..to {
        client.call(&["SET", &format!("{{b}}{number}"), "value"]).unwrap();
    }
}

fn status(runtime: &tokio::runtime::Runtime, address: &str) -> anyhow::Result<admin::Status> {
    let status = async { admin::Client::connect(address).await?.status().await };
    Ok(runtime.block_on(status)?)
}

/// What a node is to adopt that gets back what it has now.
fn adopt(status: &admin::Status, source: &ShardName) -> Adopt {
    let applied = &status.applied[source];
    let follow = Follow {
        source: source.clone(),
        position: applied.position,
        log_chain: applied.log_chain,
        stream_chain: applied.stream_chain,
        epoch: applied.epoch,
        until: applied.position.sequence,
    };
    Adopt::following(follow, applied.stamp)
}

#[test]
fn who_was_asked_before_its_database_was_swapped_is_asked_again() {
    let mut story = Story::begin_with(|mut plan| {
        let halves = plan.clouds[0].1.clone();
        plan.clouds.push(("c".to_owned(), halves));
        plan.with_env("c-0-sidecar", "GODWIT_FAILPOINTS", "before-follow")
    });
    write(&story, "a", 0, 200);
    story.equal("a", "c");
    let node = &story.clouds.shard("c/0").node;
    let (address, spool) = (node.admin.clone(), node.dir.join("spool"));
    let held = spool.join("before-follow.held");
    assert!(!held.exists(), "a seed says where it is followed from, nothing else does");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let old = runtime.block_on(async {
        let client = admin::Client::connect(&address).await.unwrap();
        // Nothing is applied between the two but heartbeats, which the checkpoint may have.
        let status = client.status().await.unwrap();
        let made = client.checkpoint("old").await.unwrap();
        (made.path, admin::Status { applied: made.applied, ..status })
    });
    write(&story, "a", 200, 400);
    story.equal("a", "c");

    // The new primary's log begins at another place: c is told to follow it. (One that had not applied all
    // of the former one's by then is seeded instead, and there is another switch.)
    let told = |story: &Story, to: &str| {
        story.switch(&["run", "--to", to, "--yes", "--no-wait-reverse"]);
        let of: ShardName = format!("{to}/0").parse().unwrap();
        let told = wait::until(&format!("c/0 to be told of {of}"), STUCK, || {
            let status = status(&runtime, &address)?;
            ensure!(held.exists() || status.applied.contains_key(&of), "{status:?}");
            Ok(held.exists())
        });
        let told = told.unwrap();
        if !told {
            story.equal(to, "c");
        }
        told
    };
    let to = ["b", "a", "b", "a"].into_iter().find(|to| told(&story, to));
    let to = to.expect("one of four switches finds c/0 level");
    let of: ShardName = format!("{to}/0").parse().unwrap();
    runtime.block_on(async {
        let client = admin::Client::connect(&address).await.unwrap();
        let source: ShardName = "a/0".parse().unwrap();
        client.activate(&old.0, adopt(&old.1, &source), false).await.unwrap();
        let now = client.status().await.unwrap();
        assert_ne!(now.database, old.1.database);
    });
    std::fs::write(spool.join("before-follow.go"), b"").unwrap();
    // Its source has called it streaming already: so its node is asked.
    let follows = wait::until("c/0 to follow on", STUCK, || {
        let status = status(&runtime, &address)?;
        let at = |status: &admin::Status| status.applied.get(&of).map(|applied| applied.position);
        ensure!(at(&status).is_some() && at(&status) != at(&old.1), "{status:?}");
        Ok(())
    });
    follows.unwrap();
    write(&story, to, 400, 500);
    story.equal(to, "c");
    let said = story.clouds.shard("c/0").sidecar.process.tail(2_000);
    assert!(said.contains("its database was swapped or opened again"), "{said}");
}
