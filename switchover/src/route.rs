//! `route`: by which cluster the reads of a zone are served. One swap of the record for all shards; who
//! may write is not touched, so it takes no epoch.

use std::time::Instant;

use ops::exit::{Exit, Stop};
use ops::units::Span;
use serde_json::json;
use topology::members::{ProxyMember, Role};
use topology::record::Reads;
use topology::{Outcome, Record, ServiceView};

use crate::tool::Tool;
use crate::wait::{Look, Waited, all, until};

/// What is to be routed, and where to.
#[derive(clap::Args, Clone, Debug)]
pub struct Routing {
    /// Only for proxies that were started with this --zone [default: all whose zone has no routing of
    /// its own]
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// The cluster that serves reads; they may be stale, up to --max-lag
    #[arg(long, value_name = "CLUSTER", conflicts_with = "clear")]
    pub reads: Option<String>,
    /// A shard that may be further behind than this sends the reads to the primaries
    #[arg(long, value_name = "SPAN", default_value = "5s", requires = "reads")]
    pub max_lag: Span,
    /// Reads go to the primaries again
    #[arg(long)]
    pub clear: bool,
}

/// One line for each zone that is routed.
pub(crate) fn lines(record: &Record) -> Vec<String> {
    let line = |(zone, reads): (&String, &Reads)| {
        let zone = match zone.as_str() {
            Record::EVERYWHERE => "all other zones".to_owned(),
            zone => format!("zone `{zone}`"),
        };
        let bound = Span(std::time::Duration::from_millis(reads.max_lag_ms));
        format!(
            "reads of {zone} go to cluster `{}`, while it is behind by no more than {bound}",
            reads.cluster
        )
    };
    record.reads.iter().map(line).collect()
}

/// Where the record sends the reads of a proxy, if not to the primaries.
fn wanted<'a>(record: &'a Record, proxy: &ProxyMember) -> Option<&'a str> {
    let cluster = record.reads_of(proxy.zone.as_deref())?.cluster.as_str();
    (record.active() != Some(cluster)).then_some(cluster)
}

/// Whether a proxy does as the record says, or why not.
fn problem(record: &Record, proxy: &ProxyMember) -> Option<String> {
    let told = proxy.reads.as_ref().map(|reads| reads.cluster.as_str());
    (told != wanted(record, proxy)).then(|| format!("proxy {} has not routed anew", proxy.id))
}

fn fit(view: &ServiceView, record: &Record, cluster: &str) -> Result<(), Stop> {
    let shards = record.shards().map(|(name, _)| name).filter(|name| name.cluster == cluster);
    let unfit: Vec<_> = shards
        .filter(|shard| {
            let role = view.nodes.get(shard).map(|node| node.role);
            !matches!(role, Some(Role::Standby | Role::Primary))
        })
        .map(|shard| shard.to_string())
        .collect();
    if unfit.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{} cannot be read from now (absent, being filled or rewinding); nothing was changed",
        unfit.join(", ")
    );
    Err(Stop::new(Exit::Refused, why))
}

/// `route`; without --reads and --clear it says how it is.
pub(crate) async fn route(tool: &Tool, routing: &Routing) -> anyhow::Result<Exit> {
    let (view, record, revision) = tool.view()?;
    let zone = routing.zone.as_deref().unwrap_or(Record::EVERYWHERE);
    if zone != Record::EVERYWHERE && !topology::record::is_name(zone) {
        let why = format!("`{zone}` is no name for a zone: up to 63 letters, digits, `-` and `_`");
        return Err(Stop::new(Exit::Usage, why).into());
    }
    let mut next = record.clone();
    match &routing.reads {
        Some(cluster) => {
            if !record.clusters.contains_key(cluster) {
                let why = format!("there is no cluster `{cluster}` in the service");
                return Err(Stop::new(Exit::Usage, why).into());
            }
            fit(&view, &record, cluster)?;
            let max_lag_ms = u64::try_from(routing.max_lag.duration().as_millis())?;
            let reads =
                next.reads.entry(zone.to_owned()).or_insert_with(|| Reads::to(cluster, max_lag_ms));
            reads.cluster.clone_from(cluster);
            reads.max_lag_ms = max_lag_ms;
        }
        None if routing.clear => {
            next.reads.remove(zone);
        }
        None => {}
    }
    next.validate().map_err(|why| Stop::new(Exit::Usage, why))?;
    let changes = next.reads != record.reads;
    if changes && record.freeze().is_some() {
        let why = "a switch is under way; nothing was changed: wait for its end";
        return Err(Stop::new(Exit::Refused, why).into());
    }
    let mut exit = Exit::Done;
    let mut missing = None;
    if changes && !tool.dry_run {
        if let Outcome::Conflict = tool.service.swap_record(revision, &next).await? {
            anyhow::bail!(
                "the record changed while it was read; nothing was changed: look at `status` and try again"
            );
        }
        missing = acknowledged(tool, &next).await;
        exit = if missing.is_some() { Exit::Incomplete } else { Exit::Done };
    }
    let mut said = lines(&next);
    if said.is_empty() {
        said.push("all reads go to the primaries".to_owned());
    }
    if tool.dry_run && changes {
        said.insert(0, "a dry run, nothing was changed; it would be so:".to_owned());
    }
    let view = tool.service.view();
    for proxy in view.proxies.values() {
        let Some(reads) = &proxy.reads else { continue };
        said.push(match &reads.home {
            None => format!("proxy {}: reads go to `{}`", proxy.id, reads.cluster),
            Some(why) => format!("proxy {}: reads go to the primaries: {why}", proxy.id),
        });
    }
    if let Some(missing) = &missing {
        said.push(format!("it is in the record and holds, but {missing}"));
    }
    let text = said.join("\n");
    let proxies: Vec<_> = view
        .proxies
        .values()
        .map(|p| json!({"id": p.id, "zone": p.zone, "reads": p.reads}))
        .collect();
    let json = json!({
        "operation": "route", "reads": next.reads, "proxies": proxies, "epoch": next.epoch,
        "message": text, "exit": exit.code(),
    });
    tool.result(&text, &json).map(|()| exit)
}

/// Waits until every proxy routes so; who has not, after that.
async fn acknowledged(tool: &Tool, record: &Record) -> Option<String> {
    let deadline = Instant::now() + tool.config.settle_timeout;
    let mut watch = tool.service.watch();
    let look = |view: &ServiceView| {
        let behind: Vec<_> =
            view.proxies.values().filter_map(|proxy| problem(record, proxy)).collect();
        all((), behind) as Look<()>
    };
    match until(tool, &mut watch, deadline, look).await {
        Waited::Done(()) => None,
        Waited::TimedOut(missing) => Some(missing),
        Waited::Over => None,
    }
}
