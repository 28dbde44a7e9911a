//! Which node serves which slot, and whether it takes writes now: made from the registry's view of
//! the service, or from one address.

use std::sync::Arc;

use keyspace::{SLOTS, Slot, SlotSet};
use topology::members::{ReadsMember, Role};
use topology::{Epoch, FreezeId, ServiceView};

/// The number of a route in [`Routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteId(pub(crate) u16);

/// The way to the primary of some slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The shard's name; `backend` where there is no registry.
    pub(crate) name: String,
    /// Its slots.
    pub(crate) slots: SlotSet,
    /// Where it serves clients; `None`: nobody serves these slots now, everything waits.
    pub(crate) address: Option<Arc<str>>,
    /// Why writes wait, in words; `None`: they do not.
    pub(crate) held: Option<String>,
}

/// All routes, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// Rises with every change; threads say which one they follow.
    pub(crate) version: u64,
    /// The epoch of the record.
    pub(crate) epoch: Epoch,
    /// The freeze under way.
    pub(crate) freeze: Option<FreezeId>,
    /// The routes.
    pub(crate) routes: Vec<Route>,
    /// For each slot its route; empty while no record was seen.
    table: Vec<u16>,
    /// Nodes that may take over: connections to them are opened in advance.
    pub(crate) warm: Vec<Arc<str>>,
    /// Where reads go, if not to the primaries: each slot at a standby of one cluster.
    pub(crate) reads: Option<Box<Routes>>,
    /// What is said of that in the registry.
    pub(crate) reads_told: Option<ReadsMember>,
}

impl Routes {
    /// Every slot at one address.
    pub(crate) fn single(address: &str) -> Self {
        let route = Route {
            name: "backend".to_owned(),
            slots: SlotSet::all(),
            address: Some(address.into()),
            held: None,
        };
        Self::new(1, Epoch::default(), None, vec![route], Vec::new())
    }

    /// What the view says. A primary counts once its node says that it is one.
    pub(crate) fn from_view(version: u64, view: &ServiceView) -> Self {
        let Some((record, _)) = &view.record else { return Self { version, ..Self::default() } };
        let route = |shard: &topology::ShardName| {
            let member = view.nodes.get(shard).filter(|node| node.role == Role::Primary);
            let held = if record.freeze_of(shard).is_some() {
                Some(format!("the shard {shard} is frozen for a switch"))
            } else {
                match member {
                    None => Some(format!("the shard {shard} has no primary that says so")),
                    Some(node) if node.epoch != record.epoch => {
                        Some(format!("the primary of {shard} has not taken epoch {}", record.epoch))
                    }
                    Some(_) => None,
                }
            };
            Route {
                name: shard.to_string(),
                slots: record.slots_of(shard).cloned().unwrap_or_default(),
                address: member.map(|node| node.client.as_str().into()),
                held,
            }
        };
        let routes = record.primaries.iter().map(route).collect();
        let to = record.freeze().map(|freeze| freeze.to.as_str());
        let warm = view.nodes.values().filter(|node| Some(node.shard.cluster.as_str()) == to);
        let warm = warm.map(|node| node.client.as_str().into()).collect();
        Self::new(version, record.epoch, record.freeze().map(|f| f.id), routes, warm)
    }

    /// These, with reads at the cluster that `told` names; where it says that they are home, without.
    #[must_use]
    pub(crate) fn with_reads(self, view: &ServiceView, told: Option<ReadsMember>) -> Self {
        let out = told.as_ref().filter(|told| told.home.is_none());
        let reads = out.and_then(|told| {
            let record = view.record()?;
            let shards = record.shards().filter(|(name, _)| name.cluster == told.cluster);
            let route = |(name, slots): (topology::ShardName, &SlotSet)| Route {
                address: view.nodes.get(&name).map(|node| node.client.as_str().into()),
                name: name.to_string(),
                slots: slots.clone(),
                held: None,
            };
            let routes = shards.map(route).collect();
            Some(Box::new(Self::new(self.version, self.epoch, None, routes, Vec::new())))
        });
        Self { reads, reads_told: told, ..self }
    }

    fn new(
        version: u64,
        epoch: Epoch,
        freeze: Option<FreezeId>,
        routes: Vec<Route>,
        warm: Vec<Arc<str>>,
    ) -> Self {
        let mut table = vec![u16::MAX; usize::from(SLOTS)];
        for (number, route) in (0..).zip(&routes) {
            for slot in route.slots.iter() {
                table[usize::from(slot.number())] = number;
            }
        }
        Self { version, epoch, freeze, routes, table, warm, reads: None, reads_told: None }
    }

    /// Whether nothing but the version differs.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let reads = |routes: &Self| routes.reads.as_ref().map(|reads| reads.routes.clone());
        (self.epoch, self.freeze, &self.routes, &self.warm, &self.reads_told, reads(self))
            == (
                other.epoch,
                other.freeze,
                &other.routes,
                &other.warm,
                &other.reads_told,
                reads(other),
            )
    }

    /// The route of a slot; `None` while no record was seen.
    pub(crate) fn of(&self, slot: Slot) -> Option<RouteId> {
        let number = self.table.get(usize::from(slot.number())).copied()?;
        (usize::from(number) < self.routes.len()).then_some(RouteId(number))
    }

    /// A route by number.
    pub(crate) fn get(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(usize::from(id.0))
    }

    /// The numbers of all routes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = RouteId> + use<> {
        (0..u16::try_from(self.routes.len()).unwrap_or(u16::MAX)).map(RouteId)
    }

    /// What stands in the way of serving every slot, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.routes.is_empty() {
            return Some("the registry has no record of the service yet".to_owned());
        }
        self.routes
            .iter()
            .find(|route| route.address.is_none())
            .and_then(|route| route.held.clone())
    }

    /// Every address that is in use or may soon be.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        self.routes.iter().filter_map(|route| route.address.as_ref()).chain(&self.warm)
    }

    /// Every address that only reads go to.
    pub(crate) fn read_addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        let reads = self.reads.iter().flat_map(|reads| &reads.routes);
        reads.filter_map(|route| route.address.as_ref())
    }

    /// Whether writes to this address wait because of a freeze.
    pub(crate) fn is_held(&self, address: &str) -> bool {
        self.routes.iter().any(|r| r.held.is_some() && r.address.as_deref() == Some(address))
    }
}
