//! A freeze that nobody ended: if the tool that froze has died, it ends here.

use std::sync::Arc;
use std::time::Duration;

use topology::record::UnixMs;
use topology::service::Cancelled;
use topology::{FreezeId, Service};

use crate::shared::Shared;

/// How often a freeze's deadline is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The tool that froze comes first in cancelling; proxies only when it has died.
const CANCEL_AFTER_MS: u64 = 500;
/// A cancel that takes longer is tried again.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// Cancels what is past its deadline, until shutdown.
pub(super) async fn end(shared: Arc<Shared>, service: Service) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = shared.shutdown.cancelled() => return,
        }
        if let Some(freeze) = overdue(&service) {
            cancel(&service, freeze).await;
        }
    }
}

fn overdue(service: &Service) -> Option<FreezeId> {
    let view = service.view();
    let freeze = view.record().and_then(|record| record.freeze())?;
    (UnixMs::now().0 > freeze.deadline.0 + CANCEL_AFTER_MS).then_some(freeze.id)
}

async fn cancel(service: &Service, freeze: FreezeId) {
    match tokio::time::timeout(CANCEL_WAIT, service.cancel(freeze)).await {
        Ok(Ok(Cancelled::Ended(record))) => {
            tracing::warn!(%freeze, epoch = %record.epoch, "the freeze was past its deadline and nobody ended it: cancelled; nothing is lost");
        }
        Ok(Ok(Cancelled::WasOver(_))) => {}
        Ok(Err(why)) => tracing::warn!(%why, "cannot cancel a freeze that is past its deadline"),
        Err(_) => tracing::warn!(
            "cannot cancel a freeze that is past its deadline: the registry is silent"
        ),
    }
}
