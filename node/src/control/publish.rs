//! The node's key in the registry.

use std::collections::BTreeMap;

use topology::members::{AppliedStatus, NodeMember};
use topology::record::UnixMs;

use super::agreed;
use super::steward::Announce;
use super::{Control, Fault};

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
            settings: agreed::now(self.0.options.durability, announce, self.0.workers.notices()),
            users: announce.users.as_ref().map(|users| users.digest()),
            disk_free: store.room(),
            promises: Some(self.0.promises.says()),
            at: UnixMs::now(),
        }))
    }
}
