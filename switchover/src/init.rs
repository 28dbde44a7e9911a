//! `init`: the first record of a service.

use std::collections::BTreeMap;

use keyspace::SlotSet;
use ops::exit::{Exit, Stop};
use ops::units::Span;
use serde_json::json;
use topology::record::{Cluster, Phase};
use topology::{Epoch, Outcome, Record, ShardName};

use crate::tool::Tool;

/// Shorter leases end while a busy machine thinks about it.
const LEASE_MIN: Span = Span::ms(200);

pub(crate) async fn init(
    tool: &Tool,
    clusters: Vec<(String, Vec<SlotSet>)>,
    active: String,
    lease: Span,
) -> anyhow::Result<Exit> {
    let record = first_record(tool.service.name(), clusters, &active, lease)?;
    let done = |what: &str| {
        let text = format!(
            "service `{}` {what}: epoch {}, cluster `{active}` is active",
            record.service, record.epoch
        );
        let json = json!({"operation": "init", "service": record.service, "active": active, "epoch": record.epoch, "exit": 0});
        tool.result(&text, &json).map(|()| Exit::Done)
    };
    if tool.dry_run {
        let text = format!(
            "would create service `{}`: cluster `{active}` active, {} shards in all",
            record.service,
            record.shards().count()
        );
        let json = json!({"operation": "init", "record": record, "message": text, "exit": 0});
        return tool.result(&text, &json).map(|()| Exit::Done);
    }
    if tool.service.create_record(&record).await? != Outcome::Conflict {
        return done("was created");
    }
    match tool.service.read_record().await? {
        Some((held, _)) if held == record => done("exists already, just so"),
        Some((held, _)) => Err(Stop::new(
            Exit::Refused,
            format!(
                "service `{}` exists already (epoch {}, active {}) and is not what `init` was asked for; nothing was changed. See `status`",
                held.service,
                held.epoch,
                held.active().unwrap_or("in several clusters")
            ),
        )
        .into()),
        None => anyhow::bail!("the record appeared and disappeared while it was made; try again"),
    }
}

fn first_record(
    service: &str,
    clusters: Vec<(String, Vec<SlotSet>)>,
    active: &str,
    lease: Span,
) -> Result<Record, Stop> {
    let usage = |why: String| Stop::new(Exit::Usage, why);
    if lease < LEASE_MIN {
        return Err(usage(format!("a lease of {lease} is too short: at least {LEASE_MIN}")));
    }
    let mut plan = BTreeMap::new();
    for (name, slots) in clusters {
        if plan.insert(name.clone(), Cluster::of(slots)).is_some() {
            return Err(usage(format!("cluster `{name}` is named twice")));
        }
    }
    let Some(cluster) = plan.get(active) else {
        return Err(usage(format!(
            "`--active {active}` names no cluster; there are: {}",
            names(&plan)
        )));
    };
    let primaries = (0..).zip(&cluster.shards);
    let primaries = primaries.map(|(shard, _)| ShardName { cluster: active.to_owned(), shard });
    let record = Record {
        format: Record::FORMAT,
        level: 0,
        service: service.to_owned(),
        epoch: Epoch(1),
        primaries: primaries.collect(),
        phase: Phase::Steady,
        lease_ms: u64::try_from(lease.duration().as_millis()).unwrap_or(u64::MAX),
        clusters: plan,
        forks: Vec::new(),
        reads: Default::default(),
        rest: Default::default(),
    };
    record.validate().map_err(usage)?;
    Ok(record)
}

/// The clusters' names, for a sentence.
pub(crate) fn names(clusters: &BTreeMap<String, Cluster>) -> String {
    clusters.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
