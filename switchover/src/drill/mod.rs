//! `drill`: rehearses a takeover on forks of the standbys, and throws the forks away.
//!
//! Each standby node makes a checkpoint, whose files are hard links. A node of its own opens that, in a
//! registry of its own that nobody else knows: there the clusters that are active are gone. It becomes a
//! primary; then somebody writes and reads there. The service itself is only read.
//!
//! Who does that: the sidecar of each standby, asked through the registry ([`there`]), so that the tool
//! may be anywhere; or this tool, on the machine of the nodes ([`here`]), which then rehearses all shards together,
//! the switch and a proxy too.

mod drilled;
mod here;
mod scratch;
mod there;

use std::path::{Path, PathBuf};

use ops::exit::{Exit, Stop};
use serde_json::json;
use topology::members::{NodeMember, Role};
use topology::operator::{DRILL, Note};
use topology::record::UnixMs;
use topology::{Record, ServiceView, ShardName};

use crate::args::Rehearsal;
use crate::claim::Patience;
use crate::init::names;
use crate::plan::{active, pairs};
use crate::tool::Tool;

use drilled::Drilled;

/// A node that is to be forked.
struct Standby {
    shard: ShardName,
    /// Its admin listener.
    admin: String,
    /// Its directory.
    dir: PathBuf,
}

/// `drill`.
pub(crate) async fn drill(tool: &Tool, how: &Rehearsal) -> anyhow::Result<Exit> {
    let (view, record, _) = tool.view()?;
    let nodes = standbys(tool, &record, &how.to)?;
    let by_sidecars = !how.here && chosen(&view, &nodes)?;
    if by_sidecars || how.here {
        fit(&view, &nodes, by_sidecars)?;
    }
    let shards = nodes.iter().map(|n| n.shard.to_string()).collect::<Vec<_>>().join(", ");
    if tool.dry_run {
        let text = match by_sidecars {
            true => format!(
                "would have the sidecars of {shards} fork their nodes, promote each fork alone, write and read there, and delete them"
            ),
            false => format!(
                "would fork {shards} on this machine, fail the forks over to `{}` in a registry of their own, write and read there, and delete them",
                how.to
            ),
        };
        let json = json!({"operation": "drill", "message": text, "exit": 0});
        return tool.result(&text, &json).map(|()| Exit::Done);
    }
    let work = Box::pin(rehearse(tool, how, record, nodes, by_sidecars));
    let drilled = tool.claimed("drill", Patience::None, work).await?;
    tool.result(&drilled.text(), &drilled)?;
    Ok(if drilled.good { Exit::Done } else { Exit::Failed })
}

fn refused(why: String) -> Stop {
    Stop::new(Exit::Refused, format!("{why}; nothing was changed"))
}

/// The nodes that would be forked; refused if they cannot be.
fn standbys(tool: &Tool, record: &Record, to: &str) -> Result<Vec<Standby>, Stop> {
    let refuse = |why: String| Err(refused(why));
    if !record.clusters.contains_key(to) {
        let why = format!("there is no cluster `{to}`; there are: {}", names(&record.clusters));
        return Err(Stop::new(Exit::Usage, why));
    }
    if let Some(freeze) = record.freeze() {
        return refuse(format!("a freeze to `{}` is under way", freeze.to));
    }
    let view = tool.service.view();
    let mut nodes = Vec::new();
    for (shard, _) in record.shards().filter(|(shard, _)| shard.cluster == to) {
        let Some(NodeMember { role, disk_free, admin, dir, .. }) = view.nodes.get(&shard) else {
            return refuse(format!("{shard} is not there"));
        };
        if *role != Role::Standby {
            return refuse(format!("{shard} is {role:?}, and a drill forks standbys"));
        }
        if disk_free.is_some_and(|free| free < tool.config.guards.min_disk_free.bytes()) {
            return refuse(format!(
                "{shard} has less than {} free (min-disk-free)",
                tool.config.guards.min_disk_free
            ));
        }
        nodes.push(Standby { shard, admin: admin.clone(), dir: PathBuf::from(dir) });
    }
    let unknown = pairs(record, &record.primaries, to).into_iter().find(|(source, target)| {
        let node = view.nodes.get(target);
        node.is_none_or(|n| !n.applied.contains_key(&source.to_string()))
    });
    match unknown {
        Some((source, target)) => refuse(format!("{target} has applied nothing of {source}")),
        None => Ok(nodes),
    }
}

