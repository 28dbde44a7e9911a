//! The node's key in the registry.

use std::collections::BTreeMap;

use topology::members::{AppliedStatus, NodeMember};
use topology::record::UnixMs;

use super::steward::Announce;
use super::{Control, Fault};
use crate::settings;
use crate::store::Durability;

/// Settings that clients or guarantees depend on, where they are not at their default: what two clusters
/// should agree on, so that a switch does not change how the service behaves.
fn agreed(durability: Durability) -> BTreeMap<String, String> {
    let numbers = [
        &settings::BUSY_REPLY_MS,
        &settings::CLIENTS_MAX,
        &settings::TIMEOUT_S,
        &settings::KEEPALIVE_S,
        &settings::BULK_BYTES_MAX,
        &settings::QUERY_BYTES_MAX,
    ];
    let numbers = numbers.into_iter().filter(|n| n.get() != n.default());
    let mut found: BTreeMap<_, _> =
        numbers.map(|n| (n.name.to_owned(), n.get().to_string())).collect();
    let switches = [&settings::PROTECTED, &settings::ALL_CHANNELS_BY_DEFAULT];
    for switch in switches.into_iter().filter(|s| s.get() != s.default()) {
        let word = switch.words[usize::from(switch.get())];
        found.insert(switch.name.to_owned(), word.to_owned());
    }
    let limits = settings::OUTPUT_LIMITS.all();
    if limits != settings::OutputLimits::DEFAULT {
        found.insert("client-output-buffer-limit".to_owned(), format!("{limits:?}"));
    }
    if durability != Durability::default() {
        found.insert("durability".to_owned(), durability.redis_name().to_owned());
    }
    found
}

impl Control {
    /// What the node's key says now; `None` without a service.
    pub(super) fn member(&self, announce: &Announce) -> Result<Option<NodeMember>, Fault> {
        let Some(shard) = self.shard() else { return Ok(None) };
        let store = self.store()?;
        let state = store.state();
        let mut applied = BTreeMap::new();
        for (source, at) in &state.applied {
            let status =
                AppliedStatus { position: at.position, stamp_ms: at.stamp.ms(), ended: at.ended };
            applied.insert(source.to_string(), status);
        }
        Ok(Some(NodeMember {
            shard: shard.clone(),
            client: announce.client.clone(),
            admin: announce.admin.clone(),
            metrics: announce.metrics.clone(),
            pid: std::process::id(),
            dir: self.0.dir.path().display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.role(&store),
            epoch: store.epoch(),
            position: Some(store.position()),
            own_end: state.standing.own_end,
            ended: state.standing.ended,
            applied,
            settings: agreed(self.0.options.durability),
            users: announce.users.as_ref().map(|users| users.digest()),
            disk_free: store.room(),
            at: UnixMs::now(),
        }))
    }
}
