//! From the stage to the node, in the order of the log, several frames on their way at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::{Applying, Code};
use wal::frame::FrameHeader;
use wal::{Position, Sequence};

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
    let check = sidecar.health.check(&format!("apply {}", inbound.source()));
    let (mut said, mut held) = (String::new(), None);
    loop {
        appended.borrow_and_update();
        let result = {
            let _gate = inbound.gate().lock().await;
            Box::pin(burst(&inbound, &sidecar, &mut held)).await
        };
        match result {
            Ok(true) => continue,
            Ok(false) => {
                check.ok();
                said.clear();
                tokio::select! {
                    changed = appended.changed() => if changed.is_err() { return },
                    // The node may have been seeded or restarted meanwhile, and positions synced.
                    () = tokio::time::sleep(SYNC_EVERY) => {}
                    () = sidecar.shutdown.cancelled() => return,
                }
            }
            Err(error) => {
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

/// Applies until the stage is empty (`false`) or others should get a turn (`true`). On an error
/// `held` is gone, so that the next burst rereads the position.
async fn burst(
    inbound: &Inbound,
    sidecar: &Sidecar,
    held: &mut Option<Resume>,
) -> Result<bool, admin::Error> {
    if inbound.stage(|stage| stage.tip()).is_none() {
        return Ok(false);
    }
    let mut resume = match held.take().filter(|resume| resume.is_good(inbound)) {
        Some(resume) => resume,
        None => match Resume::reread(inbound, sidecar).await? {
            Some(resume) => resume,
            None => return Ok(false),
        },
    };
    let mut flying: VecDeque<(Applying, FrameHeader)> = VecDeque::new();
    let (mut bytes, mut count) = (0, 0);
    loop {
        let room = count < BURST && flying.len() < IN_FLIGHT && bytes < IN_FLIGHT_BYTES;
        let next = if room {
            let next = inbound.stage(|stage| next_frame(stage, &mut resume.place, resume.at));
            next.map_err(|error| {
                tracing::error!("{error}");
                admin::Error::Answer { request: "the stage", why: error.to_string() }
            })?
        } else {
            None
        };
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
    Ok(more)
}

/// The next frame that ends after `at`.
fn next_frame(
    stage: &super::stage::Stage,
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
