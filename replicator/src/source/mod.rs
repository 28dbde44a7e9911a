//! The sending side: while this shard is a primary, one stream to each of its followers.

mod clock;
mod codec;
mod decide;
mod feed;
mod files;
mod heard;
mod load;
mod measure;
mod rewind;
mod seed;
mod session;
mod slice;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::members::Role;
use topology::service::ServiceView;
use topology::{Epoch, Record, ShardName};

use crate::link::Reconnect;
use crate::node::Known;
use crate::sidecar::Sidecar;
pub(crate) use clock::unix_us;
pub(crate) use decide::account;
pub(crate) use seed::clear_seeds;
use session::{Session, Stop};
pub(crate) use slice::clear_slices;

/// How long a stream that is not wanted any more may take to remove what it left in the node.
const CLEAN_WITHIN: Duration = Duration::from_secs(2);
/// Who waits for something itself is waited for in silence this long.
const WAITS_LONG: Duration = Duration::from_secs(30);

/// A stream to a follower that is being kept.
struct Kept {
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Kept {
    fn start(sidecar: &Arc<Sidecar>, follower: &ShardName) -> Self {
        let token = sidecar.shutdown.token().child_token();
        let keeping = keep_streaming(sidecar.clone(), follower.clone(), token.clone());
        Self { token, task: tokio::spawn(keeping) }
    }

    /// Ends it; nothing of it is under way when this returns.
    async fn end(self) {
        self.token.cancel();
        if let Err(error) = self.task.await {
            tracing::error!("a stream did not end in order: {error}");
        }
    }
}

/// Keeps a stream to each follower while this shard is a primary, until shutdown. Followers come and
/// go with the record.
pub async fn supervise(sidecar: Arc<Sidecar>) {
    let mut view = sidecar.service.watch();
    let mut known = sidecar.node.known();
    let mut running: BTreeMap<ShardName, Kept> = BTreeMap::new();
    loop {
        let now = view.borrow_and_update().clone();
        let node = known.borrow_and_update().clone();
        let wanted = wanted(&sidecar.shard, &now, node.as_ref(), !running.is_empty());
        let gone: Vec<_> = running.keys().filter(|held| !wanted.contains(held)).cloned().collect();
        for follower in gone {
            if let Some(kept) = running.remove(&follower) {
                kept.end().await;
            }
            tracing::info!(%follower, "a follower no more: nothing is kept for it");
            sidecar.board.note(|notes| notes.streams.remove(&follower.to_string()));
        }
        // Until it is known who follows, every file is kept.
        if node.is_some() && now.record.is_some() {
            let names: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            sidecar.spool.retain_pins(|follower| {
                follower == crate::archive::PIN
                    || crate::export::is_ours(follower)
                    || names.iter().any(|name| name == follower)
            });
        }
        for follower in wanted {
            if !running.contains_key(&follower) {
                tracing::info!(%follower, "a follower");
                running.insert(follower.clone(), Kept::start(&sidecar, &follower));
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            changed = known.changed() => if changed.is_err() { return },
            () = sidecar.shutdown.cancelled() => return,
        }
    }
}

/// Who must be streamed to. The record makes a primary; its node must have become one under that
/// epoch before anyone is told where its log goes on. A stream that runs is not ended by a node that
/// restarts or dies.
fn wanted(
    us: &ShardName,
    view: &ServiceView,
    node: Option<&Known>,
    running: bool,
) -> Vec<ShardName> {
    let Some(record) = view.record() else { return Vec::new() };
    let ready =
        node.is_some_and(|node| node.role == Role::Primary && node.epoch >= became(record, us));
    if record.is_primary(us) && (ready || running) { record.followers_of(us) } else { Vec::new() }
}

/// The epoch at which a shard became primary, by the last switch that made it one.
pub(crate) fn became(record: &Record, us: &ShardName) -> Epoch {
    let to_us = record.forks.iter().filter(|fork| fork.target == *us);
    to_us.map(|fork| fork.epoch).max().unwrap_or_default()
}

/// Makes the stream again and again, until it is not wanted any more.
async fn keep_streaming(sidecar: Arc<Sidecar>, follower: ShardName, token: CancellationToken) {
    let mut session = Session::new(sidecar.clone(), follower.clone());
    let mut reconnect = Reconnect::new(&sidecar.config.link);
    let mut waiting: Option<Instant> = None;
    while !token.is_cancelled() {
        let ended = tokio::select! {
            ended = session.run() => ended,
            () = token.cancelled() => break,
        };
        let Stop { reason, state, streamed, waits } = ended;
        sidecar.metrics.resets.inc();
        let news = sidecar.board.note(|notes| {
            notes
                .streams
                .get(&follower.to_string())
                .is_none_or(|s| s.reason.as_ref() != Some(&reason))
        });
        // What should be over in a moment is a trouble once it lasts.
        let long = waits && waiting.get_or_insert_with(Instant::now).elapsed() > WAITS_LONG;
        match (waits, news) {
            (true, true) => tracing::info!(%follower, "no stream yet: {reason}"),
            (true, false) if long => {
                tracing::warn!(%follower, state, "no stream for {WAITS_LONG:?}: {reason}");
                waiting = Some(Instant::now());
            }
            (false, true) => tracing::warn!(%follower, state, "no stream: {reason}"),
            _ => {}
        }
        waiting = waiting.filter(|_| waits);
        sidecar.board.stream(&follower, |status| {
            status.state = state.to_owned();
            status.reason = Some(reason);
            status.lag_ms = None;
            status.peer.full = false;
        });
        tokio::select! {
            () = tokio::time::sleep(reconnect.pause(streamed)) => {}
            () = token.cancelled() => break,
        }
    }
    // The node may not answer: then the next seed removes what this one left.
    let cleaned = tokio::time::timeout(CLEAN_WITHIN, session.drop_checkpoint()).await;
    if cleaned.is_err() {
        tracing::info!(%follower, "the node did not answer, and keeps a checkpoint for now");
    }
}
