//! `status`: the service as its members tell it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ops::exit::Exit;
use serde::Serialize;
use topology::members::{Lease, NodeMember, Promised, ProxyMember, Role, SidecarMember, WayBy};
use topology::operator::{Auto, Claim, DRILL, Maintenance, Note, SNAPSHOT_PROVEN, SNAPSHOT_SEALED};
use topology::record::{Phase, UnixMs};
use topology::verdict::{self, Verdict};
use topology::{Record, Revision, ServiceView, ShardName};

use crate::guards;
use crate::plan::active;
use crate::split::{self, Split};
use crate::table::{aligned, row};
use crate::time::ago;
use crate::tool::Tool;

#[derive(Serialize)]
pub(crate) struct Status<'a> {
    service: &'a str,
    active: String,
    split: Option<Split>,
    epoch: u64,
    state: &'static str,
    revision: u64,
    record: &'a Record,
    nodes: BTreeMap<String, &'a NodeMember>,
    sidecars: BTreeMap<String, &'a SidecarMember>,
    proxies: &'a BTreeMap<String, ProxyMember>,
    leases: BTreeMap<String, &'a Lease>,
    operation: &'a Option<Claim>,
    maintenance: &'a Option<Maintenance>,
    auto: &'a Option<Auto>,
    verdicts: Vec<Opinion>,
    notes: &'a BTreeMap<String, Note>,
    problems: &'a BTreeMap<String, String>,
    exit: u8,
}

/// What the observers say of a primary.
#[derive(Serialize)]
struct Opinion {
    primary: String,
    down: bool,
    since: Option<UnixMs>,
    observers: usize,
    against: Vec<String>,
    reason: Option<String>,
}

impl Opinion {
    fn of(verdict: &Verdict) -> Self {
        let against = verdict.voices.iter().filter(|voice| !voice.sight.up);
        Self {
            primary: verdict.shard.to_string(),
            down: verdict.is_down(),
            since: verdict.down_since().filter(|_| verdict.is_down()),
            observers: verdict.voices.len(),
            against: against.map(|voice| voice.who.clone()).collect(),
            reason: verdict.reason().map(str::to_owned),
        }
    }
}

fn named<T>(map: &BTreeMap<ShardName, T>) -> BTreeMap<String, &T> {
    map.iter().map(|(shard, member)| (shard.to_string(), member)).collect()
}

/// What the service is, for programs.
pub(crate) fn json<'a>(
    service: &'a str,
    view: &'a ServiceView,
    record: &'a Record,
    revision: Revision,
) -> Status<'a> {
    Status {
        service,
        active: active(record),
        split: split::of(record),
        epoch: record.epoch.0,
        state: if record.freeze().is_some() { "frozen" } else { "steady" },
        revision: revision.0,
        record,
        nodes: named(&view.nodes),
        sidecars: named(&view.sidecars),
        proxies: &view.proxies,
        leases: named(&view.leases),
        operation: &view.claim,
        maintenance: &view.maintenance,
        auto: &view.auto,
        verdicts: verdict::of(view).iter().map(Opinion::of).collect(),
        notes: &view.notes,
        problems: &view.problems,
        exit: 0,
    }
}

/// `status`.
pub(crate) fn status(tool: &Tool) -> anyhow::Result<Exit> {
    let (view, record, revision) = tool.view()?;
    let json = json(tool.service.name(), &view, &record, revision);
    tool.result(&text(&view, &record), &json)?;
    Ok(Exit::Done)
}

/// How old a moment is, by the clock of this machine.
fn age(at: UnixMs) -> String {
    format!("{:.1} s", UnixMs::now().0.saturating_sub(at.0) as f64 / 1000.0)
}

/// What the service is, for people.
pub(crate) fn text(view: &ServiceView, record: &Record) -> String {
    let mut out = head(view, record);
    for table in [shards(view, record), verdicts(view), streams(view, record), proxies(view)] {
        out.push('\n');
        out.push_str(&aligned(&table));
    }
    for line in promises(view) {
        let _ = writeln!(out, "\n{line}");
    }
    for (key, why) in &view.problems {
        // Writing to a string does not fail.
        let _ = writeln!(out, "\nPROBLEM {key}: {why}");
    }
    out
}

/// Which primaries write by promises, because the registry is silent to them alone.
fn promises(view: &ServiceView) -> Vec<String> {
    let of = |node: &NodeMember| {
        let given = node.promises.iter().flat_map(|promises| &promises.given);
        let lasting = given.filter(|(_, given)| given.left_ms > 0);
        let line = |(primary, given): (&ShardName, &Promised)| {
            format!(
                "{} has promised {primary}, to which the registry is silent, not to be promoted: for {:.1} s still",
                node.shard,
                given.left_ms as f64 / 1000.0
            )
        };
        lasting.map(line).collect::<Vec<_>>()
    };
    view.nodes.values().flat_map(of).collect()
}

