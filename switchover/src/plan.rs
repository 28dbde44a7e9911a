//! What a switch would do, and what the guards think of it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::record::Cause;
use topology::{Record, ServiceView, ShardName};

use crate::args::{Accept, Guards, Scope};
use crate::guards::{self, Asked, Past, Verdict};
use crate::init::names;
use crate::split::{self, Split};
use crate::switch::timeout;
use crate::tool::Tool;
use crate::wait::{all, until};

/// Members write their keys at least every second: in this time each that lives and reaches the registry has.
const KEY_WAIT: Duration = Duration::from_secs(3);

/// A step of a switch, and what it touches.
#[derive(Clone, Debug, Serialize)]
pub struct Touch {
    /// The step.
    pub step: &'static str,
    /// What it touches, in words.
    pub touches: String,
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
    /// The primaries that move.
    pub moves: Vec<ShardName>,
    /// How the service is split between clusters now; absent where one is active.
    pub(crate) split: Option<Split>,
    /// The epoch that the commit would take.
    pub epoch: u64,
    /// What the guards say.
    pub guards: Vec<Verdict>,
    /// Whether one refuses.
    pub refused: bool,
    /// The steps.
    pub steps: Vec<Touch>,
    /// Milliseconds for which writes would stand still, as in the last planned switches and with the
    /// present lag; absent where nothing is known.
    pub expected_pause_ms: Option<f64>,
    /// What would be lost, in a sentence.
    pub expected_loss: String,
    /// The exit code of `plan`.
    pub exit: u8,
}

/// `plan`.
pub(crate) async fn print(
    tool: &Tool,
    to: &str,
    failover: bool,
    scope: &Scope,
) -> anyhow::Result<Exit> {
    let cause = if failover { Cause::Failover } else { Cause::Switchover };
    let plan = Plan::of(tool, cause, (to, scope), Accept::Any).await?;
    tool.result(&plan.text(), &plan)?;
    Ok(plan.exit())
}

