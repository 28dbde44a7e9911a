//! What a switch would do, and what the guards think of it.

use std::fmt::Write as _;

use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::members::{Held, HeldBy, Role, StreamStatus};
use topology::record::{Cause, UnixMs};
use topology::{Record, ServiceView, ShardName};

use crate::args::Guards;
use crate::init::names;
use crate::tool::Tool;

/// A guard's verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was looked at.
    pub guard: &'static str,
    /// Whether it lets the operation pass.
    pub pass: bool,
    /// What it saw.
    pub detail: String,
}

/// What would be done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// `switchover` or `failover`.
    pub operation: &'static str,
    /// The clusters that are active.
    pub from: String,
    /// The cluster that is to take over.
    pub to: String,
    /// The epoch that the commit would take.
    pub epoch: u64,
    /// What the guards say.
    pub guards: Vec<Verdict>,
    /// Whether one refuses.
    pub refused: bool,
    /// The exit code of `plan`.
    pub exit: u8,
}

/// `plan`.
pub(crate) fn print(tool: &Tool, to: &str, guards: &Guards) -> anyhow::Result<Exit> {
    let (view, record, _) = tool.view()?;
    let plan = Plan::of(Cause::Switchover, &view, &record, to, guards)?;
    tool.result(&plan.text(), &plan)?;
    Ok(plan.exit())
}

/// The clusters that have a primary.
pub(crate) fn active(record: &Record) -> String {
    let mut clusters: Vec<_> = record.primaries.iter().map(|p| p.cluster.as_str()).collect();
    clusters.dedup();
    clusters.join("+")
}

/// Each frozen primary with each shard of the target that takes some of its slots.
pub(crate) fn pairs(
    record: &Record,
    sources: &[ShardName],
    to: &str,
) -> Vec<(ShardName, ShardName)> {
    let follows = |source: &ShardName| {
        let all = record.followers_of(source).into_iter();
        all.filter(|f| f.cluster == to).map(|f| (source.clone(), f)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(follows).collect()
}

impl Plan {
    /// Looks at everything before anything is changed.
    pub(crate) fn of(
        cause: Cause,
        view: &ServiceView,
        record: &Record,
        to: &str,
        limits: &Guards,
    ) -> Result<Self, Stop> {
        if !record.clusters.contains_key(to) {
            let all = names(&record.clusters);
            return Err(Stop::new(
                Exit::Usage,
                format!("there is no cluster `{to}`; there are: {all}"),
            ));
        }
        let pairs = pairs(record, &record.primaries, to);
        let mut guards = vec![free(record), elsewhere(record, to)];
        if cause == Cause::Switchover {
            guards.extend([
                primaries(view, record),
                streams(view, &pairs),
                lag(view, &pairs, limits),
            ]);
            guards.push(proxies(view, record));
        }
        guards.push(standbys(view, &pairs));
        if cause == Cause::Failover {
            guards.push(at_stake(view, record, &pairs));
        }
        let refused = guards.iter().any(|g| !g.pass);
        Ok(Self {
            operation: if cause == Cause::Switchover { "switchover" } else { "failover" },
            from: active(record),
            to: to.to_owned(),
            epoch: record.epoch.next().0,
            guards,
            refused,
            exit: if refused { Exit::Refused } else { Exit::Done }.code(),
        })
    }

    /// Done, or refused.
    pub(crate) fn exit(&self) -> Exit {
        if self.refused { Exit::Refused } else { Exit::Done }
    }

    /// Why it is refused.
    pub(crate) fn reasons(&self) -> String {
        let refusals = self.guards.iter().filter(|g| !g.pass);
        refusals.map(|g| format!("{}: {}", g.guard, g.detail)).collect::<Vec<_>>().join("; ")
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "{} {} -> {}, taking epoch {}: {}\n",
            self.operation,
            self.from,
            self.to,
            self.epoch,
            if self.refused { "REFUSED" } else { "would go ahead" }
        );
        for guard in &self.guards {
            let mark = if guard.pass { "ok" } else { "NO" };
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {mark:<3} {:<10} {}", guard.guard, guard.detail);
        }
        out.push_str("  then: freeze, wait until the end of each log is applied, COMMIT, promote, register, reverse\n");
        out
    }
}

fn verdict(guard: &'static str, problems: Vec<String>, well: impl Into<String>) -> Verdict {
    match problems.is_empty() {
        true => Verdict { guard, pass: true, detail: well.into() },
        false => Verdict { guard, pass: false, detail: problems.join("; ") },
    }
}

fn free(record: &Record) -> Verdict {
    let busy = record.freeze().map(|f| {
        format!("a freeze to `{}` ({}) is under way: `resume` or `cancel` it", f.to, f.id)
    });
    verdict("free", busy.into_iter().collect(), "no other operation")
}

fn elsewhere(record: &Record, to: &str) -> Verdict {
    let there = record.active() == Some(to);
    let problem = there.then(|| format!("cluster `{to}` is active already"));
    verdict("target", problem.into_iter().collect(), format!("cluster `{to}` has every slot"))
}

fn primaries(view: &ServiceView, record: &Record) -> Verdict {
    let problem = |shard: &ShardName| {
        let Some(node) = view.nodes.get(shard) else {
            return Some(format!("{shard} is not there: if it is dead, use `failover`"));
        };
        let leased = view.leases.get(shard).is_some_and(|l| l.epoch == record.epoch);
        let is_well = node.role == Role::Primary && node.epoch == record.epoch && leased;
        (!is_well).then(|| {
            format!(
                "{shard} does not accept writes (role {:?}, epoch {}, lease: {leased})",
                node.role, node.epoch
            )
        })
    };
    verdict("primaries", record.primaries.iter().filter_map(problem).collect(), "all accept writes")
}

fn streams(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let problem = |(source, target): &(ShardName, ShardName)| {
        let Some(sidecar) = view.sidecars.get(source) else {
            return Some(format!("the sidecar of {source} is not there"));
        };
        match sidecar.streams.get(&target.to_string()) {
            None => Some(format!("{source} has no stream to {target}")),
            Some(stream) if stream.state == "streaming" => None,
            Some(stream) => {
                let reason = stream.reason.as_deref().map(|r| format!(" ({r})"));
                Some(format!(
                    "{source} to {target} is {}{}",
                    stream.state,
                    reason.unwrap_or_default()
                ))
            }
        }
    };
    verdict(
        "streams",
        pairs.iter().filter_map(problem).collect(),
        format!("{} connected", pairs.len()),
    )
}

/// How far behind a follower may be whose lag has not been measured yet.
const UNMEASURED_BYTES_MAX: u64 = 1 << 20;

/// How far a follower is behind, if that is too far. One that has staged and applied everything is
/// level, however old the last batch was.
pub(crate) fn behind(stream: &StreamStatus, limits: &Guards) -> Option<String> {
    if stream.behind_bytes == 0 && stream.staged == stream.applied {
        return None;
    }
    let allowed = limits.max_lag.duration().as_millis();
    match stream.lag_ms {
        Some(ms) if u128::from(ms) <= allowed => None,
        Some(ms) => Some(format!("{ms} ms and {} bytes", stream.behind_bytes)),
        // A stream that has just connected has no lag yet; so little is drained within any freeze.
        None if stream.behind_bytes <= UNMEASURED_BYTES_MAX => None,
        None => Some(format!("{} bytes", stream.behind_bytes)),
    }
}

/// Why a target does not apply what it has staged, where that is wanted or decided.
pub(crate) fn held<'a>(
    view: &'a ServiceView,
    source: &ShardName,
    target: &ShardName,
) -> Option<&'a Held> {
    let sidecar = view.sidecars.get(target)?;
    sidecar.receiving.get(&source.to_string())?.held.as_ref()
}

