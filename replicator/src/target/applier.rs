//! From the stage to the node, in the order of the log, several frames on their way at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::{Applying, Code};
use keyspace::SlotSet;
use stream::message::Point;
use topology::members::{Held, HeldBy, Role};
use wal::frame::FrameHeader;
use wal::{Position, Sequence};

use super::hold::{Facts, Order, Verdict};
use super::inbound::{Inbound, Progress};
use super::stage::Place;
use crate::sidecar::Sidecar;

/// Frames on their way to the node.
const IN_FLIGHT: usize = 16;
/// Bytes on their way to the node.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// Frames applied before whoever wants to change the stage gets a turn.
const BURST: usize = 256;
/// The node syncs what it has applied at least this often while data flows, so that stage files go.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Applies what is staged until shutdown.
pub(super) async fn keep_applying(inbound: Inbound, sidecar: Arc<Sidecar>) {
    let mut appended = inbound.appended();
    let mut known = sidecar.node.known();
    let check = sidecar.health.check(&format!("apply {}", inbound.source()));
    let (mut said, mut held) = (String::new(), None);
    loop {
        appended.borrow_and_update();
        known.borrow_and_update();
        let result = {
            let _gate = inbound.gate().lock().await;
            let ready = async {
                notice_swap(&inbound, &sidecar).await?;
                obey(&inbound, &sidecar).await
            };
            match ready.await {
                Ok(()) => Box::pin(burst(&inbound, &sidecar, &mut held)).await,
                Err(error) => Err(error),
            }
        };
        match result {
            Ok(Done::More) => continue,
            Ok(Done::Level) => {
                check.ok();
                said.clear();
                tokio::select! {
                    changed = appended.changed() => if changed.is_err() { return },
                    changed = known.changed() => if changed.is_err() { return },
                    // The node may have been seeded or restarted meanwhile, and positions synced.
                    () = tokio::time::sleep(SYNC_EVERY) => {}
                    () = sidecar.shutdown.cancelled() => return,
                }
            }
            Ok(Done::Held) => {
                match inbound.hold().state().tripped {
                    Some(tripped) => check.failing(tripped.to_string()),
                    None => check.ok(),
                }
                said.clear();
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = sidecar.shutdown.cancelled() => return,
                }
            }
            Err(error) => {
                // It may stand elsewhere because its database is another one, which is no fault.
                let elsewhere = matches!(error.code(), Some(Code::Gap | Code::Chain | Code::Role));
                if elsewhere
                    && sidecar.node.status().await.is_ok_and(|s| !inbound.is_beside(&s.database))
                {
                    continue;
                }
                let why = error.to_string();
                check.failing(why.clone());
                if why != said {
                    let loud = error.code().is_some_and(|code| {
                        matches!(code, Code::Gap | Code::Stale | Code::Chain | Code::Damaged)
                    });
                    if loud {
                        tracing::error!(source = %inbound.source(), "cannot apply: {why}");
                    } else {
                        tracing::info!(source = %inbound.source(), "waiting to apply: {why}");
                    }
                    said = why;
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = sidecar.shutdown.cancelled() => return,
                }
            }
        }
    }
}

/// If an operator has swapped the node's database, what is staged is forgotten, and the source asked
/// anew. The caller has the gate.
async fn notice_swap(inbound: &Inbound, sidecar: &Sidecar) -> Result<(), admin::Error> {
    let known = sidecar.node.known().borrow().as_ref().map(|known| known.database.to_string());
    if known.is_none_or(|known| inbound.is_beside(&known)) {
        return Ok(());
    }
    // What is known may be from before a seed that was just received.
    let status = sidecar.node.status().await?;
    let failed = |why: String| admin::Error::Answer { request: "the stage", why };
    if inbound.settle(&status).map_err(|why| failed(why.to_string()))? {
        inbound.hang_up();
    }
    Ok(())
}

/// How a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Others get a turn, then it goes on.
    More,
    /// All that is staged is applied.
    Level,
    /// The rest is held back.
    Held,
}

