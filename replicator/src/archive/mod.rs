//! The archive: this node's log and checkpoints of it, in a bucket or a directory, from which any moment
//! is restored ([`crate::restore`]).
//!
//! It is one more follower of the spool, with a budget of its own: a store that is slow, full, hung or
//! gone holds up nothing but itself. Past that budget its pin is let go of, loudly, and the archive goes
//! on from a new checkpoint once the store answers again.
//!
//! ```text
//! spool -> cursor -> cut (a thread: frames, segments) -> ship -> segment, then its record
//! node  -> checkpoint ----------------------------------> base -> pieces, manifest, then its record
//! ```
//!
//! What is written is specified in `docs/formats.md`, "Repositories"; [`store::repository`] does it.

mod base;
mod cut;
mod meters;
mod settings;
mod ship;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use topology::members::Role;

pub use cut::{Cut, CutError, Cutter, Haste, Limits, Start};
pub use meters::{ArchiveMeters, FollowMeters};
pub use ops::limit::Limit;
pub use settings::{ArchiveConfig, ArchiveSettings, open_bucket};

use crate::sidecar::Sidecar;
use crate::source::became;
use crate::spool::Pin;

/// What the archive is called among the followers of the spool.
pub const PIN: &str = "archive";
/// How often it is looked whether the log is still kept for us.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first pause after a failure; each one in a row doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// How long the rest of a log may take that another has taken over from.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Archives while this shard is a primary, until shutdown.
pub async fn keep_archiving(sidecar: Arc<Sidecar>) {
    let Some(config) = sidecar.config.archive.clone() else { return };
    let pin = sidecar.spool.pin_within(PIN, config.budget);
    let check = sidecar.health.check("archive");
    let (mut pause, mut legacy) = (RETRY_MIN, ship::Legacy::default());
    while wait_for_primary(&sidecar, &pin).await {
        // Until it is known where to go on, everything is kept.
        pin.hold();
        legacy.shipped = false;
        let ended = tokio::select! {
            ended = Box::pin(ship::run(&sidecar, &config, &pin, &check, &mut legacy)) => ended,
            // It ends by itself once it has archived up to where another took over.
            () = async {
                no_more_primary(&sidecar).await;
                tokio::time::sleep(FINISH_WITHIN).await;
            } => Ok(()),
            // Whatever it waits for: a store that hangs, say.
            why = lost(&pin) => Err(anyhow::anyhow!(why)),
            () = sidecar.shutdown.cancelled() => return,
        };
        base::clear(&sidecar).await;
        let Err(error) = ended else {
            pin.release();
            continue;
        };
        let why = ops::cli::sentence(&error);
        sidecar.metrics.archive.failing.set(1);
        sidecar.metrics.archive.failures.inc();
        check.failing(why.clone());
        tracing::warn!(url = %config.url, "archiving stopped: {why}; no acknowledged write is lost, and it is tried again");
        pause = if legacy.shipped { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// Returns once the log is no longer kept for us, with why.
async fn lost(pin: &Pin) -> String {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(why) = pin.lost() {
            return why;
        }
    }
}

/// Whether the log is this shard's own: whether its node writes as the primary of the record.
fn is_primary(sidecar: &Sidecar) -> bool {
    let view = sidecar.service.view();
    let Some(record) = view.record() else { return false };
    let known = sidecar.node.known();
    let known = known.borrow();
    let ready = known.as_ref().is_some_and(|node| {
        node.role == Role::Primary && node.epoch >= became(record, &sidecar.shard)
    });
    record.is_primary(&sidecar.shard) && ready
}

/// `false` at shutdown. Of a log that is known not to be ours nothing is kept.
async fn wait_for_primary(sidecar: &Sidecar, pin: &Pin) -> bool {
    let (mut view, mut known) = (sidecar.service.watch(), sidecar.node.known());
    loop {
        let asked = view.borrow_and_update().record().is_some();
        let answered = known.borrow_and_update().is_some();
        if is_primary(sidecar) {
            return !sidecar.shutdown.is_requested();
        }
        if asked && answered {
            pin.release();
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return false },
            changed = known.changed() => if changed.is_err() { return false },
            () = sidecar.shutdown.cancelled() => return false,
        }
    }
}

/// Returns once the record has another primary. A node that restarts or dies ends nothing.
async fn no_more_primary(sidecar: &Sidecar) {
    let mut view = sidecar.service.watch();
    loop {
        let still = {
            let view = view.borrow_and_update();
            view.record().is_none_or(|record| record.is_primary(&sidecar.shard))
        };
        if !still || view.changed().await.is_err() {
            return;
        }
    }
}
