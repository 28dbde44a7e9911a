//! `list` and `show`: the sealed snapshots of a repository.

use std::fmt::Write as _;

use keyspace::Hlc;
use ops::exit::Exit;
use serde_json::{Value, json};
use store::SnapshotId;
use store::repository::plan::time;
use store::repository::{Snapshot, State};

use crate::content::Content;
use crate::from::FromArgs;
use crate::report;

/// Lists them, oldest first.
///
/// # Errors
/// The repository cannot be read.
pub async fn list(from: &FromArgs) -> anyhow::Result<Exit> {
    let snapshots = from.snapshots().await?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (snapshot, state) in snapshots.list() {
        if text.is_empty() {
            text = format!(
                "{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}  {}",
                "SNAPSHOT", "STATE", "SERVICE", "CLUSTER", "SHARDS", "SIZE", "SEALED"
            );
        }
        let line = write!(
            text,
            "\n{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}  {}",
            snapshot.id,
            word(*state),
            snapshot.service,
            snapshot.cluster,
            snapshot.shards.len(),
            report::size(snapshot.bytes()),
            time(Hlc::new(snapshot.sealed_at, 0)),
        );
        line.expect("a string takes all");
        all.push(summary(snapshot, *state));
    }
    if text.is_empty() {
        "no sealed snapshots".clone_into(&mut text);
    }
    report::print(from.output, &text, &json!({ "snapshots": all }));
    Ok(Exit::Done)
}

/// Shows one of them, shard by shard.
///
/// # Errors
/// The repository cannot be read, or there is no such snapshot.
pub async fn show(from: &FromArgs, id: Option<&SnapshotId>) -> anyhow::Result<Exit> {
    let snapshots = from.snapshots().await?;
    let snapshot = from.choose(&snapshots, id)?;
    let (_, state) = snapshots.get(&snapshot.id)?;
    let mut shown = summary(&snapshot, *state);
    let mut text = format!(
        "snapshot {}: {} of {}/{}, sealed {}, {}",
        snapshot.id,
        word(*state),
        snapshot.service,
        snapshot.cluster,
        time(Hlc::new(snapshot.sealed_at, 0)),
        report::size(snapshot.bytes())
    );
    if let Some(cut) = snapshot.cut {
        let line = write!(text, "\none cut in time for all shards: {}", time(cut));
        line.expect("a string takes all");
    }
    let mut shards = Vec::new();
    for n in 0..snapshot.shards.len() {
        let content = Content::open(snapshots.repository(), &snapshots, &snapshot, n).await?;
        let manifest = &content.manifest;
        let (end, position) = (manifest.end(), manifest.position);
        let digest = manifest.digest.as_ref();
        let line = write!(
            text,
            "\n{}: slots {}, at {end}; {} files of {} at {position}, then {} segments of {}; {}",
            manifest.shard,
            manifest.slots,
            manifest.files.len(),
            report::size(manifest.bytes()),
            manifest.log.len(),
            report::size(manifest.log_bytes()),
            digest.map_or_else(
                || "no digest".to_owned(),
                |digest| format!("digest of {} keys", digest.total.keys)
            ),
        );
        line.expect("a string takes all");
        shards.push(json!({
            "shard": manifest.shard, "slots": manifest.slots, "position": end,
            "files-position": position, "files": manifest.files.len(), "bytes": manifest.bytes(),
            "segments": manifest.log.len(), "log-bytes": manifest.log_bytes(),
            "stamp-ms": content.stamp().ms(), "epoch": manifest.epoch,
            "taken-at": time(Hlc::new(manifest.taken_at, 0)),
            "digest": digest.map(|digest| json!({
                "position": digest.position, "total": digest.total,
            })),
        }));
    }
    shown["shards"] = Value::Array(shards);
    report::print(from.output, &text, &shown);
    Ok(Exit::Done)
}

fn summary(snapshot: &Snapshot, state: State) -> Value {
    json!({
        "snapshot": snapshot.id, "state": state, "service": snapshot.service,
        "cluster": snapshot.cluster, "shards": snapshot.shards.len(), "bytes": snapshot.bytes(),
        "sealed_at": time(Hlc::new(snapshot.sealed_at, 0)), "cut-ms": snapshot.cut.map(Hlc::ms),
    })
}

fn word(state: State) -> &'static str {
    match state {
        State::Sealed => "sealed",
        State::Verified => "verified",
        State::Proven => "proven",
    }
}
