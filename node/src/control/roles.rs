//! Making the node what the record says.

mod by_hand;
mod fit;

use std::collections::BTreeMap;
use std::sync::Arc;

use keyspace::SlotSet;
use topology::members::Role;
use topology::record::Freeze;
use topology::{Epoch, FreezeId, Record, Revision, ServiceView, ShardName};
use wal::history::TimelineStart;
use wal::{Kind, TimelineId};

use super::authority::Routes;
use super::{Control, Fault, Mode, Turn};
use crate::store::{NodeState, Standing, Store};
use fit::{Unfit, demoted, is_first, promotable};

/// A new service begins at this epoch: only then may a node that holds nothing be a primary.
const FIRST_EPOCH: Epoch = Epoch(1);

impl Control {
    /// Makes the node what this record says, as far as it can be. Blocks; safe to call again.
    pub fn obey(&self, view: &ServiceView) -> Result<(), Fault> {
        let Some((record, revision)) = &view.record else { return Ok(()) };
        let Some(shard) = self.shard() else { return Ok(()) };
        self.hear_of_followers(view, shard);
        // Before anything is done by it: what was promised may forbid that, and what it says forbids promises.
        self.0.promises.hear(&self.0.dir, record, shard);
        let mut turn = self.turn();
        let store = self.store()?;
        let slots = record.slots_of(shard).cloned().unwrap_or_default();
        self.0.authority.set_slots(&slots);
        self.0.authority.set_routes(routes(view, record, shard));
        if store.is_latched() {
            return Ok(());
        }
        let before = (self.0.authority.mode(), store.state());
        let outcome = self.become_told(&mut turn, &store, view, (record, shard), &slots)?;
        let news = turn.record.as_ref().is_none_or(|(_, known)| known != revision);
        turn.record = Some((record.clone(), *revision));
        let (mode, said) = match outcome {
            Ok(mode) => (mode, String::new()),
            Err(Unfit(why)) => {
                let role = store.state().standing.role;
                (readable_mode(role, &store), why)
            }
        };
        if turn.said != said {
            if !said.is_empty() {
                tracing::error!(epoch = %record.epoch, "{said}; it accepts no writes");
            }
            turn.said = said;
        }
        self.enter(&store, mode);
        if news {
            self.tell(&turn);
        }
        drop(turn);
        // Members write their keys all the time; only what changed here is told.
        if news || before != (mode, store.state()) {
            self.0.changed.notify_one();
            self.0.obeyed.notify_one();
        }
        Ok(())
    }

    fn become_told(
        &self,
        turn: &mut Turn,
        store: &Arc<Store>,
        view: &ServiceView,
        (record, shard): (&Record, &ShardName),
        slots: &SlotSet,
    ) -> Result<Result<Mode, Unfit>, Fault> {
        let standing = store.state().standing.clone();
        if slots.is_empty() {
            let unfit = format!("the record of service `{}` has no shard {shard}", record.service);
            return Ok(Err(Unfit(unfit)));
        }
        if record.epoch < standing.epoch {
            return Ok(Err(Unfit(format!(
                "the record is at epoch {}, and this node acted under epoch {}: the registry was \
                 set back, or is another one",
                record.epoch, standing.epoch
            ))));
        }
        if !record.is_primary(shard) {
            self.stand_by(store, record.epoch)?;
            return Ok(Ok(readable_mode(store.state().standing.role, store)));
        }
        if let Err(unfit) = self.lead(store, view, record, shard)? {
            return Ok(Err(unfit));
        }
        if let Some(freeze) = record.freeze_of(shard) {
            self.end_log(store, freeze.id)?;
            return Ok(Ok(Mode::Frozen));
        }
        if turn.fence > record.epoch {
            return Ok(Ok(Mode::Fenced));
        }
        Ok(Ok(Mode::Primary))
    }

