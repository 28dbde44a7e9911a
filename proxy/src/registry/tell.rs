//! The proxy's key in the registry: written at each change of what it acknowledges, and every second.

use std::sync::Arc;
use std::time::Duration;

use observe::Observer;
use tokio::sync::watch;
use topology::Service;
use topology::members::ProxyMember;
use topology::record::UnixMs;
use topology::service::{MEMBER_BEAT, MEMBER_TTL};

use super::Acknowledged;
use crate::shared::Shared;

/// A write that takes longer than the key lasts is given up, and what is true then is written.
const TELL_WAIT: Duration = MEMBER_TTL;
/// A registry that does not answer keeps nobody who wants to go; the key ends by itself.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// Who the proxy says it is, and the latest of what it acknowledges.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) shared: Arc<Shared>,
    pub(super) service: Service,
    pub(super) id: String,
    pub(super) cluster: String,
    pub(super) metrics: Option<String>,
    pub(super) zone: Option<String>,
    /// What it sees of the primaries.
    pub(super) observer: Observer,
    pub(super) latest: watch::Receiver<Acknowledged>,
}

impl Teller {
    /// Tells until shutdown, then takes the key away.
    pub(super) async fn run(mut self) {
        loop {
            let member = self.member();
            let put = self.service.put_proxy(&member, MEMBER_TTL);
            let put = tokio::select! {
                put = tokio::time::timeout(TELL_WAIT, put) => put,
                () = self.shared.shutdown.cancelled() => break,
            };
            match put {
                Ok(Ok(())) => {}
                Ok(Err(why)) => {
                    tracing::warn!(%why, "cannot register this proxy; it goes on by what it knows");
                }
                Err(_) => tracing::warn!(
                    "cannot register this proxy: the registry has not answered for {} s; it goes on by what it knows",
                    TELL_WAIT.as_secs()
                ),
            }
            tokio::select! {
                () = self.shared.shutdown.cancelled() => break,
                // An end of what is told is an end of the proxy: shutdown follows.
                Ok(()) = self.latest.changed() => {}
                () = self.observer.changed() => {}
                () = tokio::time::sleep(MEMBER_BEAT) => {}
            }
        }
        let leaving = tokio::time::timeout(LEAVE_WAIT, self.service.remove_proxy(&self.id));
        if !matches!(leaving.await, Ok(Ok(()))) {
            tracing::warn!("cannot take this proxy out of the registry; its key ends by itself");
        }
    }

    fn member(&mut self) -> ProxyMember {
        let Acknowledged { epoch, holding, reads } = self.latest.borrow_and_update().clone();
        ProxyMember {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            client: self.shared.announce().to_owned(),
            metrics: self.metrics.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            holding,
            hold_ms: u64::try_from(self.shared.config.hold_time.as_millis()).ok(),
            zone: self.zone.clone(),
            reads,
            sees: self.observer.sights(),
            at: UnixMs::now(),
        }
    }
}
