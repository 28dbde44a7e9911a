//! `doctor`: everything that a switch would need, looked at while there is time to mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use admin::{Access, Client};
use ops::exit::Exit;
use serde::Serialize;
use topology::operator::DRILL;
use topology::record::{Cause, UnixMs};
use topology::{Record, ServiceView, ShardName};

use crate::args::{Accept, Scope};
use crate::plan::Plan;
use crate::resize::Open;
use crate::time::ago;
use crate::tool::Tool;

/// How long a node may take to answer.
const ASK_WAIT: Duration = Duration::from_secs(3);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    Good,
    /// A switch would work, and something is amiss.
    Warn,
    /// A switch would not work, or not as promised.
    Bad,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    check: String,
    health: Health,
    detail: String,
}

fn finding(check: impl Into<String>, health: Health, detail: impl Into<String>) -> Finding {
    Finding { check: check.into(), health, detail: detail.into() }
}

fn from(check: impl Into<String>, problems: &[String], health: Health, well: &str) -> Finding {
    match problems.is_empty() {
        true => finding(check, Health::Good, well),
        false => finding(check, health, problems.join("; ")),
    }
}

/// Every shard has a node and a sidecar beside it.
fn presence(view: &ServiceView, record: &Record) -> Finding {
    let mut problems = Vec::new();
    for (shard, _) in record.shards() {
        if !view.nodes.contains_key(&shard) {
            problems.push(format!("the node of {shard} is not there"));
        }
        if !view.sidecars.contains_key(&shard) {
            problems.push(format!(
                "the sidecar of {shard} is not there: start godwit-replicator beside its node"
            ));
        }
    }
    from("members", &problems, Health::Bad, "each shard has its node and its sidecar")
}

fn versions(view: &ServiceView) -> Finding {
    let nodes = view.nodes.values().map(|n| ("nodes", n.version.clone()));
    let sidecars = view.sidecars.values().map(|s| ("sidecars", s.version.clone()));
    let proxies = view.proxies.values().map(|p| ("proxies", p.version.clone()));
    let mut by_kind: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (kind, version) in nodes.chain(sidecars).chain(proxies) {
        by_kind.entry(kind).or_default().insert(version);
    }
    let mixed = by_kind.iter().filter(|(_, versions)| versions.len() > 1);
    let problems: Vec<_> = mixed
        .map(|(kind, versions)| {
            let all: Vec<_> = versions.iter().map(String::as_str).collect();
            format!("{kind} of versions {}: finish the upgrade", all.join(" and "))
        })
        .collect();
    from("versions", &problems, Health::Warn, "one of each kind of program")
}

/// Whether the primaries let the same users in: each shard has its own, and is told of changes by itself.
fn users(view: &ServiceView, record: &Record) -> Finding {
    let of = |shard: &ShardName| view.nodes.get(shard).and_then(|node| node.users.clone());
    let first = record.primaries.first().and_then(|shard| Some((shard, of(shard)?)));
    let differ = |shard: &&ShardName| {
        let known = first.as_ref().zip(of(shard));
        known.is_some_and(|((_, ours), theirs)| *ours != theirs)
    };
    let names: Vec<_> = record.primaries.iter().filter(differ).map(ToString::to_string).collect();
    let problem = first.as_ref().filter(|_| !names.is_empty()).map(|(shard, _)| {
        format!(
            "{} and {shard} let other users in (ACL LIST): give each primary the same commands",
            names.join(", ")
        )
    });
    let problems: Vec<_> = problem.into_iter().collect();
    from("users", &problems, Health::Warn, "the same at all primaries")
}

/// The plans of a switch to each other cluster, planned and unplanned.
async fn plans(tool: &Tool, record: &Record) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for to in record.clusters.keys().filter(|name| record.active() != Some(name)) {
        for (cause, name) in [(Cause::Switchover, "run"), (Cause::Failover, "failover")] {
            let plan = Plan::of(tool, cause, (to, &Scope::default()), Accept::Any).await?;
            for guard in plan.guards.iter().filter(|g| !g.pass) {
                let check = format!("{name} --to {to}: {}", guard.guard);
                found.push(finding(check, Health::Bad, &*guard.detail));
            }
            if !plan.refused {
                found.push(finding(format!("{name} --to {to}"), Health::Good, "would go ahead"));
            }
        }
    }
    if found.is_empty() {
        found.push(finding("clusters", Health::Bad, "there is no other cluster to go to"));
    }
    Ok(found)
}

