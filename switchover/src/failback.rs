//! `failback`: back to the cluster that was active before, once it follows and is level. Of a service that
//! is split between clusters it brings the shards home that moved away.

use std::time::Instant;

use ops::exit::{Exit, Stop};
use topology::members::Role;
use topology::{Record, ServiceView, ShardName};

use crate::args::{Guards, How, Scope};
use crate::guards;
use crate::plan::{active, pairs};
use crate::report::BytesMoved;
use crate::split;
use crate::switch::{finish, planned};
use crate::tool::Tool;
use crate::wait::{Look, Waited, all, until};

/// The cluster that was active before the present one.
fn previous(record: &Record) -> Option<String> {
    let active = record.active()?;
    let left = record
        .forks
        .iter()
        .rev()
        .find(|f| f.target.cluster == active && f.source.cluster != active);
    left.map(|fork| fork.source.cluster.clone())
}

fn moved(view: &ServiceView, pairs: &[(ShardName, ShardName)]) -> BytesMoved {
    let streams = pairs
        .iter()
        .filter_map(|(source, target)| view.sidecars.get(source)?.streams.get(&target.to_string()));
    streams.fold(BytesMoved::default(), |sum, s| BytesMoved {
        sent: sum.sent + s.sent_bytes,
        seed: sum.seed + s.seed_bytes,
    })
}

/// What still keeps a shard from taking over.
pub(crate) fn behind(
    view: &ServiceView,
    source: &ShardName,
    target: &ShardName,
    limits: &Guards,
) -> Option<String> {
    let Some(node) = view.nodes.get(target) else { return Some(format!("{target} is not there")) };
    let streams = view.sidecars.get(source).map(|s| &s.streams);
    let Some(stream) = streams.and_then(|s| s.get(&target.to_string())) else {
        return Some(format!("{source} has no stream to {target}"));
    };
    if stream.state != "streaming" {
        let why = stream.reason.as_deref().map(|r| format!(", {r}")).unwrap_or_default();
        return Some(format!(
            "{target} is {} ({} bytes sent{why})",
            stream.state, stream.sent_bytes
        ));
    }
    if node.role != Role::Standby {
        return Some(format!("{target} is {:?}", node.role));
    }
    guards::behind(stream, limits).map(|how| format!("{target} is {how} behind"))
}

/// `failback`.
pub(crate) async fn failback(tool: &Tool, how: &How) -> anyhow::Result<Exit> {
    let patience = tool.config.rejoin_timeout;
    let (_, record, _) = tool.view()?;
    if let Some(freeze) = record.freeze() {
        let busy = format!(
            "a freeze to `{}` is under way; nothing was changed: `resume` or `abort` it",
            freeze.to
        );
        return Err(Stop::new(Exit::Refused, busy).into());
    }
    let split = split::of(&record);
    let home = split.as_ref().and_then(|split| split.home.clone());
    let Some(to) = (if split.is_some() { home } else { previous(&record) }) else {
        let why = format!(
            "the record knows no cluster that was active before {}; nothing was changed: name one with `run --to`",
            active(&record)
        );
        return Err(Stop::new(Exit::Refused, why).into());
    };
    if let Some(split) = &split {
        tool.progress(format!("the service is split: {}", split.text()));
    }
    let away: Vec<_> = record.primaries.iter().filter(|p| p.cluster != to).cloned().collect();
    let pairs = pairs(&record, &away, &to);
    let mut view = tool.service.watch();
    if how.yes && !tool.dry_run {
        let level = until(tool, &mut view, Instant::now() + patience.duration(), |view| {
            let changed =
                view.record().is_none_or(|now| now.epoch != record.epoch || now.freeze().is_some());
            if changed {
                return Look::Over;
            }
            let late = pairs
                .iter()
                .filter_map(|(source, target)| behind(view, source, target, &tool.config.guards));
            all((), late.collect())
        });
        match level.await {
            Waited::Done(()) => {}
            Waited::Over => {
                return Err(Stop::new(
                    Exit::Refused,
                    "another operation began; nothing was changed by this one",
                )
                .into());
            }
            Waited::TimedOut(missing) => {
                let why = format!(
                    "after {patience} cluster `{to}` is not level; nothing was changed: {missing}"
                );
                return Err(Stop::new(Exit::Refused, why).into());
            }
        }
    }
    let moved = moved(&view.borrow().clone(), &pairs);
    let report = planned(tool, "failback", (&to, &Scope::default()), how, |report| {
        report.bytes_moved = Some(moved)
    })
    .await?;
    finish(tool, &report)
}
