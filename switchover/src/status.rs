//! `status`: the service as its members tell it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ops::exit::Exit;
use serde::Serialize;
use topology::members::{Lease, NodeMember, ProxyMember, Role, SidecarMember};
use topology::record::{Phase, UnixMs};
use topology::{Record, ServiceView, ShardName};

use crate::plan::{self, active};
use crate::tool::Tool;

#[derive(Serialize)]
struct Status<'a> {
    service: &'a str,
    active: String,
    epoch: u64,
    state: &'static str,
    revision: u64,
    record: &'a Record,
    nodes: BTreeMap<String, &'a NodeMember>,
    sidecars: BTreeMap<String, &'a SidecarMember>,
    proxies: &'a BTreeMap<String, ProxyMember>,
    leases: BTreeMap<String, &'a Lease>,
    problems: &'a BTreeMap<String, String>,
    exit: u8,
}

fn named<T>(map: &BTreeMap<ShardName, T>) -> BTreeMap<String, &T> {
    map.iter().map(|(shard, member)| (shard.to_string(), member)).collect()
}

/// `status`.
pub(crate) fn status(tool: &Tool) -> anyhow::Result<Exit> {
    let (view, record, revision) = tool.view()?;
    let json = Status {
        service: tool.service.name(),
        active: active(&record),
        epoch: record.epoch.0,
        state: if record.freeze().is_some() { "frozen" } else { "steady" },
        revision: revision.0,
        record: &record,
        nodes: named(&view.nodes),
        sidecars: named(&view.sidecars),
        proxies: &view.proxies,
        leases: named(&view.leases),
        problems: &view.problems,
        exit: 0,
    };
    tool.result(&text(&view, &record), &json)?;
    Ok(Exit::Done)
}

fn text(view: &ServiceView, record: &Record) -> String {
    let now = UnixMs::now().0;
    let age = |at: UnixMs| format!("{:.1} s", now.saturating_sub(at.0) as f64 / 1000.0);
    let mut out = format!(
        "service {}   active {}   epoch {}   ",
        record.service,
        active(record),
        record.epoch
    );
    match &record.phase {
        Phase::Steady => out.push_str("steady\n"),
        Phase::Frozen(freeze) => {
            let left = freeze.deadline.0.saturating_sub(now);
            let _ = writeln!(
                out,
                "FROZEN for {} to `{}`, {left} ms to the deadline ({})",
                age(freeze.since),
                freeze.to,
                freeze.id
            );
        }
    }
    let mut shards =
        vec![row(["shard", "slots", "role", "epoch", "lease", "position", "client", "seen"])];
    let mut streams = vec![row(["stream", "state", "lag", "behind", "sent", "applied", "why", ""])];
    for (shard, slots) in record.shards() {
        let lease = view
            .leases
            .get(&shard)
            .map_or("-".to_owned(), |l| format!("{} ({} ago)", l.epoch, age(l.at)));
        shards.push(match view.nodes.get(&shard) {
            None => {
                row([&shard.to_string(), &slots.to_string(), "ABSENT", "-", &lease, "-", "-", "-"])
            }
            Some(node) => row([
                &shard.to_string(),
                &slots.to_string(),
                role(node.role),
                &node.epoch.to_string(),
                &lease,
                &node.position.map_or("-".to_owned(), short),
                &node.client,
                &age(node.at),
            ]),
        });
        let Some(sidecar) = view.sidecars.get(&shard) else {
            streams.push(row([&format!("{shard} -> ?"), "sidecar ABSENT", "", "", "", "", "", ""]));
            continue;
        };
        for (target, stream) in &sidecar.streams {
            let target_shard = target.parse().ok();
            let held = target_shard.and_then(|target| plan::held(view, &shard, &target));
            streams.push(row([
                &format!("{shard} -> {target}"),
                &stream.state,
                &stream.lag_ms.map_or("-".to_owned(), |ms| format!("{ms} ms")),
                &format!("{} B", stream.behind_bytes),
                &format!("{} B", stream.sent_bytes),
                &stream.applied.map_or("-".to_owned(), short),
                stream.reason.as_deref().or(held.map(|held| &*held.reason)).unwrap_or(""),
                "",
            ]));
        }
    }
    let mut proxies = vec![row(["proxy", "cluster", "epoch", "holding", "client", "seen", "", ""])];
    for proxy in view.proxies.values() {
        proxies.push(row([
            proxy.id.as_str(),
            &proxy.cluster,
            &proxy.epoch.to_string(),
            if proxy.holding.is_some() { "yes" } else { "no" },
            &proxy.client,
            &age(proxy.at),
            "",
            "",
        ]));
    }
    for table in [shards, streams, proxies] {
        out.push('\n');
        out.push_str(&aligned(&table));
    }
    for (key, why) in &view.problems {
        let _ = writeln!(out, "\nPROBLEM {key}: {why}");
    }
    out
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unknown => "unknown",
        Role::Primary => "PRIMARY",
        Role::Standby => "standby",
        Role::Seeding => "seeding",
        Role::Rewinding => "rewinding",
        Role::Standalone => "standalone",
    }
}

/// Enough of a position for a person: the timeline's first digits and the sequence.
fn short(position: wal::Position) -> String {
    let timeline = position.timeline.to_string();
    format!("{}@{}", &timeline[..6], position.sequence.0)
}

const COLUMNS: usize = 8;

fn row<T: ToString>(cells: [T; COLUMNS]) -> [String; COLUMNS] {
    cells.map(|cell| cell.to_string())
}

fn aligned(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS).map(width).collect();
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}
