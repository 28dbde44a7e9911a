//! What operators' tools write beside the record.

use std::time::Duration;

use crate::drill::DrillOrder;
use crate::operator::{Auto, Claim, Maintenance, Note};
use crate::record::is_name;
use crate::registry::{Expect, Outcome, Registry, RegistryError, Revision, Write};

use super::{Service, json};

impl Service {
    /// Claims the service for an operation until `ttl` after the last call: with `held`, the claim
    /// that was last read or written is replaced or renewed; without, there must be none.
    pub async fn claim(
        &self,
        claim: &Claim,
        ttl: Duration,
        held: Option<Revision>,
    ) -> Result<Outcome, RegistryError> {
        let key = self.key("operation");
        let expect = Expect { key: key.clone(), revision: held, value: None };
        let write = Write { key, value: Some(json(claim)), ttl: Some(ttl) };
        self.registry.commit(&[expect], &[write]).await
    }

    /// Gives a claim back, if it still has this revision.
    pub async fn release(&self, held: Revision) -> Result<Outcome, RegistryError> {
        let key = self.key("operation");
        let expect = Expect { key: key.clone(), revision: Some(held), value: None };
        self.registry.commit(&[expect], &[Write { key, value: None, ttl: None }]).await
    }

    /// The claim, read now; one that cannot be understood is an error.
    pub async fn read_claim(&self) -> Result<Option<(Claim, Revision)>, RegistryError> {
        let Some(found) = self.registry.get(&self.key("operation")).await? else { return Ok(None) };
        let claim = serde_json::from_slice(&found.value).map_err(|why| {
            RegistryError::Unusable(format!("the key of the operation under way: {why}"))
        })?;
        Ok(Some((claim, found.revision)))
    }

    /// Asks for quiet, or ends it.
    pub async fn set_maintenance(&self, to: Option<&Maintenance>) -> Result<(), RegistryError> {
        let write = Write { key: self.key("maintenance"), value: to.map(json), ttl: None };
        self.registry.commit(&[], &[write]).await.map(drop)
    }

    /// Lets the service fail over by itself within these limits, or not any more.
    pub async fn set_auto(&self, to: Option<&Auto>) -> Result<(), RegistryError> {
        let write = Write { key: self.key("auto"), value: to.map(json), ttl: None };
        self.registry.commit(&[], &[write]).await.map(drop)
    }

    /// Asks sidecars for a drill, or asks on; who does so calls it again well within `ttl`.
    pub async fn put_drill(&self, order: &DrillOrder, ttl: Duration) -> Result<(), RegistryError> {
        self.put(self.key("drill"), order, ttl).await
    }

    /// Asks for it no more.
    pub async fn remove_drill(&self) -> Result<(), RegistryError> {
        self.remove(self.key("drill")).await
    }

    /// Notes that something was done, in place of the last such note.
    pub async fn put_note(&self, what: &str, note: &Note) -> Result<(), RegistryError> {
        if !is_name(what) {
            return Err(RegistryError::Unusable(format!(
                "`{what}` is no name for a note: up to 63 letters, digits, `-` and `_`"
            )));
        }
        let write =
            Write { key: self.key(&format!("note/{what}")), value: Some(json(note)), ttl: None };
        self.registry.commit(&[], &[write]).await.map(drop)
    }
}
