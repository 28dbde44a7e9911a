//! `cluster add` and `cluster remove`: who follows, changed while everything runs.
//!
//! Neither takes an epoch: who may write stays as it is. The primaries' sidecars watch the record,
//! so a cluster that is added is seeded and followed by itself, and what is kept for one that is
//! removed is let go of.

use keyspace::SlotSet;
use ops::exit::{Exit, Stop};
use serde_json::json;
use topology::record::{Cluster, Phase};
use topology::{Outcome, Record, Revision};

use crate::init::names;
use crate::plan::active;
use crate::tool::Tool;

/// `cluster add NAME=SLOTS,...`
pub(crate) async fn add(
    tool: &Tool,
    (name, slots): (String, Vec<SlotSet>),
) -> anyhow::Result<Exit> {
    let cluster = Cluster::of(slots);
    let shards = cluster.shards.len();
    let (_, record, revision) = tool.view()?;
    match record.clusters.get(&name) {
        Some(held) if held.has_slots_of(&cluster) => {
            return said(tool, "cluster-add", &record, &name, "is in the service already, just so");
        }
        Some(_) => {
            return Err(refused(format!(
                "cluster `{name}` is in the service already, with other shards; nothing was changed: remove it first, or choose another name"
            )));
        }
        None => {}
    }
    steady(&record)?;
    let mut next = record;
    next.clusters.insert(name.clone(), cluster);
    next.validate().map_err(|why| Stop::new(Exit::Usage, why))?;
    if tool.dry_run {
        let what = format!("would be added with {shards} shards; nothing was changed");
        return said(tool, "cluster-add", &next, &name, &what);
    }
    swap(tool, revision, &next).await?;
    let what = format!(
        "was added with {shards} shards: start its nodes and sidecars, they are seeded and follow by themselves"
    );
    said(tool, "cluster-add", &next, &name, &what)
}

/// `cluster remove NAME`
pub(crate) async fn remove(tool: &Tool, name: &str, yes: bool) -> anyhow::Result<Exit> {
    let (_, record, revision) = tool.view()?;
    if !record.clusters.contains_key(name) {
        let there = names(&record.clusters);
        let what = format!("is not in the service; there are: {there}");
        return said(tool, "cluster-remove", &record, name, &what);
    }
    if record.primaries.iter().any(|primary| primary.cluster == name) {
        return Err(refused(format!(
            "cluster `{name}` accepts the writes of the service; nothing was changed: `run --to` another cluster first"
        )));
    }
    steady(&record)?;
    let left = record.clusters.keys().filter(|other| *other != name).count();
    if !yes || tool.dry_run {
        let last = match left {
            1 => {
                " It is the last follower: from then on a cloud that is lost takes the data with it."
            }
            _ => "",
        };
        return Err(refused(format!(
            "cluster `{name}` would be followed up no more: its nodes serve nothing from then on, its data stays on their disks, and to come back it is seeded.{last} Nothing was changed: say --yes to do it"
        )));
    }
    let mut next = record;
    next.clusters.remove(name);
    swap(tool, revision, &next).await?;
    let what =
        "was removed: end its processes when you like; what the sidecars kept for it is let go of";
    said(tool, "cluster-remove", &next, name, what)
}

/// Of several who change the record at once, one wins; the others look again, so often.
const TRIES_MAX: u32 = 16;

/// Puts a cluster into the record, or finds it there just so; the revision of the record that has it.
pub(crate) async fn put_cluster(
    tool: &Tool,
    name: &str,
    cluster: &Cluster,
) -> anyhow::Result<Revision> {
    for _ in 0..TRIES_MAX {
        let (record, revision) = read(tool).await?;
        match record.clusters.get(name) {
            Some(held) if held == cluster => return Ok(revision),
            Some(_) => {
                return Err(refused(format!(
                    "cluster `{name}` is in the service, with other shards"
                )));
            }
            None => steady(&record)?,
        }
        tool.still_claimed()?;
        let mut next = record;
        next.clusters.insert(name.to_owned(), cluster.clone());
        if let Outcome::Committed(revision) = tool.service.swap_record(revision, &next).await? {
            return Ok(revision);
        }
    }
    anyhow::bail!("the record changed {TRIES_MAX} times while `{name}` was to be added: try again")
}

/// Takes a cluster out of the record, unless it is primary of anything or a switch is under way.
pub(crate) async fn drop_cluster(tool: &Tool, name: &str) -> anyhow::Result<()> {
    for _ in 0..TRIES_MAX {
        let (record, revision) = read(tool).await?;
        if !record.clusters.contains_key(name) {
            return Ok(());
        }
        steady(&record)?;
        if record.primaries.iter().any(|primary| primary.cluster == name) {
            return Err(refused(format!("cluster `{name}` accepts the writes of the service")));
        }
        let mut next = record;
        next.clusters.remove(name);
        if let Outcome::Committed(_) = tool.service.swap_record(revision, &next).await? {
            return Ok(());
        }
    }
    anyhow::bail!(
        "the record changed {TRIES_MAX} times while `{name}` was to be removed: try again"
    )
}

/// The record, read now.
async fn read(tool: &Tool) -> anyhow::Result<(Record, Revision)> {
    match tool.service.read_record().await? {
        Some(found) => Ok(found),
        None => anyhow::bail!("service `{}` has no record in this registry", tool.service.name()),
    }
}

/// Who follows is not changed while a switch counts on it.
fn steady(record: &Record) -> anyhow::Result<()> {
    match &record.phase {
        Phase::Steady => Ok(()),
        Phase::Frozen(freeze) => Err(refused(format!(
            "a switch to `{}` is under way ({}); nothing was changed: wait for its end, or `abort` it",
            freeze.to, freeze.id
        ))),
    }
}

async fn swap(tool: &Tool, revision: Revision, next: &Record) -> anyhow::Result<()> {
    match tool.service.swap_record(revision, next).await? {
        Outcome::Conflict => anyhow::bail!(
            "the record changed while it was read; nothing was changed: look at `status` and try again"
        ),
        _ => Ok(()),
    }
}

fn refused(why: String) -> anyhow::Error {
    Stop::new(Exit::Refused, why).into()
}

fn said(
    tool: &Tool,
    operation: &str,
    record: &Record,
    name: &str,
    what: &str,
) -> anyhow::Result<Exit> {
    let clusters: Vec<_> = record.clusters.keys().collect();
    let json = json!({
        "operation": operation,
        "service": record.service,
        "cluster": name,
        "clusters": clusters,
        "active": active(record),
        "epoch": record.epoch,
        "exit": 0,
    });
    tool.result(&format!("cluster `{name}` {what}"), &json).map(|()| Exit::Done)
}
