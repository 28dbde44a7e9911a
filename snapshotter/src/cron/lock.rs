//! Holding a lock while something runs.

use std::future::Future;

use anyhow::{Context, anyhow};
use ops::exit::{Exit, Stop};
use store::StoreError;
use store::repository::Repository;
use store::repository::lock::LEASE;

/// Runs `work` under the lock of that name. If the lock is lost, the work ends.
pub(super) async fn held(
    repository: &Repository,
    name: &str,
    work: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let holder = format!("process {} of {}", std::process::id(), host.trim());
    let mut lock = match repository.lock(name, &holder).await {
        Ok(lock) => lock,
        Err(held @ StoreError::Held { .. }) => {
            let why = format!("another run is under way: {held}; nothing was done");
            return Err(Stop::new(Exit::Refused, why).into());
        }
        Err(why) => return Err(why).with_context(|| format!("taking the lock {name}")),
    };
    let renewing = async {
        let mut failed = None;
        let mut good_until = tokio::time::Instant::now() + LEASE;
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match lock.renew().await {
                Ok(()) => good_until = tokio::time::Instant::now() + LEASE,
                Err(why @ StoreError::Overtaken { .. }) => return why,
                Err(why) => failed = Some(why),
            }
            if let Some(why) = failed.take_if(|_| tokio::time::Instant::now() >= good_until) {
                return why;
            }
        }
    };
    let done = tokio::select! {
        done = work => done,
        why = renewing => Err(anyhow!(why).context(format!("the lock {name} was lost, so the run stopped"))),
    };
    if let Err(why) = lock.release().await {
        tracing::info!("the lock {name} was not let go of, and ends by itself: {why}");
    }
    done
}
