//! `list` and `show`: the sealed snapshots of a repository.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use keyspace::Hlc;
use ops::exit::Exit;
use serde_json::{Value, json};
use store::SnapshotId;
use store::repository::plan::time;
use store::repository::snapshots::Known;
use store::repository::{Repository, Snapshot, State};

use crate::content::Content;
use crate::from::FromArgs;
use crate::materialise::Place;
use crate::report;

/// Which repository, and where its snapshots are materialised.
#[derive(clap::Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    from: FromArgs,
    /// Where snapshots are materialised [default: REPOSITORY.materialised]
    #[arg(long, env = "GODWIT_MATERIALISED", value_name = "DIR")]
    materialised: Option<PathBuf>,
}

impl ListArgs {
    /// Of each snapshot, its shards that are materialised.
    fn materialised(
        &self,
        repository: &Repository,
    ) -> anyhow::Result<BTreeMap<SnapshotId, Vec<String>>> {
        let Ok(place) = Place::new(self.materialised.as_deref(), &self.from.from) else {
            return Ok(BTreeMap::new());
        };
        let mut all: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
        let id = &repository.header().id;
        for one in place.list()?.into_iter().filter(|one| one.record.repository == *id) {
            all.entry(one.record.snapshot).or_default().push(one.record.shard.to_string());
        }
        Ok(all)
    }
}

/// Lists them, oldest first.
///
/// # Errors
/// The repository cannot be read.
pub async fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let from = &args.from;
    let snapshots = from.snapshots().await?;
    let materialised = args.materialised(snapshots.repository())?;
    let none = Vec::new();
    let (mut text, mut all) = (String::new(), Vec::new());
    for (snapshot, state) in snapshots.list() {
        let known = snapshots.known_of(&snapshot.id);
        if text.is_empty() {
            text = format!(
                "{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}  {:<24}  {}",
                "SNAPSHOT",
                "STATE",
                "SERVICE",
                "CLUSTER",
                "SHARDS",
                "SIZE",
                "SEALED",
                "MATERIALISED"
            );
        }
        let here = materialised.get(&snapshot.id).unwrap_or(&none);
        let line = write!(
            text,
            "\n{:<26} {:<9} {:<12} {:<9} {:>6} {:>11}  {:<24}  {}",
            snapshot.id.as_str(),
            word(*state, known),
            snapshot.service,
            snapshot.cluster,
            snapshot.shards.len(),
            report::size(snapshot.bytes()),
            time(Hlc::new(snapshot.sealed_at, 0)),
            if here.is_empty() { "-".to_owned() } else { here.join(" ") },
        );
        line.expect("a string takes all");
        all.push(summary(snapshot, (*state, known), here));
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
pub async fn show(args: &ListArgs, id: Option<&SnapshotId>) -> anyhow::Result<Exit> {
    let from = &args.from;
    let snapshots = from.snapshots().await?;
    let snapshot = from.choose(&snapshots, id)?;
    let (_, state) = snapshots.get(&snapshot.id)?;
    let here = args.materialised(snapshots.repository())?.remove(&snapshot.id).unwrap_or_default();
    let known = snapshots.known_of(&snapshot.id);
    let mut shown = summary(&snapshot, (*state, known), &here);
    let mut text = format!(
        "snapshot {}: {} of {}/{}, sealed {}, {}",
        snapshot.id,
        word(*state, known),
        snapshot.service,
        snapshot.cluster,
        time(Hlc::new(snapshot.sealed_at, 0)),
        report::size(snapshot.bytes())
    );
    if let Some(cut) = snapshot.cut {
        let line = write!(text, "\none cut in time for all shards: {}", time(cut));
        line.expect("a string takes all");
    }
    let at = |ms| time(Hlc::new(ms, 0));
    for (what, found) in [
        ("found damaged", known.damaged_at),
        ("last verified", known.verified_at),
        ("last proven", known.proven_at),
    ] {
        if let Some(ms) = found {
            write!(text, "\n{what}: {}", at(ms)).expect("a string takes all");
        }
    }
    if !here.is_empty() {
        write!(text, "\nmaterialised: {}", here.join(", ")).expect("a string takes all");
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

fn summary(snapshot: &Snapshot, (state, known): (State, Known), materialised: &[String]) -> Value {
    let at = |ms: Option<u64>| ms.map(|ms| time(Hlc::new(ms, 0)));
    json!({
        "snapshot": snapshot.id, "state": state, "service": snapshot.service,
        "verified-at": at(known.verified_at), "proven-at": at(known.proven_at),
        "damaged-at": at(known.damaged_at),
        "cluster": snapshot.cluster, "shards": snapshot.shards.len(), "bytes": snapshot.bytes(),
        "sealed_at": time(Hlc::new(snapshot.sealed_at, 0)), "cut-ms": snapshot.cut.map(Hlc::ms),
        "materialised": materialised,
    })
}

fn word(state: State, known: Known) -> &'static str {
    if known.damaged_at.is_some() {
        return "DAMAGED";
    }
    match state {
        State::Sealed => "sealed",
        State::Verified => "verified",
        State::Proven => "proven",
    }
}