fn lag(view: &ServiceView, pairs: &[(ShardName, ShardName)], limits: &Guards) -> Verdict {
    let mut worst = 0;
    let mut problems = Vec::new();
    for (source, target) in pairs {
        let streams = view.sidecars.get(source).map(|s| &s.streams);
        let held = held(view, source, target);
        if let Some(held) = held.filter(|held| held.by != HeldBy::Delay) {
            problems.push(format!("{target} applies nothing of {source}: {}", held.reason));
            continue;
        }
        let Some(stream) = streams.and_then(|s| s.get(&target.to_string())) else { continue };
        match behind(stream, limits) {
            None => worst = worst.max(stream.lag_ms.unwrap_or(0)),
            Some(how) => problems.push(match held {
                Some(held) => format!("{target} is {how} behind {source}: {}", held.reason),
                None => format!("{target} is {how} behind {source}"),
            }),
        }
    }
    verdict("lag", problems, format!("at most {worst} ms"))
}

fn standbys(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let problem = |(source, target): &(ShardName, ShardName)| {
        let Some(node) = view.nodes.get(target) else {
            return Some(format!("{target} is not there"));
        };
        if node.role != Role::Standby {
            return Some(format!("{target} is {:?}, no standby that can be promoted", node.role));
        }
        let follows = node.applied.contains_key(&source.to_string());
        (!follows).then(|| format!("{target} has applied nothing of {source}"))
    };
    verdict("standbys", pairs.iter().filter_map(problem).collect(), "all can be promoted")
}

/// What may be missing, as far as it can be told before anything is frozen. It never refuses: the
/// failover itself weighs what is missing then, before it commits.
fn at_stake(view: &ServiceView, record: &Record, pairs: &[(ShardName, ShardName)]) -> Verdict {
    let now = UnixMs::now().0;
    let say = |source: &ShardName| {
        if view.nodes.contains_key(source) || view.sidecars.contains_key(source) {
            return format!(
                "{source}: its node or sidecar is there and can tell the end of its log"
            );
        }
        let targets = pairs.iter().filter(|(s, _)| s == source);
        let applied = targets.filter_map(|(s, t)| view.nodes.get(t)?.applied.get(&s.to_string()));
        match applied.map(|a| now.saturating_sub(a.stamp_ms)).max() {
            Some(age) => format!(
                "{source}: gone; what it acknowledged after the last batch that was applied, {:.3} s ago, may be missing",
                age as f64 / 1000.0
            ),
            None => format!("{source}: gone, and nobody has anything of it"),
        }
    };
    let detail = record.primaries.iter().map(say).collect::<Vec<_>>().join("; ");
    Verdict { guard: "at stake", pass: true, detail }
}

fn proxies(view: &ServiceView, record: &Record) -> Verdict {
    let late = view.proxies.values().filter(|p| p.epoch != record.epoch);
    let problems =
        late.map(|p| format!("{} routes by epoch {}, not {}", p.id, p.epoch, record.epoch));
    let well = match view.proxies.len() {
        0 => "none registered: clients must find the new primaries by themselves".to_owned(),
        count => format!("{count} acknowledged epoch {}", record.epoch),
    };
    verdict("proxies", problems.collect(), well)
}