    /// The node's part at an epoch where another shard is primary of its slots.
    fn stand_by(&self, store: &Arc<Store>, epoch: Epoch) -> Result<(), Fault> {
        let state = store.state();
        match state.standing.role {
            Role::Primary => {
                self.0.authority.set_mode(Mode::Standby);
                let _parked = self.0.workers.pause();
                let mut exclusive = store.exclusive();
                exclusive.set_open(false);
                // Nobody will say of them that all have them.
                store.reclaim().forget_waiting();
                let end = exclusive.position();
                exclusive.set_epoch(epoch);
                exclusive.stand(Kind::Data, 0, |own| demoted(&state.standing, epoch, end, own))?;
                let own_end = store.state().standing.own_end;
                tracing::info!(%epoch, ?own_end, "this node is a primary no more");
            }
            role if state.standing.epoch != epoch || role == Role::Unknown => {
                let role = if role == Role::Unknown { Role::Standby } else { role };
                let mut exclusive = store.exclusive();
                exclusive.set_epoch(epoch);
                let standing = Standing { role, epoch, ..state.standing.clone() };
                exclusive.stand(Kind::Data, 0, |_| standing)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The node's part at an epoch where it is primary: go on, or be promoted.
    fn lead(
        &self,
        store: &Arc<Store>,
        view: &ServiceView,
        record: &Record,
        shard: &ShardName,
    ) -> Result<Result<(), Unfit>, Fault> {
        let state = store.state();
        let standing = &state.standing;
        match standing.role {
            Role::Primary => {
                // A switch that made it primary again left someone who had taken over before.
                let left = record.forks.iter().find(|fork| {
                    (fork.source == *shard || fork.target == *shard) && fork.epoch > standing.epoch
                });
                if let Some(fork) = left {
                    let why = format!(
                        "others took over from this node (it last wrote under epoch {}, and the \
                         switch of epoch {} went from {} to {}), and it has not followed them since",
                        standing.epoch, fork.epoch, fork.source, fork.target
                    );
                    self.stand_by(store, record.epoch)?;
                    return Ok(Err(Unfit(why)));
                }
                if standing.epoch != record.epoch || standing.own_end.is_some() {
                    self.go_on(store, record.epoch, record.freeze_of(shard))?;
                }
                Ok(Ok(()))
            }
            Role::Standby => {
                if let Some(blocked) = self.0.promises.blocks(record, shard) {
                    return Ok(Err(Unfit(blocked.sentence())));
                }
                match promotable(&state, record, shard) {
                    Ok(sources) => self.promote_at(store, record.epoch, &sources)?,
                    Err(unfit) => return Ok(Err(unfit)),
                }
                Ok(Ok(()))
            }
            Role::Unknown if record.epoch <= FIRST_EPOCH => {
                if let Err(unfit) = is_first(view, shard) {
                    return Ok(Err(unfit));
                }
                self.promote_at(store, record.epoch, &[])?;
                Ok(Ok(()))
            }
            Role::Unknown => Ok(Err(Unfit(format!(
                "this node holds nothing, and the service is at epoch {}: it must be seeded before \
                 it can be a primary",
                record.epoch
            )))),
            role => Ok(Err(Unfit(format!("this node is {role:?} and cannot be a primary")))),
        }
    }

    /// A primary stays one, under a later epoch or after it was opened again.
    fn go_on(
        &self,
        store: &Arc<Store>,
        epoch: Epoch,
        freeze: Option<&Freeze>,
    ) -> Result<(), Fault> {
        let standing = store.state().standing.clone();
        // The end batch of the freeze that still lasts is still the end.
        let ended = standing.ended.filter(|(id, _)| freeze.is_some_and(|f| f.id == *id));
        let mut exclusive = store.exclusive();
        exclusive.set_epoch(epoch);
        let standing = Standing { epoch, own_end: None, local_until: None, ended, ..standing };
        exclusive.stand(Kind::Data, 0, |_| standing)?;
        Ok(())
    }

    /// Starts a timeline as primary: it continues the node's own log and what was applied of these
    /// sources. Of no others: whoever follows one of those would miss what came after it.
    fn promote_at(
        &self,
        store: &Arc<Store>,
        epoch: Epoch,
        sources: &[ShardName],
    ) -> Result<(), Fault> {
        let state = store.state();
        let mut exclusive = store.exclusive();
        store.reclaim().forget_waiting();
        let at = exclusive.position();
        let mut parents = vec![at];
        let applied = sources.iter().filter_map(|source| state.applied.get(source));
        parents.extend(applied.map(|applied| applied.position));
        for applied in state.applied.values() {
            store.hlc().observe(applied.stamp);
        }
        exclusive.set_epoch(epoch);
        let start = TimelineStart {
            timeline: TimelineId(rand::random()),
            first: at.sequence.next(),
            parents,
            epoch: epoch.0,
        };
        tracing::info!(%epoch, timeline = %start.timeline, parents = ?start.parents, "promoted");
        let mut history = (*store.history()).clone();
        history.push(start);
        let standing = Standing { role: Role::Primary, epoch, ..Standing::new(Role::Primary) };
        exclusive.start_timeline(history, NodeState { standing, applied: BTreeMap::new() })?;
        Ok(())
    }

    /// Refuses writes, waits for those in flight, and ends the log for this freeze.
    pub(super) fn end_log(&self, store: &Arc<Store>, freeze: FreezeId) -> Result<(), Fault> {
        self.0.authority.set_mode(Mode::Frozen);
        let standing = store.state().standing.clone();
        if standing.ended.is_some_and(|(id, _)| id == freeze) {
            store.exclusive().set_open(false);
            return Ok(());
        }
        let _parked = self.0.workers.pause();
        let mut exclusive = store.exclusive();
        exclusive.set_open(false);
        let end = exclusive.stand(Kind::End, freeze.0, |end| Standing {
            ended: Some((freeze, end)),
            ..standing
        })?;
        tracing::info!(%freeze, %end, "frozen; the log is ended");
        Ok(())
    }

    /// Opens or closes the log for commands and tells workers.
    pub(super) fn enter(&self, store: &Arc<Store>, mode: Mode) {
        let writes = matches!(mode, Mode::Primary | Mode::Standalone);
        if writes {
            let standing = store.state().standing.clone();
            if standing.ended.is_some() {
                // Data comes after that end: it is none any more.
                let open = Standing { ended: None, ..standing };
                if let Err(why) = store.exclusive().stand(Kind::Data, 0, |_| open) {
                    tracing::error!("{why}");
                    return self.0.authority.set_mode(Mode::Latched);
                }
            }
            store.exclusive().set_open(true);
            self.0.authority.set_mode(mode);
        } else {
            self.0.authority.set_mode(mode);
            store.exclusive().set_open(false);
        }
    }

    /// The record that was last acted upon.
    pub(super) fn record(&self) -> Option<(Record, Revision)> {
        self.0.told.load().record.clone()
    }
}

/// What a node that may not write does with reads.
pub(super) fn readable_mode(role: Role, store: &Store) -> Mode {
    let state = store.state();
    match role {
        Role::Seeding | Role::Rewinding => Mode::Loading,
        // Nothing has come yet: an empty answer would be a wrong one.
        Role::Standby if state.applied.is_empty() && state.standing.own_end.is_none() => {
            Mode::Loading
        }
        Role::Standby => Mode::Standby,
        Role::Standalone => Mode::Standalone,
        Role::Primary | Role::Unknown => Mode::Unknown,
    }
}

fn routes(view: &ServiceView, record: &Record, own: &ShardName) -> Routes {
    let route = |name: &ShardName| {
        let address = view.nodes.get(name).map(|node| node.client.clone());
        Some((name.clone(), (record.slots_of(name)?.clone(), address)))
    };
    Routes {
        primaries: record.primaries.iter().filter_map(route).collect(),
        own: Some(own.clone()),
    }
}
