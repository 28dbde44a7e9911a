//! What control commands change of the node's part: the fence, and on a node without a service
//! a freeze and a promotion.

use topology::members::Role;
use topology::record::UnixMs;
use topology::{Epoch, FreezeId};
use wal::Kind;

use super::super::{Control, Fault, Mode};
use crate::store::Standing;

impl Control {
    /// Raises the fence; a primary below it stops writing at once.
    pub(in crate::control) fn fence(&self, epoch: Epoch) -> Result<(), Fault> {
        let mut turn = self.turn();
        turn.fence = self.0.dir.raise_fence(epoch)?;
        self.tell(&turn);
        let below = turn.record.as_ref().is_some_and(|(record, _)| record.epoch < turn.fence);
        if below && self.0.authority.mode() == Mode::Primary {
            self.enter(&self.store()?, Mode::Fenced);
        }
        self.0.changed.notify_one();
        Ok(())
    }

    /// A freeze by hand, on a node without a service.
    pub(in crate::control) fn freeze(&self, id: FreezeId, deadline: UnixMs) -> Result<(), Fault> {
        self.refuse_with_service("GODWIT.FREEZE")?;
        let mut turn = self.turn();
        self.end_log(&self.store()?, id)?;
        turn.manual = Some((id, deadline));
        self.tell(&turn);
        Ok(())
    }

    /// Ends a freeze by hand whose deadline has passed.
    pub(in crate::control) fn thaw_if_due(&self) -> Result<(), Fault> {
        let mut turn = self.turn();
        if turn.manual.is_some_and(|(_, deadline)| UnixMs::now() >= deadline) {
            let store = self.store()?;
            turn.manual = None;
            self.tell(&turn);
            tracing::info!("the freeze by hand has ended by its deadline");
            self.enter(&store, Mode::Standalone);
        }
        Ok(())
    }

    /// By hand, on a node without a service: ends a freeze and starts a timeline at this epoch.
    pub(in crate::control) fn promote(&self, epoch: Epoch) -> Result<(), Fault> {
        self.refuse_with_service("GODWIT.PROMOTE")?;
        let mut turn = self.turn();
        let store = self.store()?;
        let standing = store.state().standing.clone();
        if epoch < standing.epoch || epoch < turn.fence {
            return Err(Fault::role(format!(
                "epoch {epoch} is below what this node acted under or is fenced at; take a later one"
            )));
        }
        self.promote_at(&store, epoch, &[])?;
        let alone = Standing { role: Role::Standalone, epoch, ..Standing::new(Role::Standalone) };
        store.exclusive().stand(Kind::Data, 0, |_| alone)?;
        turn.manual = None;
        self.tell(&turn);
        self.enter(&store, Mode::Standalone);
        Ok(())
    }

    fn refuse_with_service(&self, command: &str) -> Result<(), Fault> {
        if !self.has_service() {
            return Ok(());
        }
        Err(Fault::role(format!(
            "{command} is for a node without a service; this one does what its service's record \
             says: use godwit-switchover"
        )))
    }
}
