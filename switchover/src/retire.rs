//! `retire`: a cluster leaves the service once nothing needs it any more: every proxy routes by the
//! present epoch, and the cluster is level with those that took over, so that it was a whole way back
//! until that moment.

use std::time::Instant;

use ops::exit::{Exit, Stop};
use serde::{Deserialize, Serialize};
use serde_json::json;
use topology::{Record, ServiceView};

use crate::claim::Patience;
use crate::clusters::drop_cluster;
use crate::failback;
use crate::init::names;
use crate::plan::{active, pairs};
use crate::tool::Tool;
use crate::wait::{Look, Waited, all, until};

/// How a cluster left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retired {
    /// Why it was not level when it left, if it was not.
    pub given_up: Option<String>,
    /// Sidecars that had not let go of what they kept for it, when nobody waited any longer.
    pub kept_by: Vec<String>,
}

impl Retired {
    /// In words.
    pub(crate) fn text(&self) -> String {
        let mut text = match &self.given_up {
            None => "it was level".to_owned(),
            Some(why) => format!("it was not level, and was given up: {why}"),
        };
        if !self.kept_by.is_empty() {
            text.push_str(&format!(
                "; {} will let go of what they kept for it",
                self.kept_by.join(", ")
            ));
        }
        text
    }
}

/// Why the proxies still need a cluster that is not active.
fn routed(view: &ServiceView, record: &Record) -> Vec<String> {
    let late = view.proxies.values().filter(|proxy| proxy.epoch < record.epoch);
    late.map(|p| format!("{} routes by epoch {}, not {}", p.id, p.epoch, record.epoch)).collect()
}

/// What keeps a cluster from being level.
fn behind(tool: &Tool, view: &ServiceView, record: &Record, cluster: &str) -> Vec<String> {
    let pairs = pairs(record, &record.primaries, cluster);
    let limits = &tool.config.guards;
    let late = pairs.iter().filter_map(|(s, t)| failback::behind(view, s, t, limits));
    late.collect()
}

/// The record, if this cluster may leave it.
fn may_leave(tool: &Tool, cluster: &str) -> Result<Option<Record>, Stop> {
    let refuse = |why: String| Err(Stop::new(Exit::Refused, format!("{why}; nothing was changed")));
    let found = tool.view().map_err(|why| Stop::new(Exit::Failed, why.to_string()));
    let (_, record, _) = found?;
    if !record.clusters.contains_key(cluster) {
        return Ok(None);
    }
    if let Some(freeze) = record.freeze() {
        return refuse(format!("a switch to `{}` is under way ({})", freeze.to, freeze.id));
    }
    if record.primaries.iter().any(|primary| primary.cluster == cluster) {
        return refuse(format!(
            "cluster `{cluster}` accepts the writes of the service: `run --to` another cluster first"
        ));
    }
    Ok(Some(record))
}

/// Waits for whoever needs the cluster, and removes it. One that never becomes level is given up.
pub(crate) async fn leave(tool: &Tool, cluster: &str) -> Result<Retired, Stop> {
    let Some(record) = may_leave(tool, cluster)? else { return Ok(Retired::default()) };
    let patience = tool.config.settle_timeout;
    let mut view = tool.service.watch();
    let routed =
        until(tool, &mut view, Instant::now() + patience, |view| all((), routed(view, &record)));
    if let Waited::TimedOut(why) = routed.await {
        let why = format!(
            "cluster `{cluster}` stays in the service: {why}. End those proxies, or mend them, and try again"
        );
        return Err(Stop::new(Exit::Refused, why));
    }
    let level = until(tool, &mut view, Instant::now() + patience, |view| {
        all((), behind(tool, view, &record, cluster))
    });
    let given_up = match level.await {
        Waited::TimedOut(why) => Some(why),
        Waited::Done(()) | Waited::Over => None,
    };
    tool.still_claimed()?;
    super::resize::die("resize-die-before-remove");
    let removed = drop_cluster(tool, cluster).await;
    removed.map_err(|why| Stop::new(ops::exit::of(&why), why.to_string()))?;
    super::resize::die("resize-die-after-remove");
    let let_go = until(tool, &mut view, Instant::now() + patience, |view| {
        let kept = keepers(view, cluster);
        if kept.is_empty() {
            Look::Done(())
        } else {
            Look::Missing(format!("{} keep what `{cluster}` needed", kept.join(", ")))
        }
    });
    let kept_by = match let_go.await {
        Waited::TimedOut(_) => keepers(&view.borrow(), cluster),
        Waited::Done(()) | Waited::Over => Vec::new(),
    };
    Ok(Retired { given_up, kept_by })
}

/// The sidecars that still follow up on a cluster.
pub(crate) fn keepers(view: &ServiceView, cluster: &str) -> Vec<String> {
    let keeps = |target: &String| target.split('/').next() == Some(cluster);
    let of = view.sidecars.iter().filter(|(_, sidecar)| sidecar.streams.keys().any(keeps));
    of.map(|(shard, _)| format!("the sidecar of {shard}")).collect()
}

/// `retire CLUSTER`
pub(crate) async fn retire(tool: &Tool, cluster: &str, yes: bool) -> anyhow::Result<Exit> {
    let said = |what: String, record: &Record, retired: &Retired| {
        let json = json!({
            "operation": "retire", "service": record.service, "cluster": cluster,
            "clusters": record.clusters.keys().collect::<Vec<_>>(), "active": active(record),
            "epoch": record.epoch, "retired": retired, "exit": 0,
        });
        tool.result(&format!("cluster `{cluster}` {what}"), &json).map(|()| Exit::Done)
    };
    let (view, now, _) = tool.view()?;
    let Some(record) = may_leave(tool, cluster)? else {
        let what = format!("is not in the service; there are: {}", names(&now.clusters));
        return said(what, &now, &Retired::default());
    };
    let late = [routed(&view, &record), behind(tool, &view, &record, cluster)].concat();
    let mut means = format!(
        "cluster `{cluster}` would leave the service: its nodes serve nothing from then on, its data stays on their disks, and there is no going back to it."
    );
    if record.clusters.keys().filter(|other| *other != cluster).count() == 1 {
        means.push_str(
            " It is the last follower: from then on a cloud that is lost takes the data with it.",
        );
    }
    if !late.is_empty() {
        means.push_str(&format!(" It is waited for that these are ready, and what does not become level is given up: {}.", late.join("; ")));
    }
    if tool.dry_run {
        return said(format!("stays: {means} Nothing was changed"), &record, &Retired::default());
    }
    if !yes {
        tool.progress(&means);
        if !tool.confirm(&format!("retire `{cluster}`?")).unwrap_or(false) {
            let why = format!("{means} Nothing was changed: say --yes to do it");
            return Err(Stop::new(Exit::Refused, why).into());
        }
    }
    let work = Box::pin(async { Ok(leave(tool, cluster).await?) });
    let retired = tool.claimed("retire", Patience::None, work).await?;
    let (record, _) = tool.service.read_record().await?.unwrap_or((record, Default::default()));
    said(format!("has left the service ({})", retired.text()), &record, &retired)
}