/// Whether each node answers where it says that control commands go. A switch needs nothing of that;
/// `verify`, and who mends something, does.
async fn admin_listeners(view: &ServiceView, access: &Access) -> Finding {
    let mut problems = Vec::new();
    for (shard, node) in &view.nodes {
        if let Err(why) = answers(shard, &node.admin, access).await {
            problems.push(why);
        }
    }
    let well = format!("{} nodes answer", view.nodes.len());
    from("admin", &problems, Health::Warn, &well)
}

async fn answers(shard: &ShardName, address: &str, access: &Access) -> Result<(), String> {
    let asked = async { Client::connect_as(address, access).await?.status().await };
    match tokio::time::timeout(ASK_WAIT, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(format!("{shard} at {address}: {why}")),
        Err(_) => Err(format!("{shard} at {address} does not answer within {ASK_WAIT:?}")),
    }
}

/// Whether this machine could run a switch: its journal and its hooks.
fn here(tool: &Tool) -> Vec<Finding> {
    let dir = &tool.config.journal;
    let probe = dir.join(format!("PROBE-{}", std::process::id()));
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"1"))
        .and_then(|()| std::fs::remove_file(&probe));
    let mut found = vec![match written {
        Ok(()) => finding("journal", Health::Good, format!("{} can be written", dir.display())),
        Err(why) => finding(
            "journal",
            Health::Bad,
            format!("{} cannot be written ({why}): no switch begins without", dir.display()),
        ),
    }];
    let hooks =
        [("hook-before", &tool.config.hooks.before), ("hook-after", &tool.config.hooks.after)];
    for (name, hook) in hooks {
        let Some(hook) = hook else { continue };
        let runs = std::fs::metadata(hook).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
        found.push(match runs {
            true => finding(name, Health::Good, format!("{} is a program", hook.display())),
            false => {
                finding(name, Health::Bad, format!("{} cannot be run: chmod +x it", hook.display()))
            }
        });
    }
    found
}

fn last_drill(view: &ServiceView) -> Finding {
    let since = |at: UnixMs| ago(UnixMs::now().0.saturating_sub(at.0));
    match view.notes.get(DRILL) {
        None => finding("drill", Health::Warn, "none is known: rehearse a switch with `drill`"),
        Some(note) if note.good => finding("drill", Health::Good, since(note.at)),
        Some(note) => {
            finding("drill", Health::Warn, format!("{} it failed: {}", since(note.at), note.says))
        }
    }
}

/// Looks at everything.
pub(crate) async fn look(tool: &Tool, access: &Access) -> anyhow::Result<Vec<Finding>> {
    let (view, record, _) = tool.view()?;
    tool.service.read_record().await?;
    let mut found =
        vec![finding("registry", Health::Good, "it answers, and the record can be read")];
    let odd: Vec<_> = view.problems.iter().map(|(key, why)| format!("{key}: {why}")).collect();
    found.push(from("keys", &odd, Health::Warn, "all can be understood"));
    found.push(presence(&view, &record));
    if view.proxies.is_empty() {
        let why = "no proxy is registered: clients would have to find the new primaries themselves";
        found.push(finding("proxies", Health::Warn, why));
    }
    found.push(versions(&view));
    found.push(users(&view, &record));
    found.extend(plans(tool, &record).await?);
    found.push(admin_listeners(&view, access).await);
    found.extend(here(tool));
    if let Some(open) = Open::find(tool).await? {
        found.push(finding("resize", Health::Warn, open.text()));
    }
    found.push(last_drill(&view));
    if let Some(quiet) = &view.maintenance {
        let why = format!(
            "on since {}, by {}",
            ago(UnixMs::now().0.saturating_sub(quiet.since.0)),
            quiet.by
        );
        found.push(finding("maintenance", Health::Warn, why));
    }
    Ok(found)
}

#[derive(Serialize)]
struct Doctor {
    operation: &'static str,
    good: bool,
    findings: Vec<Finding>,
    exit: u8,
}

/// `doctor`.
pub(crate) async fn doctor(tool: &Tool, access: &Access) -> anyhow::Result<Exit> {
    let findings = look(tool, access).await?;
    let good = findings.iter().all(|f| f.health != Health::Bad);
    let exit = if good { Exit::Done } else { Exit::Failed };
    let mut text = match good {
        true => "a switch would work\n".to_owned(),
        false => "something is in the way of a switch\n".to_owned(),
    };
    for f in &findings {
        let mark = match f.health {
            Health::Good => "ok",
            Health::Warn => "!",
            Health::Bad => "NO",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {mark:<3} {:<22} {}", f.check, f.detail);
    }
    tool.result(&text, &Doctor { operation: "doctor", good, findings, exit: exit.code() })?;
    Ok(exit)
}
