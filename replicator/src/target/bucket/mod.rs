//! The other way: while a source's sidecar does not reach this one, its archive is read, and what it has
//! beyond what is here is staged as if it had come by the stream.
//!
//! A connection always goes first: it takes over wherever this stands, and goes on from there. What is
//! applied, held back or discarded is decided behind the stage, whichever way something came. A node that has
//! nothing yet, or stands where the archive leads on from no more, is given its newest checkpoint ([`begin`]).
//!
//! ```text
//! page -> segment -> frames, made again for this stream (wal::frame, again) -> stage -> apply
//! ```
//!
//! A frozen source is asked for at once and often: a switch waits for what it has archived.

mod begin;
mod run;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio_util::sync::CancellationToken;
use topology::members::{BucketStatus, Way, WayBy};
use topology::record::UnixMs;
use topology::{Record, ShardName};

pub use settings::FollowConfig;

use crate::sidecar::Sidecar;
use run::Run;

/// How often it is looked whether the source is away.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The first pause after a failure; each one in a row doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Reads archives of sources that are away, until shutdown.
pub async fn keep_following(sidecar: Arc<Sidecar>) {
    let Some(config) = sidecar.config.follow.clone().map(Arc::new) else { return };
    let mut view = sidecar.service.watch();
    let mut running: BTreeMap<ShardName, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = {
            let view = view.borrow_and_update();
            view.record().map(|record| sources_of(record, &sidecar.shard)).unwrap_or_default()
        };
        running.retain(|source, token| {
            let keep = wanted.contains(source);
            if !keep {
                token.cancel();
            }
            keep
        });
        for source in wanted {
            running.entry(source.clone()).or_insert_with(|| {
                let token = sidecar.shutdown.token().child_token();
                tokio::spawn(follow(sidecar.clone(), config.clone(), source, token.clone()));
                token
            });
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// The primaries that a shard follows.
fn sources_of(record: &Record, us: &ShardName) -> Vec<ShardName> {
    let primaries = record.shards().map(|(name, _)| name).filter(|name| record.is_primary(name));
    primaries.filter(|name| record.followers_of(name).contains(us)).collect()
}

/// Reads the archive of one source whenever it is away, until it is no source any more.
async fn follow(
    sidecar: Arc<Sidecar>,
    config: Arc<FollowConfig>,
    source: ShardName,
    ended: CancellationToken,
) {
    let mut away: Option<Instant> = None;
    let mut pause = RETRY_MIN;
    // That there is such a way at all: a switch waits for what comes over it.
    sidecar.board.receiving(&source, |status| status.bucket = Some(BucketStatus::default()));
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = ended.cancelled() => break,
        }
        if is_connected(&sidecar, &source) {
            away = None;
            continue;
        }
        let since = *away.get_or_insert_with(Instant::now);
        if since.elapsed() < config.after && !is_frozen(&sidecar, &source) {
            continue;
        }
        let inbound = match sidecar.inbounds.of(&sidecar, &source) {
            Ok(inbound) => inbound,
            Err(error) => {
                note_problem(&sidecar, &source, error.to_string());
                continue;
            }
        };
        let token = ended.child_token();
        // A connection that is being made, or a seed that comes by it, is not ended.
        if !inbound.begin_if_idle(&token) {
            continue;
        }
        let _idle_again = token.clone().drop_guard();
        let mut run = Run::new(&sidecar, &config, &source, inbound, token.clone());
        let failed = tokio::select! {
            failed = Box::pin(run.run()) => Some(failed),
            () = token.cancelled() => None,
        };
        let staged = run.staged();
        say_way(&sidecar, &source, WayBy::Bucket, false);
        let Some(why) = failed else { continue };
        note_problem(&sidecar, &source, why.to_string());
        pause = if staged { RETRY_MIN } else { (pause * 2).min(RETRY_MAX) };
        let patience = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        let begun = Instant::now();
        while begun.elapsed() < patience && !is_frozen(&sidecar, &source) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = ended.cancelled() => break,
            }
        }
    }
    // It may be followed no more at all: nothing is said of it then.
    sidecar.board.note(|notes| {
        if let Some(status) = notes.receiving.get_mut(&source.to_string()) {
            status.bucket = None;
        }
    });
}

fn is_connected(sidecar: &Sidecar, source: &ShardName) -> bool {
    let notes = sidecar.board.read();
    notes.receiving.get(&source.to_string()).is_some_and(|status| status.connected)
}

/// Whether a switch waits for the end of this source.
fn is_frozen(sidecar: &Sidecar, source: &ShardName) -> bool {
    let view = sidecar.service.view();
    view.record().is_some_and(|record| record.freeze_of(source).is_some())
}

/// Says on the board by which way a source comes, or that it comes by this one no more.
pub(super) fn say_way(sidecar: &Sidecar, source: &ShardName, by: WayBy, on: bool) {
    sidecar.board.receiving(source, |status| {
        let now = status.way.as_ref().map(|way| way.by);
        if on && now != Some(by) {
            status.way = Some(Way { by, since: UnixMs::now() });
        } else if !on && now == Some(by) {
            status.way = None;
        }
    });
}

/// A try that failed: it is over all the same for whoever waits for it.
fn note_problem(sidecar: &Sidecar, source: &ShardName, why: String) {
    sidecar.metrics.follow.failures.inc();
    sidecar.board.receiving(source, |status| {
        let bucket = status.bucket.get_or_insert_default();
        if bucket.problem.as_ref() != Some(&why) {
            tracing::warn!(%source, "its archive leads no further: {why}; it is tried again, and its sidecar is waited for");
        }
        bucket.looks += 1;
        bucket.problem = Some(why);
    });
}
