//! Whether the node can be what the record says.

use topology::members::{NodeMember, Role};
use topology::{Epoch, Record, ServiceView, ShardName};

use crate::control::promises::is_promised;
use crate::store::{NodeState, Standing};

/// The node cannot be what the record says, for this reason. It stays without writes.
pub(super) struct Unfit(pub(super) String);

/// What a former primary becomes; `own` is the end of the batch that says so.
pub(super) fn demoted(
    before: &Standing,
    epoch: Epoch,
    end: wal::Position,
    own: wal::Position,
) -> Standing {
    // What it found at its open is the end, if it has written nothing since.
    let (own_end, local_until) = match (before.own_end, before.ended) {
        (Some(found), _) => (found, before.local_until.unwrap_or(found.sequence)),
        (None, Some((_, ended))) if ended.timeline == own.timeline => (ended, own.sequence),
        (None, Some((_, ended))) => (ended, ended.sequence),
        (None, None) => (end, own.sequence),
    };
    Standing {
        role: Role::Standby,
        epoch,
        own_end: Some(own_end),
        local_until: Some(local_until),
        ended: None,
        until: None,
        lacks: keyspace::SlotSet::default(),
    }
}

/// The sources whose logs a standby continues when it is promoted, if it has of them what the
/// switch says it has.
pub(super) fn promotable(
    state: &NodeState,
    record: &Record,
    shard: &ShardName,
) -> Result<Vec<ShardName>, Unfit> {
    // A cancel after the switch raises the epoch; the switch is still what it must answer to.
    let forks = record.made_primary(shard);
    if state.applied.is_empty() || forks.is_empty() {
        return Err(Unfit(format!(
            "this node follows {}, and the record of epoch {} names {} whose log it continues: it \
             may lack what the last primary wrote, and cannot be a primary",
            if state.applied.is_empty() { "nobody" } else { "someone" },
            record.epoch,
            if forks.is_empty() { "nobody" } else { "someone" },
        )));
    }
    for fork in &forks {
        let has = state.applied.get(&fork.source).map(|applied| applied.position);
        if has.is_none_or(|has| has.sequence < fork.at.sequence) {
            return Err(Unfit(format!(
                "the switch says that this node has applied {} of {}, and it has {}: it lost what it \
                 had, and cannot be a primary",
                fork.at,
                fork.source,
                has.map_or("nothing".to_owned(), |has| has.to_string()),
            )));
        }
    }
    Ok(forks.into_iter().map(|fork| fork.source.clone()).collect())
}

/// Whether an empty node may begin a new service: if somebody has data of this shard, or writes as
/// this shard, then it is an old service whose data is elsewhere, and an empty primary would be
/// copied over it.
pub(super) fn is_first(view: &ServiceView, shard: &ShardName) -> Result<(), Unfit> {
    let has = |node: &&NodeMember| node.applied.contains_key(&shard.to_string());
    if let Some(node) = view.nodes.values().find(has) {
        return Err(Unfit(format!(
            "this node's directory is empty, and {} has data of {shard}: start it on the directory \
             that it had, or fail over to cluster `{}`",
            node.shard, node.shard.cluster
        )));
    }
    if let Some(promiser) = is_promised(view, shard) {
        return Err(Unfit(format!(
            "this node's directory is empty, and {promiser} has promised another process of {shard} that it \
             may write on: until that ends"
        )));
    }
    match view.leases.get(shard) {
        Some(lease) => Err(Unfit(format!(
            "this node's directory is empty, and another process holds the lease of {shard} (epoch \
             {}): it may write on until that ends",
            lease.epoch
        ))),
        None => Ok(()),
    }
}
