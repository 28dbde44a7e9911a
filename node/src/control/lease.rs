//! The right to write: renewed in the registry while the record says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use topology::members::Lease;
use topology::record::UnixMs;
use topology::{Outcome, Record, Revision, Service};

use super::promises::DRIFT_PART;
use super::{Control, Mode};

/// A lease is renewed after this part of it.
const RENEW_AT: u32 = 3;

/// How long until the next try, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after this.
    After(Duration),
    /// The record changed: nothing to renew until it has been obeyed.
    WhenChanged,
}

impl Control {
    /// Asks once for the lease, if the record that was obeyed last makes this node a primary that
    /// is not frozen.
    pub(super) async fn renew(&self, service: &Service) -> Next {
        let Some((record, revision)) = self.record() else { return Next::WhenChanged };
        let wanted = matches!(self.0.authority.mode(), Mode::Primary);
        if !wanted || self.0.closing.load(Ordering::Acquire) {
            return Next::WhenChanged;
        }
        let lease = Duration::from_millis(record.lease_ms);
        match self.ask(service, &record, revision, lease).await {
            Some(true) => Next::After(lease / RENEW_AT),
            Some(false) => Next::WhenChanged,
            None => Next::After((lease / 10).max(Duration::from_millis(20))),
        }
    }

    /// Whether the registry renewed it; `None` if the registry is silent.
    async fn ask(
        &self,
        service: &Service,
        record: &Record,
        revision: Revision,
        lease: Duration,
    ) -> Option<bool> {
        let shard = self.shard()?;
        // Counted from before the request: whoever waits for its end counts from later.
        let asked = ops::clock::boot_now();
        let wish = Lease {
            shard: shard.clone(),
            epoch: record.epoch,
            lease_ms: record.lease_ms,
            at: UnixMs::now(),
        };
        let naming = self.0.promises.naming(record, shard);
        let asking = service.renew_lease(&wish, revision, naming.as_ref());
        match tokio::time::timeout(lease / 2, asking).await {
            Ok(Ok(Outcome::Committed(_))) => {
                if self.0.authority.lease_by_registry(asked + lease - lease / DRIFT_PART) {
                    tracing::info!(
                        "the registry renews the lease again: no promises are asked for"
                    );
                }
                self.0.promises.renewed(record.epoch, naming);
                self.not_renewed(String::new());
                Some(true)
            }
            Ok(Ok(Outcome::Conflict)) => {
                self.0.promises.outdated(revision);
                Some(false)
            }
            Ok(Err(why)) => {
                self.not_renewed(why.to_string());
                None
            }
            Err(_) => {
                self.not_renewed("the registry is silent".to_owned());
                None
            }
        }
    }

    /// Says once why the registry does not renew the lease.
    fn not_renewed(&self, why: String) {
        if !why.is_empty() {
            self.0.promises.unanswered();
        }
        let mut said = super::lock(&self.0.unrenewed);
        if *said != why {
            if !why.is_empty() {
                tracing::warn!("the lease was not renewed: {why}");
            }
            *said = why;
        }
    }
}