/// Does what an operator has said. The caller has the gate.
async fn obey(inbound: &Inbound, sidecar: &Sidecar) -> Result<(), admin::Error> {
    let (hold, source) = (inbound.hold(), inbound.source());
    let failed = |why: String| admin::Error::Answer { request: "the hold on the stage", why };
    if sidecar.service.view().record().is_some_and(|record| !record.is_primary(source)) {
        hold.forget_discarded().map_err(|why| failed(why.to_string()))?;
    }
    let Some(order) = hold.order() else { return Ok(()) };
    tracing::warn!(%source, ?order, "an operator's order");
    if order != Order::Discard {
        let tip = inbound.stage(|stage| stage.tip()).map(|tip| tip.position);
        return hold.obey(&order, tip).map_err(|why| failed(why.to_string()));
    }
    let status = sidecar.node.status().await?;
    let applied = status.applied.get(source);
    let applied = applied.ok_or_else(|| failed("the node does not follow it".to_owned()))?;
    let (position, log_chain) = (applied.position, applied.log_chain);
    let point = Point { position, log_chain, stream_chain: applied.stream_chain };
    let name = format!("{}-{}-{}", source.cluster, source.shard, position.sequence);
    let aside = sidecar.spool.root().join("discarded").join(name);
    // First on disk that it is not taken again, then it goes.
    hold.discard(position).map_err(|why| failed(why.to_string()))?;
    inbound.set_aside(&aside, point).map_err(|why| failed(why.to_string()))?;
    tracing::warn!(%source, %position, kept = %aside.display(), "what was staged behind it is set aside");
    Ok(())
}

/// What frames of a source are judged by until the end of this burst.
async fn facts(inbound: &Inbound, sidecar: &Sidecar) -> Result<Judging, admin::Error> {
    let view = sidecar.service.view();
    let record = view.record();
    let source = inbound.source();
    let frozen = record.and_then(|record| record.freeze());
    // A switch waits for the end of the log; and a log that was left has no more to wait for.
    let lifted = frozen.is_some_and(|freeze| freeze.shards.contains(source))
        || record.is_some_and(|record| !record.is_primary(source));
    let known = sidecar.node.known().borrow().clone();
    // What is not whole is of use to nobody.
    let lifted =
        lifted || known.as_ref().is_some_and(|k| matches!(k.role, Role::Seeding | Role::Rewinding));
    let own = known.map(|known| known.slots).unwrap_or_default();
    let slots = record.and_then(|record| record.slots_of(source)).map(|s| s.intersection(&own));
    if inbound.hold().counts() {
        let measured = sidecar.node.client().await?.measure(&own).await?;
        inbound.hold().measured(measured.all_keys);
    }
    Ok(Judging { lifted, slots: slots.unwrap_or_default() })
}

#[derive(Debug)]
struct Judging {
    lifted: bool,
    slots: SlotSet,
}

/// Where the applier is, as long as nobody changed anything under it.
#[derive(Debug)]
struct Resume {
    client: admin::Client,
    generation: u64,
    place: Place,
    at: Sequence,
    synced: Instant,
}

impl Resume {
    /// Rereads the position from the node: it decides what it has.
    async fn reread(inbound: &Inbound, sidecar: &Sidecar) -> Result<Option<Self>, admin::Error> {
        let generation = inbound.generation();
        let client = sidecar.node.client().await?;
        let status = sidecar.node.status().await?;
        let Some(applied) = status.applied.get(inbound.source()) else { return Ok(None) };
        note(inbound, sidecar, applied.position, None);
        forget(inbound, status.synced.get(inbound.source()).copied());
        let at = applied.position.sequence;
        let synced = Instant::now();
        let reaches = inbound.stage(|stage| stage.reaches(at));
        Ok(reaches.then_some(Self { client, generation, place: Place::default(), at, synced }))
    }

    fn is_good(&self, inbound: &Inbound) -> bool {
        self.generation == inbound.generation() && !self.client.is_closed()
    }
}

