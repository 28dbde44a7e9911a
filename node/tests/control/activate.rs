//! A database whose files lie elsewhere, taken in by links.

use admin::{Adopt, Code, Follow};
use keyspace::Hlc;
use topology::Epoch;
use topology::members::Role;
use wal::Chain;

use crate::cloud::Node;
use crate::ship::{pair, ship};

/// A checkpoint of a node, and what a standby that has it follows.
async fn offered(from: &Node) -> (std::path::PathBuf, Adopt) {
    let info = from.admin.checkpoint("elsewhere").await.unwrap();
    let follow = Follow {
        source: from.shard.clone(),
        position: info.position,
        log_chain: Chain(0),
        stream_chain: Chain(7),
        epoch: Epoch(1),
        until: info.position.sequence,
    };
    (info.path, Adopt::following(follow, Hlc(0)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_links_it_and_goes_on_with_the_log_from_there() {
    let (_cloud, a, b) = pair("").await;
    a.run("SET at checkpoint").unwrap();
    let (path, adopt) = offered(&a).await;
    a.run("SET later value").unwrap();
    let old = b.status().await.database;
    b.admin.activate(&path, adopt.clone(), false).await.unwrap();
    let status = b.is(Role::Standby).await;
    assert_ne!(status.database, old);
    assert_eq!(b.get("at").as_deref(), Some("checkpoint"));
    assert_eq!(b.get("later"), None);
    ship(&a, &b).await;
    assert_eq!(b.get("later").as_deref(), Some("value"));
    // It is there still, for the next one.
    b.admin.activate(&path, adopt, true).await.unwrap();
    assert_eq!(b.get("later"), None);
    assert!(!b.dir.join("activate").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_primary_has_or_nobody_else_is_not_thrown_away() {
    let (cloud, a, b) = pair("").await;
    let (path, adopt) = offered(&a).await;
    let refused = a.admin.activate(&path, adopt.clone(), false).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role));
    let alone = Adopt { follow: None, ..adopt.clone() };
    let refused = b.admin.activate(&path, alone, false).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to a service"), "{refused}");
    let refused = b.admin.activate(path.join("none").as_path(), adopt.clone(), false).await;
    assert!(refused.unwrap_err().to_string().contains("no RocksDB database"));

    // It was a primary until a moment ago, and who took over has not been followed yet.
    ship(&a, &b).await;
    cloud.commit("b").await;
    b.is(Role::Primary).await;
    a.is(Role::Standby).await;
    let old = a.status().await.database;
    let (path, adopt) = offered(&b).await;
    let refused = a.admin.activate(&path, adopt, false).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Role));
    assert!(refused.to_string().contains("alone acknowledged"), "{refused}");
    assert_eq!(a.status().await.database, old);
    assert_eq!(a.get("before").as_deref(), Some("seed"));
}
