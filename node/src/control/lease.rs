//! The right to write: renewed in the registry while the record says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use topology::members::Lease;
use topology::record::UnixMs;
use topology::{Outcome, Record, Revision, Service};

use super::{Control, Mode};

/// A lease is renewed after this part of it.
const RENEW_AT: u32 = 3;
/// The part of a lease that clocks of two machines may drift apart by, and a bit for the reply.
const DRIFT_PART: u32 = 50;

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
        let asking = service.renew_lease(&wish, revision);
        match tokio::time::timeout(lease / 2, asking).await {
            Ok(Ok(Outcome::Committed(_))) => {
                self.0.authority.set_lease_end(asked + lease - lease / DRIFT_PART);
                Some(true)
            }
            Ok(Ok(Outcome::Conflict)) => Some(false),
            Ok(Err(why)) => {
                tracing::warn!("the lease was not renewed: {why}");
                None
            }
            Err(_) => {
                tracing::warn!("the lease was not renewed: the registry is silent");
                None
            }
        }
    }
}