/// Whether sidecars do it: if each can. Where not all can, all nodes must be here.
fn chosen(view: &ServiceView, nodes: &[Standby]) -> Result<bool, Stop> {
    let has_not = |n: &&Standby| view.sidecars.get(&n.shard).is_none_or(|s| s.drill.is_none());
    let without: Vec<_> = nodes.iter().filter(has_not).map(|node| node.shard.to_string()).collect();
    match nodes.iter().find(|node| !is_here(&node.dir)) {
        _ if without.is_empty() => Ok(true),
        None => Ok(false),
        Some(away) => Err(refused(format!(
            "the directory {} of {} is not on this machine, or may not be read, and the sidecars of {} do no drills: start these with --drill-node, or run the drill where all nodes are, as their user",
            away.dir.display(),
            away.shard,
            without.join(", ")
        ))),
    }
}

/// Refuses where whoever was chosen cannot do it now.
fn fit(view: &ServiceView, nodes: &[Standby], by_sidecars: bool) -> Result<(), Stop> {
    for Standby { shard, dir, .. } in nodes {
        if !by_sidecars {
            if !is_here(dir) {
                return Err(refused(format!(
                    "the directory {} of {shard} is not on this machine, or may not be read: run --here where all nodes are, as their user",
                    dir.display()
                )));
            }
            continue;
        }
        let state = view.sidecars.get(shard).and_then(|sidecar| sidecar.drill.as_ref());
        if let Some(state) = state.filter(|state| state.state == "unable") {
            let reason = state.reason.as_deref().unwrap_or("it does not say why");
            return Err(refused(format!("the sidecar of {shard} can do no drill: {reason}")));
        }
    }
    Ok(())
}

fn is_here(dir: &Path) -> bool {
    dir.is_dir()
}

/// Rehearses, cleans up, and notes what came of it.
async fn rehearse(
    tool: &Tool,
    how: &Rehearsal,
    record: Record,
    nodes: Vec<Standby>,
    by_sidecars: bool,
) -> anyhow::Result<Drilled> {
    let began = UnixMs::now();
    let id = format!("{:032x}", rand::random::<u128>());
    let mut drilled = Drilled {
        operation: "drill",
        id: id.clone(),
        to: how.to.clone(),
        by: if by_sidecars { "sidecars" } else { "this machine" },
        ..Drilled::default()
    };
    let (played, left) = match by_sidecars {
        true => (there::rehearse(tool, how, &nodes, &mut drilled).await, Vec::new()),
        false => here::rehearse(tool, how, &record, nodes, &mut drilled).await?,
    };
    drilled.message = match (&played, left.is_empty()) {
        (Ok(()), true) => "it would work; nothing of the service was touched".to_owned(),
        (Ok(()), false) => format!("it would work; remove what is left: {}", left.join(", ")),
        (Err(why), _) => {
            let left = if left.is_empty() {
                String::new()
            } else {
                format!("; remove what is left: {}", left.join(", "))
            };
            format!("FAILED: {}; nothing of the service was touched{left}", ops::cli::sentence(why))
        }
    };
    drilled.good = played.is_ok();
    drilled.exit = if drilled.good { Exit::Done } else { Exit::Failed }.code();
    let note = Note {
        at: began,
        says: drilled.message.clone(),
        good: drilled.good,
        detail: json!({"id": id, "to": how.to, "by": drilled.by}),
    };
    tool.service.put_note(DRILL, &note).await?;
    let journal = tool.signed(json!({
        "operation": "drill", "from": active(&record), "to": how.to, "began_ms": began,
        "state": if drilled.good { "done" } else { "failed" }, "steps": [], "drill": drilled,
    }));
    tool.service.put_journal(&id, &journal).await?;
    Ok(drilled)
}
