//! A drill by the sidecars of the standbys: this tool asks through the registry, and looks on.
//!
//! What is asked for is a key that this tool renews. It ends with the tool, and a sidecar whose order is gone
//! gives up and takes its fork away: so nothing is left by a tool that is killed.

use std::collections::BTreeMap;
use std::time::Instant;

use topology::ServiceView;
use topology::members::{DrillOrder, DrillSeen, DrillState};
use topology::record::UnixMs;
use topology::service::{MEMBER_BEAT, MEMBER_TTL};

use super::Standby;
use super::drilled::{Drilled, ShardDrill};
use crate::args::Rehearsal;
use crate::tool::Tool;
use crate::wait::{Look, Waited, all, until};

/// Asks, and waits until every sidecar is through. An error says which is not, and why.
pub(super) async fn rehearse(
    tool: &Tool,
    how: &Rehearsal,
    nodes: &[Standby],
    drilled: &mut Drilled,
) -> anyhow::Result<()> {
    let order = DrillOrder {
        id: drilled.id.clone(),
        to: how.to.clone(),
        memory_bytes: how.memory.bytes(),
        by: tool.by.clone(),
        since: UnixMs::now(),
    };
    tool.service.put_drill(&order, MEMBER_TTL).await?;
    let ended = tokio::select! {
        ended = look_on(tool, how, nodes, drilled) => ended,
        () = keep_asking(tool, &order) => unreachable!("it asks for as long as it is let"),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("it was interrupted")),
    };
    if let Err(why) = tool.service.remove_drill().await {
        tool.progress(format!("the registry keeps the order until it ends by itself: {why}"));
    }
    ended
}

async fn keep_asking(tool: &Tool, order: &DrillOrder) {
    loop {
        tokio::time::sleep(MEMBER_BEAT).await;
        if let Err(why) = tool.service.put_drill(order, MEMBER_TTL).await {
            tracing::warn!("the order of the drill was not renewed: {why}");
        }
    }
}

async fn look_on(
    tool: &Tool,
    how: &Rehearsal,
    nodes: &[Standby],
    drilled: &mut Drilled,
) -> anyhow::Result<()> {
    let mut told = BTreeMap::new();
    let mut view = tool.service.watch();
    let id = drilled.id.clone();
    let looked = until(tool, &mut view, Instant::now() + how.wait.duration(), |view| {
        for Standby { shard, .. } in nodes {
            let Some(state) = state(view, shard, &id) else { continue };
            if told.get(shard) != Some(&state.state) {
                tool.progress(format!("drill: {shard} {}", words(&state.state)));
                told.insert(shard.clone(), state.state.clone());
            }
        }
        verdict(view, nodes, &id, |shard| told.contains_key(shard))
    });
    let looked = looked.await;
    let view = view.borrow().clone();
    drilled.shards = nodes
        .iter()
        .filter_map(|Standby { shard, .. }| {
            Some(shown(shard.to_string(), state(&view, shard, &drilled.id)?.seen))
        })
        .collect();
    match looked {
        Waited::Done(Ok(())) => Ok(()),
        Waited::Done(Err(why)) => anyhow::bail!(why),
        Waited::TimedOut(missing) => anyhow::bail!(
            "{missing} (after {:.0} s; --wait allows for more)",
            how.wait.duration().as_secs_f64()
        ),
        Waited::Over => unreachable!("this look never says so"),
    }
}

/// What a sidecar says of this drill.
fn state<'a>(
    view: &'a ServiceView,
    shard: &topology::ShardName,
    id: &str,
) -> Option<&'a DrillState> {
    let state = view.sidecars.get(shard)?.drill.as_ref()?;
    (state.id.as_deref() == Some(id)).then_some(state)
}

/// Whether it is over, and how; `began` says which sidecars were at it before.
fn verdict(
    view: &ServiceView,
    nodes: &[Standby],
    id: &str,
    began: impl Fn(&topology::ShardName) -> bool,
) -> Look<Result<(), String>> {
    let mut missing = Vec::new();
    for Standby { shard, .. } in nodes {
        match state(view, shard, id) {
            Some(DrillState { state, .. }) if state == "done" => {}
            Some(DrillState { state, reason, .. }) if state == "failed" => {
                let reason = reason.as_deref().unwrap_or("it does not say why");
                return Look::Done(Err(format!("{shard}: {reason}")));
            }
            Some(DrillState { state, .. }) => missing.push(format!("{shard} {}", words(state))),
            None if began(shard) => {
                return Look::Done(Err(format!(
                    "the sidecar of {shard} was at it, and has ended or begun anew; it takes its fork away when it starts"
                )));
            }
            None => missing.push(format!("the sidecar of {shard} has not begun")),
        }
    }
    all(Ok(()), missing)
}

fn words(state: &str) -> &str {
    match state {
        "checkpoint" => "makes a checkpoint",
        "opening" => "opens its fork",
        "promoting" => "promotes its fork",
        "writing" => "writes and reads in its fork",
        "done" => "is through, and its fork is gone",
        "failed" => "has failed, and its fork is gone",
        other => other,
    }
}

fn shown(shard: String, seen: DrillSeen) -> ShardDrill {
    let ms = |us: u64| us as f64 / 1000.0;
    ShardDrill {
        shard,
        checkpoint_ms: ms(seen.checkpoint_us),
        data_age_ms: seen.data_age_ms,
        keys: seen.keys,
        canary_ms: ms(seen.canary_us),
        proxy_ms: None,
        open_ms: Some(ms(seen.open_us)),
        promote_ms: Some(ms(seen.promote_us)),
    }
}