/// Applies until the stage is empty, the rest is held back, or others should get a turn. On an error
/// `held` is gone, so that the next burst rereads the position.
async fn burst(
    inbound: &Inbound,
    sidecar: &Sidecar,
    held: &mut Option<Resume>,
) -> Result<Done, admin::Error> {
    if inbound.stage(|stage| stage.tip()).is_none() {
        say_held(inbound, sidecar, None);
        return Ok(Done::Level);
    }
    let mut resume = match held.take().filter(|resume| resume.is_good(inbound)) {
        Some(resume) => resume,
        None => match Resume::reread(inbound, sidecar).await? {
            Some(resume) => resume,
            None => return Ok(Done::Level),
        },
    };
    let mut flying: VecDeque<(Applying, FrameHeader)> = VecDeque::new();
    let (mut bytes, mut count) = (0, 0);
    let mut judging: Option<Judging> = None;
    let mut back: Option<String> = None;
    loop {
        let room =
            back.is_none() && count < BURST && flying.len() < IN_FLIGHT && bytes < IN_FLIGHT_BYTES;
        let place = resume.place;
        let next = if room {
            let next = inbound.stage(|stage| next_frame(stage, &mut resume.place, resume.at));
            next.map_err(|error| {
                tracing::error!("{error}");
                admin::Error::Answer { request: "the stage", why: error.to_string() }
            })?
        } else {
            None
        };
        if let Some((frame, header)) = next.as_ref().filter(|_| !inbound.hold().lets_all_pass()) {
            let judging = match &mut judging {
                Some(judging) => judging,
                none => none.insert(facts(inbound, sidecar).await?),
            };
            let facts = Facts {
                now_ms: ops::clock::unix_ms(),
                lifted: judging.lifted,
                slots: &judging.slots,
            };
            let why = "the hold on the stage";
            let verdict = inbound
                .hold()
                .judge(header, frame, facts)
                .map_err(|error| admin::Error::Answer { request: why, why: error.to_string() })?;
            back = held_back(inbound, &verdict);
            if back.is_some() {
                resume.place = place;
                continue;
            }
        }
        if let Some((frame, header)) = next {
            resume.at = header.end.sequence;
            count += 1;
            bytes += frame.len();
            flying.push_back((resume.client.start_apply(inbound.source(), &frame).await?, header));
            continue;
        }
        let Some((applying, header)) = flying.pop_front() else { break };
        applying.done().await?;
        bytes = bytes.saturating_sub(header.frame_len());
        sidecar.metrics.frames_applied.inc();
        let lag = ops::clock::unix_ms().saturating_sub(header.stamp.ms());
        sidecar.metrics.lag.observe(lag as f64 / 1000.0);
        note(inbound, sidecar, header.end, Some(lag));
    }
    if resume.synced.elapsed() > SYNC_EVERY && inbound.stage(|stage| stage.has_old_files()) {
        let synced = resume.client.sync().await?;
        forget(inbound, synced.get(inbound.source()).copied());
        resume.synced = Instant::now();
    }
    let more = !inbound.is_level(resume.at);
    *held = Some(resume);
    let is_held = back.is_some();
    if is_held || !more {
        say_held(inbound, sidecar, back);
    }
    Ok(match (is_held, more) {
        (true, _) => Done::Held,
        (false, true) => Done::More,
        (false, false) => Done::Level,
    })
}

/// Why the next frame is held back, if it is.
fn held_back(inbound: &Inbound, verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Delayed { left_ms } => Some(format!(
            "held back on purpose by apply-delay ({:?}), the next batch for {} s more: `godwit-replicator catch-up` ends it",
            inbound.hold().delay(),
            left_ms.div_ceil(1000)
        )),
        Verdict::Tripped(why) => Some(why.clone()),
    }
}

/// Says on the board what is held back, and loudly that the breaker has tripped.
fn say_held(inbound: &Inbound, sidecar: &Sidecar, why: Option<String>) {
    let state = inbound.hold().state();
    let tripped = state.tripped.is_some();
    let by = if tripped { HeldBy::Breaker } else { HeldBy::Delay };
    let held = why.map(|reason| Held { by, reason }).or_else(|| {
        let reason = state.discarded?.to_string();
        Some(Held { by: HeldBy::Discarded, reason })
    });
    sidecar.board.receiving(inbound.source(), |status| {
        if let Some(held) =
            held.as_ref().filter(|held| tripped && status.held.as_ref() != Some(held))
        {
            tracing::error!(source = %inbound.source(), "{}", held.reason);
        }
        status.held = held;
    });
    inbound.tripped().set(i64::from(tripped));
}

/// The next frame that ends after `at`.
fn next_frame(
    stage: &mut super::stage::Stage,
    place: &mut Place,
    at: Sequence,
) -> Result<Option<(Vec<u8>, FrameHeader)>, super::stage::StageError> {
    *place = stage.skip_to(*place, at);
    while let Some((frame, header, after)) = stage.frame_at(*place)? {
        *place = after;
        if header.end.sequence > at {
            return Ok(Some((frame, header)));
        }
    }
    Ok(None)
}

fn forget(inbound: &Inbound, synced: Option<Sequence>) {
    let Some(synced) = synced else { return };
    if let Err(error) = inbound.stage(|stage| stage.forget(synced)) {
        tracing::warn!("{error}");
    }
}

fn note(inbound: &Inbound, sidecar: &Sidecar, position: Position, lag: Option<u64>) {
    inbound.applied().send_if_modified(|progress| {
        let now = Progress { position: Some(position), lag_ms: lag.or(progress.lag_ms) };
        let changed = *progress != now;
        *progress = now;
        changed
    });
    sidecar.board.receiving(inbound.source(), |status| status.applied = Some(position));
}