fn head(view: &ServiceView, record: &Record) -> String {
    let now = UnixMs::now().0;
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
    if let Some(split) = split::of(record) {
        let _ = writeln!(out, "SPLIT: {}; `failback` brings them home", split.text());
    }
    if let Some(claim) = &view.claim {
        let _ = writeln!(out, "{} is at a {} for {}", claim.by, claim.operation, age(claim.since));
    }
    if let Some(quiet) = &view.maintenance {
        let reason = quiet.reason.as_deref().unwrap_or("no reason given");
        let _ = writeln!(out, "MAINTENANCE since {}, by {}: {reason}", age(quiet.since), quiet.by);
    }
    if let Some(auto) = &view.auto {
        let _ = writeln!(out, "AUTO on, by {}: {}", auto.by, crate::auto::says(auto));
    }
    for line in crate::route::lines(record) {
        let _ = writeln!(out, "{line}");
    }
    let note = |what: &str| match view.notes.get(what) {
        None => "none known".to_owned(),
        Some(note) => {
            let how = if note.good { "" } else { "FAILED " };
            format!("{how}{}", ago(now.saturating_sub(note.at.0)))
        }
    };
    let _ = writeln!(
        out,
        "last snapshot sealed {}, proven {}; last drill {}",
        note(SNAPSHOT_SEALED),
        note(SNAPSHOT_PROVEN),
        note(DRILL)
    );
    out
}

type Rows = Vec<[String; crate::table::COLUMNS]>;

fn shards(view: &ServiceView, record: &Record) -> Rows {
    let mut rows =
        vec![row(["shard", "slots", "role", "epoch", "lease", "position", "client", "seen"])];
    for (shard, slots) in record.shards() {
        let lease = view
            .leases
            .get(&shard)
            .map_or("-".to_owned(), |l| format!("{} ({} ago)", l.epoch, age(l.at)));
        rows.push(match view.nodes.get(&shard) {
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
    }
    rows
}

fn verdicts(view: &ServiceView) -> Rows {
    let mut rows = vec![row(["primary", "verdict", "for", "against", "who", "why", "", ""])];
    for verdict in verdict::of(view) {
        let opinion = Opinion::of(&verdict);
        let says = match (opinion.observers, opinion.down) {
            (0, _) => "nobody has a say",
            (_, true) => "DOWN",
            (_, false) => "up",
        };
        rows.push(row([
            &opinion.primary,
            says,
            &opinion.since.map_or("-".to_owned(), age),
            &format!("{} of {}", opinion.against.len(), opinion.observers),
            &opinion.against.join(", "),
            opinion.reason.as_deref().unwrap_or_default(),
            "",
            "",
        ]));
    }
    rows
}

/// How many records of its source's log a follower has not applied, where both are on one timeline.
pub(crate) fn behind(
    view: &ServiceView,
    source: &ShardName,
    target: &ShardName,
    applied: Option<wal::Position>,
) -> Option<u64> {
    let end = view.nodes.get(source)?.position?;
    let at = view.nodes.get(target).and_then(|n| n.applied.get(&source.to_string()));
    let at = at.map(|a| a.position).or(applied)?;
    (at.timeline == end.timeline).then(|| end.sequence.0.saturating_sub(at.sequence.0))
}

fn streams(view: &ServiceView, record: &Record) -> Rows {
    let mut rows =
        vec![row(["stream", "state", "lag", "unstaged", "unapplied", "sent", "applied", "why"])];
    for (shard, _) in record.shards() {
        let Some(sidecar) = view.sidecars.get(&shard) else {
            rows.push(row([&format!("{shard} -> ?"), "sidecar ABSENT", "", "", "", "", "", ""]));
            continue;
        };
        for (source, receiving) in &sidecar.receiving {
            let Some(way) = receiving.way.as_ref().filter(|way| way.by == WayBy::Bucket) else {
                continue;
            };
            // Its source's own row is not there, or says that it does not get through.
            let bucket = receiving.bucket.as_ref();
            let end = bucket.and_then(|bucket| bucket.end);
            let why = bucket.and_then(|bucket| bucket.problem.clone());
            let since = format!("out of its archive for {}", age(way.since));
            rows.push(row([
                &format!("{source} => {shard}"),
                "bucket",
                "-",
                "-",
                "-",
                &end.map_or("-".to_owned(), |end| format!("has {}", short(end))),
                &receiving.applied.map_or("-".to_owned(), short),
                why.as_deref().unwrap_or(&since),
            ]));
        }
        for (target, stream) in &sidecar.streams {
            let target_shard: Option<ShardName> = target.parse().ok();
            let held = target_shard.as_ref().and_then(|t| guards::held(view, &shard, t));
            let records = target_shard.and_then(|t| behind(view, &shard, &t, stream.applied));
            rows.push(row([
                &format!("{shard} -> {target}"),
                &stream.state,
                &stream.lag_ms.map_or("-".to_owned(), |ms| format!("{ms} ms")),
                &format!("{} B", stream.behind_bytes),
                &records.map_or("-".to_owned(), |count| format!("{count} records")),
                &format!("{} B", stream.sent_bytes),
                &stream.applied.map_or("-".to_owned(), short),
                stream.reason.as_deref().or(held.map(|held| &*held.reason)).unwrap_or(""),
            ]));
        }
    }
    rows
}

fn proxies(view: &ServiceView) -> Rows {
    let mut rows =
        vec![row(["proxy", "cluster", "epoch", "holding", "holds", "client", "seen", "reads"])];
    for proxy in view.proxies.values() {
        rows.push(row([
            proxy.id.as_str(),
            &proxy.cluster,
            &proxy.epoch.to_string(),
            if proxy.holding.is_some() { "yes" } else { "no" },
            &proxy.hold_ms.map_or("-".to_owned(), |ms| format!("up to {} s", ms / 1000)),
            &proxy.client,
            &age(proxy.at),
            &proxy.reads.as_ref().map_or("primaries".to_owned(), |reads| match &reads.home {
                None => format!("cluster {}", reads.cluster),
                Some(why) => format!("primaries: {why}"),
            }),
        ]));
    }
    rows
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
