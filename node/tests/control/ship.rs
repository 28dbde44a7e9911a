//! A sidecar of few words: reads log files, makes frames, brings them over.

use std::path::Path;

use admin::{Adopt, Follow};
use keyspace::{Hlc, SlotSet};
use topology::Epoch;
use wal::batch::BatchRef;
use wal::frame::{Codec, FrameBuilder};
use wal::log::LogDecoder;
use wal::{Chain, History, Position, Sequence};

use crate::cloud::{Cloud, Node, copy_dir, eventually};

/// Every batch in the log files of a node's directory, in order.
pub(crate) fn batches(dir: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for folder in [dir.join("db"), dir.join("db/archive")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                files.push((number, path));
            }
        }
    }
    files.sort();
    let mut batches = Vec::new();
    for (_, path) in files {
        let mut decoder = LogDecoder::new();
        decoder.feed(&std::fs::read(path).unwrap());
        while let Ok(Some(record)) = decoder.next() {
            batches.push(record.bytes.to_vec());
        }
    }
    batches
}

/// Frames of what a log has after a position, one for each timeline.
pub(crate) fn frames(dir: &Path, history: &History, at: Position, chain: Chain) -> Vec<Vec<u8>> {
    let mut builder = FrameBuilder::new(at, chain, 0, Hlc(0));
    let mut frames = Vec::new();
    for bytes in batches(dir) {
        let batch = BatchRef::parse(&bytes).unwrap();
        if batch.sequence() <= at.sequence {
            continue;
        }
        let start = history.starts().iter().find(|start| start.first == batch.sequence());
        if let Some(start) = start {
            frames.extend(builder.finish(Codec::None, Chain(1)));
            builder.begin_timeline(start.timeline).unwrap();
        }
        builder.push(&batch, &SlotSet::all()).unwrap();
    }
    frames.extend(builder.finish(Codec::None, Chain(2)));
    frames
}

/// Brings all that `from` has written to `to`, which follows it.
pub(crate) async fn ship(from: &Node, to: &Node) -> Sequence {
    let history = from.status().await.history;
    ship_from(&from.dir, &history, from, to).await
}

/// The same of a directory whose node may be dead.
pub(crate) async fn ship_from(dir: &Path, history: &History, from: &Node, to: &Node) -> Sequence {
    let applied = to.status().await.applied[&from.shard].clone();
    let mut now = applied.position.sequence;
    for frame in frames(dir, history, applied.position, applied.stream_chain) {
        now = to.admin.apply(&from.shard, &frame).await.unwrap();
    }
    now
}

/// Puts a copy of `from` into the directory of `to`, and says what it is to adopt.
pub(crate) async fn bring_seed(from: &Node, to: &Node) -> (std::path::PathBuf, Adopt) {
    let info = from.admin.checkpoint("seed").await.unwrap();
    let seed = to.dir.join("seed");
    let _ = std::fs::remove_dir_all(&seed);
    copy_dir(&info.path, &seed);
    from.admin.drop_checkpoint("seed").await.unwrap();
    let follow = Follow {
        source: from.shard.clone(),
        position: info.position,
        log_chain: Chain(0),
        stream_chain: Chain(7),
        epoch: Epoch(1),
        until: info.position.sequence,
    };
    (seed, Adopt::following(follow, Hlc(0)))
}

pub(crate) async fn seed(from: &Node, to: &Node) {
    let (path, adopt) = bring_seed(from, to).await;
    to.admin.seed(&path, adopt).await.unwrap();
}

/// Cluster a is primary, b is seeded from it and follows.
pub(crate) async fn pair(failpoints: &str) -> (Cloud, Node, Node) {
    let cloud = Cloud::new().await;
    let a = cloud.start("a").await;
    a.writable().await;
    a.run("SET before seed").unwrap();
    let b = cloud.start_with("b", failpoints).await;
    b.is(topology::members::Role::Standby).await;
    seed(&a, &b).await;
    (cloud, a, b)
}

/// The digests of both at one position.
pub(crate) async fn compare(primary: &Node, standby: &Node) -> (admin::Digest, admin::Digest) {
    let barrier = primary.admin.barrier().await.unwrap();
    ship(primary, standby).await;
    let of = |node: &Node| {
        let admin = node.admin.clone();
        async move { eventually("a digest", || async { admin.digest(barrier.id).await.ok() }).await }
    };
    let both = (of(primary).await, of(standby).await);
    assert_eq!((both.0.position, both.1.position), (barrier.position, barrier.position));
    both
}
