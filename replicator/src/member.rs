//! The sidecar's key in the registry: written at each change, at most every quarter of a second,
//! and every second in any case.

use std::sync::Arc;
use std::time::Duration;

use topology::members::SidecarMember;
use topology::record::UnixMs;
use topology::service::MEMBER_TTL;

use crate::sidecar::Sidecar;

/// A change is told after this, with what changed meanwhile.
const GATHER: Duration = Duration::from_millis(50);
/// The least time between two writes of what only counts up.
const QUIET: Duration = Duration::from_millis(250);
/// The most time between two writes.
const EVERY: Duration = Duration::from_millis(900);

/// Publishes until shutdown, then takes the key away.
pub async fn keep_publishing(sidecar: Arc<Sidecar>, address: String, metrics: Option<String>) {
    let check = sidecar.health.check("registry");
    let mut last = sidecar.board.read();
    loop {
        let notes = sidecar.board.read();
        let tail = notes.tail.max(sidecar.node.position().map(|p| p.sequence));
        sidecar.metrics.tail_sequence.set(tail.map_or(0, |s| s.0 as i64));
        sidecar.metrics.streams(&last, &notes);
        let member = SidecarMember {
            shard: sidecar.shard.clone(),
            stream: address.clone(),
            metrics: metrics.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tail,
            drained: notes.drained.clone(),
            streams: notes.streams.clone(),
            receiving: notes.receiving.clone(),
            at: UnixMs::now(),
        };
        match sidecar.service.put_sidecar(&member, MEMBER_TTL).await {
            Ok(()) => check.ok(),
            Err(error) => check.failing(error.to_string()),
        }
        last = notes;
        tokio::select! {
            () = news(&sidecar, &last) => {}
            () = tokio::time::sleep(EVERY) => {}
            () = sidecar.shutdown.cancelled() => break,
        }
    }
    if let Err(error) = sidecar.service.remove_sidecar(&sidecar.shard).await {
        tracing::info!("the registry keeps our key until it expires: {error}");
    }
}

/// What a switch waits for.
fn states(notes: &crate::board::Notes) -> impl PartialEq + use<> {
    let streams: Vec<_> = notes.streams.iter().map(|(k, s)| (k.clone(), s.state.clone())).collect();
    (streams, notes.drained.clone())
}

/// Resolves when there is something to tell: soon after a change of a state, which is news for a
/// switch; later if only counters have changed.
async fn news(sidecar: &Sidecar, told: &crate::board::Notes) {
    let before = states(told);
    let quiet = tokio::time::Instant::now() + QUIET;
    sidecar.board.changed().await;
    while states(&sidecar.board.read()) == before {
        tokio::select! {
            () = sidecar.board.changed() => {}
            () = tokio::time::sleep_until(quiet) => return,
        }
    }
    tokio::time::sleep(GATHER).await;
}