/// The clusters that have a primary.
pub(crate) fn active(record: &Record) -> String {
    let mut clusters: Vec<_> = record.primaries.iter().map(|p| p.cluster.as_str()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    clusters.join("+")
}

/// The primaries that a switch to `to` moves: those that were asked for, or all that are elsewhere.
pub(crate) fn moving(record: &Record, to: &str, scope: &Scope) -> Result<Vec<ShardName>, Stop> {
    let usage = |why: String| Err(Stop::new(Exit::Usage, why));
    if scope.shards.is_empty() {
        return Ok(record.primaries.iter().filter(|p| p.cluster != to).cloned().collect());
    }
    for shard in &scope.shards {
        if !record.is_primary(shard) {
            let all = listed(record.primaries.iter());
            return usage(format!("{shard} is no primary; the primaries are {all}"));
        }
        if shard.cluster == to {
            return usage(format!("{shard} is in cluster `{to}` already"));
        }
    }
    let mut shards = scope.shards.clone();
    shards.sort();
    shards.dedup();
    let takers = record.takers(&shards, to);
    let beyond = |taker: &&ShardName| {
        let others = record.primaries.iter().filter(|p| !shards.contains(p));
        let others: Vec<_> = others.cloned().collect();
        record.takers(&others, to).contains(taker)
    };
    match takers.iter().find(beyond) {
        Some(taker) => usage(format!(
            "{taker} would take more slots than {} has: move all primaries together whose slots it holds",
            listed(shards.iter())
        )),
        None => Ok(shards),
    }
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

fn listed<'a>(shards: impl Iterator<Item = &'a ShardName>) -> String {
    let mut names: Vec<_> = shards.map(ToString::to_string).collect();
    names.dedup();
    names.join(", ")
}

/// The longest lag of the streams, in milliseconds.
fn lag(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> u64 {
    let of = |(source, target): &(ShardName, ShardName)| {
        let stream = view.sidecars.get(source)?.streams.get(&target.to_string())?;
        (stream.behind_bytes > 0 || stream.staged != stream.applied).then_some(stream.lag_ms)?
    };
    pairs.iter().filter_map(of).max().unwrap_or(0)
}

fn steps(
    cause: Cause,
    view: &ServiceView,
    record: &Record,
    (to, moves, pairs): (&str, &[ShardName], &[(ShardName, ShardName)]),
) -> Vec<Touch> {
    let old = listed(moves.iter());
    let new = listed(pairs.iter().map(|(_, target)| target));
    let proxies = view.proxies.keys().cloned().collect::<Vec<_>>().join(", ");
    let next = record.epoch.next();
    let drain = match cause {
        Cause::Switchover => format!("{new} apply the log of {old} to its end"),
        Cause::Failover => format!(
            "the end of each log comes from {old}, or from the sidecar of one that is dead, which fences it; what cannot be reached costs one lease of {} ms. {new} apply what there is, and what is missing is said",
            record.lease_ms
        ),
    };
    [
        ("freeze", format!("{old} refuse writes; proxies hold them: {proxies}")),
        ("drain", drain),
        (
            "COMMIT",
            format!(
                "the record takes epoch {next}, with {new} of `{to}` primary: no way back from here"
            ),
        ),
        ("promote", format!("{new} start a timeline of their own and take their leases")),
        ("register", format!("these route by epoch {next} and send what they held: {proxies}")),
        ("reverse", format!("{old} follow {new}, if they are there")),
    ]
    .into_iter()
    .map(|(step, touches)| Touch { step, touches })
    .collect()
}

/// The service once whoever looks as if its clock were behind has written its key once more, or could have.
async fn with_fresh_keys(tool: &Tool, view: Arc<ServiceView>) -> Arc<ServiceView> {
    let suspects = guards::behind_or_silent(&view, &tool.config.guards);
    if suspects.is_empty() {
        return view;
    }
    let mut watch = tool.service.watch();
    let waited = until(tool, &mut watch, Instant::now() + KEY_WAIT, |now| {
        let old = guards::written(now).filter(|key| suspects.contains(key));
        all((), old.map(|(who, _)| format!("the key of {who} is an old one")).collect())
    });
    // What is still old then is judged as it is.
    drop(waited.await);
    tool.service.view()
}

impl Plan {
    /// Looks at everything before anything is changed.
    pub(crate) async fn of(
        tool: &Tool,
        cause: Cause,
        (to, scope): (&str, &Scope),
        accept: Accept,
    ) -> anyhow::Result<Self> {
        let (view, record, _) = tool.view()?;
        let limits = &tool.config.guards;
        if !record.clusters.contains_key(to) {
            let all = names(&record.clusters);
            let why = format!("there is no cluster `{to}`; there are: {all}");
            return Err(Stop::new(Exit::Usage, why).into());
        }
        // Journals tell what to expect, and when the last switch was; without them there is still a plan.
        let past = match Past::read(&tool.service).await {
            Ok(past) => past,
            Err(why) if limits.min_interval.duration().is_zero() => {
                tracing::warn!("the journals cannot be read: {why}");
                Past::default()
            }
            Err(why) => return Err(why),
        };
        let moves = moving(&record, to, scope)?;
        // A failover is not held up, and no clock refuses it.
        let view = match cause {
            Cause::Switchover => with_fresh_keys(tool, view).await,
            Cause::Failover => view,
        };
        Ok(Self::with(&view, &record, &past, (tool, limits), (cause, to, accept), moves))
    }

    fn with(
        view: &ServiceView,
        record: &Record,
        past: &Past,
        (tool, limits): (&Tool, &Guards),
        (cause, to, accept): (Cause, &str, Accept),
        moves: Vec<ShardName>,
    ) -> Self {
        let pairs = pairs(record, &moves, to);
        let timeout = timeout(tool, cause, record.lease_ms);
        let asked = Asked { cause, to, moves: &moves, accept, timeout };
        let guards = guards::ask(view, record, past, &pairs, &asked, limits);
        let refused = guards.iter().any(|g| !g.pass);
        let expected_loss = match cause {
            Cause::Switchover => "nothing".to_owned(),
            Cause::Failover => guards
                .iter()
                .find(|g| g.guard == "at stake")
                .map(|g| g.detail.clone())
                .unwrap_or_default(),
        };
        let mut pauses = past.pauses.clone();
        pauses.sort_by(f64::total_cmp);
        let usual = pauses.get(pauses.len() / 2);
        Self {
            operation: if cause == Cause::Switchover { "switchover" } else { "failover" },
            from: active(record),
            to: to.to_owned(),
            split: split::of(record),
            epoch: record.epoch.next().0,
            guards,
            refused,
            steps: steps(cause, view, record, (to, &moves, &pairs)),
            expected_pause_ms: usual.map(|ms| ms + lag(view, &pairs) as f64),
            expected_loss,
            moves,
            exit: if refused { Exit::Refused } else { Exit::Done }.code(),
        }
    }

    /// Done, or refused.
    pub(crate) fn exit(&self) -> Exit {
        if self.refused { Exit::Refused } else { Exit::Done }
    }

    /// Why it is refused.
    pub(crate) fn reasons(&self) -> String {
        guards::reasons(&self.guards)
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
        // Writing to a string does not fail.
        if let Some(split) = &self.split {
            let _ = writeln!(out, "  split: {}", split.text());
        }
        for guard in &self.guards {
            let mark = if guard.pass { "ok" } else { "NO" };
            let _ = writeln!(out, "  {mark:<3} {:<10} {}", guard.guard, guard.detail);
        }
        let _ = writeln!(out, "  then:");
        for step in &self.steps {
            let _ = writeln!(out, "      {:<10} {}", step.step, step.touches);
        }
        let _ = match self.expected_pause_ms {
            Some(ms) => writeln!(
                out,
                "  expected pause: {ms:.0} ms (the median of the last planned switches and the present lag)"
            ),
            None => writeln!(out, "  expected pause: not known, no planned switch is journaled"),
        };
        let _ = writeln!(out, "  expected loss: {}", self.expected_loss);
        out
    }
}
