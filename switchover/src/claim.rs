//! One operation at a time: a claim on the service that its tool renews, and that ends with it.
//!
//! A claim keeps two operators apart; it is not what keeps two clusters from being active. That is
//! the record, of which COMMIT and cancel are swaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use tokio::task::JoinHandle;
use topology::operator::{Claim, DRILL};
use topology::record::UnixMs;
use topology::{Outcome, RegistryError, Revision};

use crate::tool::Tool;
use crate::who;

/// What somebody is at who waits for seeds: a failover takes such a claim over.
pub(crate) const SEEDING: &str = "resize (seeding)";

/// Whether `operation` need not wait for whoever is at `held`. A drill only reads the service, and seeds go
/// on without a tool.
pub(crate) fn yields(held: &str, operation: &str) -> bool {
    held == DRILL && operation != DRILL || held == SEEDING && operation == "failover"
}

/// A claim is renewed so many times while it lasts.
const RENEWALS: u32 = 4;
/// How often somebody who waits looks whether the claim is free.
const LOOK: Duration = Duration::from_millis(50);
/// A release that takes longer is left to the claim's own end.
const RELEASE_WAIT: Duration = Duration::from_secs(1);
/// Of several who take over from a dead one, one wins; the others look again, so often.
const TRIES_MAX: u32 = 16;

/// Whether to wait for the end of a claim whose tool may be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Refuse at once.
    None,
    /// Wait as long as the claim of a dead tool may last.
    ForTheDead,
}

/// The service, claimed.
pub(crate) struct Claimed {
    stop: tokio::sync::oneshot::Sender<()>,
    renewing: JoinHandle<Revision>,
}

fn busy(claim: &Claim, lasts: Duration) -> Stop {
    Stop::new(
        Exit::Refused,
        format!(
            "{} is at a {} since {} ms; nothing was changed. If that tool is dead, its claim ends within {:?}, and `resume` waits for that",
            claim.by,
            claim.operation,
            UnixMs::now().0.saturating_sub(claim.since.0),
            lasts
        ),
    )
}

impl Claimed {
    /// Claims the service for `operation`; refused in words while somebody else is at one.
    pub(crate) async fn take(
        tool: &Tool,
        operation: &str,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        let lasts = tool.config.claim;
        let claim = Claim {
            id: format!("{:032x}", rand::random::<u128>()),
            operation: operation.to_owned(),
            by: tool.by.clone(),
            since: UnixMs::now(),
        };
        let until = Instant::now() + lasts * 2;
        let mut told = false;
        let mut seen: Option<Revision> = None;
        let mut tries = 0;
        let held = loop {
            let found = tool.service.read_claim().await?;
            let free = match &found {
                None => None,
                Some((other, revision)) if yields(&other.operation, operation) => Some(*revision),
                Some((other, revision)) if who::is_dead(&other.by) => {
                    tool.progress(format!("{} is dead: taking over its claim", other.by));
                    Some(*revision)
                }
                Some((other, revision)) => {
                    let renewed = seen.replace(*revision).is_some_and(|before| before != *revision);
                    if patience == Patience::None || renewed || Instant::now() >= until {
                        return Err(busy(other, lasts).into());
                    }
                    if !std::mem::replace(&mut told, true) {
                        tool.progress(format!(
                            "waiting for the end of the claim of {}, or its next sign of life",
                            other.by
                        ));
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            match tool.service.claim(&claim, lasts, free).await {
                Ok(Outcome::Committed(revision)) => break revision,
                Ok(Outcome::Conflict) => {}
                // It may be there all the same: the next look says so.
                Err(RegistryError::Unavailable { .. }) => {}
                Err(why) => return Err(why.into()),
            }
            if let Some((now, revision)) = tool.service.read_claim().await?
                && now.id == claim.id
            {
                break revision;
            }
            tries += 1;
            if tries >= TRIES_MAX {
                anyhow::bail!(
                    "others claim the service all the time; nothing was changed: try again"
                );
            }
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let renewing = tokio::spawn(renew(
            tool.service.clone(),
            (claim, held),
            lasts,
            tool.claim_lost.clone(),
            stopped,
        ));
        Ok(Self { stop, renewing })
    }

    /// Gives it back; where that fails it ends by itself.
    pub(crate) async fn release(self, tool: &Tool) {
        let give_back = async {
            drop(self.stop);
            let held = self.renewing.await.ok()?;
            tool.service.release(held).await.ok()
        };
        if tokio::time::timeout(RELEASE_WAIT, give_back).await.ok().flatten().is_none() {
            tracing::info!("the claim on the service was not given back; it ends by itself");
        }
    }
}

/// Renews until told to stop; the revision that it had then.
async fn renew(
    service: topology::Service,
    (claim, mut held): (Claim, Revision),
    lasts: Duration,
    lost: Arc<AtomicBool>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> Revision {
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            _ = &mut stopped => return held,
            () = tokio::time::sleep(lasts / RENEWALS) => {}
        }
        let began = Instant::now();
        match service.claim(&claim, lasts, Some(held)).await {
            Ok(Outcome::Committed(revision)) => (held, renewed) = (revision, began),
            Ok(Outcome::Conflict) => match service.read_claim().await {
                // A renewal whose answer was lost.
                Ok(Some((now, revision))) if now.id == claim.id => held = revision,
                Ok(_) => break,
                Err(_) => {}
            },
            Err(why) => tracing::warn!("the claim on the service was not renewed: {why}"),
        }
        if renewed.elapsed() >= lasts {
            break;
        }
    }
    lost.store(true, Ordering::SeqCst);
    tracing::warn!("the claim on the service has ended: another tool may be at an operation now");
    // Who waits for the end gets a revision that releases nothing of another's.
    let _ = stopped.await;
    held
}
