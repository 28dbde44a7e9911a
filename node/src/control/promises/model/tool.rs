//! The operator's tool: freezes, waits as `switchover` does, and commits or cancels.

use std::collections::BTreeMap;
use std::sync::Arc;

use topology::members::{NodeMember, Role};
use topology::promises::{Silence, silence};
use topology::record::{Cause, Fork, Freeze, Phase, UnixMs};
use topology::{Epoch, FreezeId, Record, Revision, ServiceView};
use wal::{Position, Sequence, TimelineId};

use super::world::{Flaw, LEASE_MS, MS, NODES, Us, World, name, number};

/// Margins of the waits, as `switchover` has them.
const MARGIN: Us = 100 * MS;

#[derive(Debug, Default)]
pub(super) struct Tool {
    switch: Option<Switch>,
}

#[derive(Debug)]
struct Switch {
    revision: Revision,
    from: usize,
    frozen_at: Us,
    /// When what each has promised ends, as first seen.
    ends: BTreeMap<usize, Us>,
    /// Whether it drains a dead node where it can.
    drains: bool,
}

impl Tool {
    pub(super) fn step(&mut self, world: &mut World) {
        self.switch = match self.switch.take() {
            None if world.chance(1) => freeze(world),
            None => None,
            Some(mut switch) => (!switch.look(world)).then_some(switch),
        };
    }
}

fn freeze(world: &mut World) -> Option<Switch> {
    let primary = world.record.primaries.first()?.clone();
    let others: Vec<_> =
        world.record.clusters.keys().filter(|c| **c != primary.cluster).cloned().collect();
    let to = others[world.upto(others.len() as u64) as usize].clone();
    let freeze = Freeze {
        id: FreezeId(world.revision.0.into()),
        cause: Cause::Failover,
        shards: vec![primary.clone()],
        to,
        deadline: UnixMs(0),
        since: UnixMs(0),
        rest: Default::default(),
    };
    let next = Record { phase: Phase::Frozen(freeze), ..world.record.clone() };
    world.swap(world.revision, next);
    let drains = world.chance(50);
    Some(Switch {
        revision: world.revision,
        from: number(&primary),
        frozen_at: world.now,
        ends: BTreeMap::new(),
        drains,
    })
}

impl Switch {
    /// Whether the switch is over.
    fn look(&mut self, world: &mut World) -> bool {
        if world.revision != self.revision {
            return true;
        }
        let epoch = world.record.epoch;
        let ended = world.members.get(&self.from).is_some_and(|(_, ended)| *ended == Some(epoch));
        // Its sidecar takes its lock and fences it.
        let dead = self.drains && !world.nodes[self.from].lives() && world.chance(10);
        if dead {
            world.nodes[self.from].fence = epoch.next();
        }
        if ended || dead {
            return self.commit(world, true);
        }
        if world.now >= self.frozen_at + (LEASE_MS * MS + MARGIN)
            && self.promises_ended(world, epoch)
        {
            return self.commit(world, false);
        }
        if world.now >= self.frozen_at + 4 * LEASE_MS * MS {
            let next = world.record.cancelled();
            return world.swap(self.revision, next);
        }
        false
    }

    fn promises_ended(&mut self, world: &World, epoch: Epoch) -> bool {
        if world.flaw == Flaw::ToolCountsLeasesOnly {
            return true;
        }
        match silence(&view(world), &name(self.from), epoch) {
            Silence::Lease => true,
            Silence::Unknown(_) => false,
            Silence::Ends(ends) => ends.into_iter().any(|(promiser, left)| {
                let left = left.as_micros() as Us;
                let margin = if left == 0 { 0 } else { MARGIN + left / 50 };
                let end = world.now + left + margin;
                *self.ends.entry(number(&promiser)).or_insert(end) <= world.now
            }),
        }
    }

    fn commit(&self, world: &mut World, proven: bool) -> bool {
        let to = world.record.freeze().map(|freeze| freeze.to.clone()).unwrap_or_default();
        let at = Position { timeline: TimelineId(1), sequence: Sequence(1) };
        let fork = Fork {
            epoch: world.record.epoch.next(),
            freeze: FreezeId(1),
            source: name(self.from),
            target: format!("{to}/0").parse().unwrap(),
            at,
            end: proven.then_some(at),
            rest: Default::default(),
        };
        let next = world.record.committed(&to, vec![fork]);
        world.switches += 1;
        world.swap(self.revision, next)
    }
}

/// What the registry shows.
fn view(world: &World) -> ServiceView {
    let node = |(node, (promises, _)): (&usize, &(_, _))| {
        let promises: &topology::members::Promises = promises;
        let member = NodeMember {
            shard: name(*node),
            client: String::new(),
            admin: String::new(),
            metrics: None,
            pid: 1,
            dir: String::new(),
            version: String::new(),
            role: Role::Standby,
            epoch: Epoch(0),
            position: None,
            own_end: None,
            ended: None,
            applied: BTreeMap::new(),
            settings: BTreeMap::new(),
            users: None,
            disk_free: None,
            promises: Some(promises.clone()),
            at: UnixMs(0),
        };
        (name(*node), member)
    };
    debug_assert!(world.members.len() <= NODES);
    ServiceView {
        record: Some((world.record.clone(), world.revision)),
        record_bytes: Arc::default(),
        promisers: world.promisers.clone(),
        nodes: world.members.iter().map(node).collect(),
        ..ServiceView::default()
    }
}
