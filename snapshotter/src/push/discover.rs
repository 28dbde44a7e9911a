//! Finding the sidecars of a cluster's shards.

use anyhow::{Context, anyhow, bail};
use keyspace::SlotSet;
use topology::ShardName;
use topology::service::{Service, ServiceView};

use crate::config::Config;

/// A shard to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The shard.
    pub(crate) shard: ShardName,
    /// Its slots, as the record says.
    pub(crate) slots: SlotSet,
    /// Whether it is the primary of its slots: it has clients to serve.
    pub(crate) is_primary: bool,
    /// Where its sidecar listens.
    pub(crate) address: String,
}

/// Every shard of the cluster, once each has a sidecar in the registry.
pub(super) async fn targets(service: &Service, config: &Config) -> anyhow::Result<Vec<Target>> {
    let mut watch = service.watch();
    let wait = async {
        loop {
            let found = resolve(&watch.borrow_and_update(), config);
            if let Ok(targets) = found {
                return Ok(targets);
            }
            watch.changed().await.context("the registry's watch ended")?;
        }
    };
    match tokio::time::timeout(config.wait, wait).await {
        Ok(targets) => targets,
        // The last view says what is missing.
        Err(_) => resolve(&service.view(), config),
    }
}

fn resolve(view: &ServiceView, config: &Config) -> anyhow::Result<Vec<Target>> {
    let (service, registry) = (&config.service, &config.registry);
    let Some(record) = view.record() else {
        bail!(
            "the registry {registry} has no service `{service}`: is the name right? `godwit-switchover init` makes one"
        );
    };
    let cluster = record.clusters.get(&config.cluster).ok_or_else(|| {
        let known: Vec<_> = record.clusters.keys().map(String::as_str).collect();
        anyhow!(
            "service `{service}` has no cluster `{}`; it has {}",
            config.cluster,
            known.join(", ")
        )
    })?;
    let targets = cluster.shards.iter().enumerate().map(|(n, shard)| {
        let number = u32::try_from(n).context("a shard's number")?;
        let name = ShardName { cluster: config.cluster.clone(), shard: number };
        let sidecar = view.sidecars.get(&name).ok_or_else(|| {
            anyhow!(
                "{name} has no sidecar in the registry {registry}: is its godwit-replicator running? `godwit-switchover status` shows who is there"
            )
        })?;
        Ok(Target {
            address: sidecar.stream.clone(),
            slots: shard.slots.clone(),
            is_primary: record.is_primary(&name),
            shard: name,
        })
    });
    targets.collect()
}
