//! From one failure to the next: connect to both ends, find where the target stands, receive and apply.
//! Nothing is carried from one session to another but what is on the disk and in the target.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ops::shutdown::Shutdown;
use ops::tls::Client;
use tokio::sync::watch;

use super::apply::{Applier, ApplyError};
use super::board::Board;
use super::load::{LoadError, load};
use super::place::{Place, ReplId, Standing};
use super::psync::{Answer, PsyncError, SILENCE_MAX, Source};
use super::settings::Config;
use super::spool::{Spool, SpoolError};
use super::tally::Tally;
use super::target::{Batch, Done, Target, TargetError};

/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the source hears how far we are.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);
/// What is put into the spool at once.
const APPEND_BYTES: usize = 256 << 10;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The source, or the spool.
    #[error(transparent)]
    Psync(#[from] PsyncError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A snapshot.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The stream.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The target is somebody's.
    #[error(
        "{at} holds {keys} keys and no position of ours: to take in a snapshot all of them would be deleted. Give an empty target, or --overwrite if they may go"
    )]
    NotEmpty {
        /// The server.
        at: String,
        /// How many.
        keys: i64,
    },
    /// The source cannot go on from where we are.
    #[error(
        "the source cannot go on from offset {0}: it has forgotten what follows, or is another one now. A snapshot replaces all that the target holds"
    )]
    Full(u64),
}

/// What sessions share.
#[derive(Debug)]
pub struct Shared {
    /// What it was started with.
    pub config: Config,
    /// What connections under TLS are made with.
    pub tls: Option<Client>,
    /// What was received.
    pub spool: Arc<Mutex<Spool>>,
    /// What was not carried over.
    pub tally: Tally,
    /// What is said of all this.
    pub board: Board,
    /// The end.
    pub shutdown: Shutdown,
}

/// A source that has begun to send a snapshot.
struct Begun {
    source: Source,
    id: ReplId,
    offset: u64,
}

/// Follows the source until shutdown.
pub async fn keep_following(shared: Shared) {
    let (mut pause, mut begun) = (PAUSE_MIN, None);
    loop {
        let applied = shared.board.read().applied;
        let ended = tokio::select! {
            ended = session(&shared, &mut begun) => ended,
            () = shared.shutdown.cancelled() => return,
        };
        let Err(error) = ended;
        // Only a target that stands still is waited for longer and longer.
        let status = shared.board.read();
        pause = if status.applied != applied || begun.is_some() { PAUSE_MIN } else { pause };
        match &error {
            SessionError::Full(_) => tracing::warn!("{error}"),
            error => tracing::warn!("{error}; again in {pause:?}"),
        }
        shared.board.update(|status| status.problem = Some(error.to_string()));
        let jittered = pause.mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = shared.shutdown.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Shared {
    fn spool<T>(&self, work: impl FnOnce(&mut Spool) -> T) -> T {
        work(&mut self.spool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn connect(&self, have: Option<(ReplId, u64)>) -> Result<(Source, Answer), SessionError> {
        let opened = Source::open(&self.config.from, self.tls.as_ref(), have).await;
        opened.map_err(|error| PsyncError::from(error).into())
    }
}

/// Where all shards stand, if they do: the least of them.
fn standing(target: &Target) -> Option<Place> {
    let places = target.shards.iter().map(|shard| match shard.standing() {
        Some(Standing::At(place)) => Some(place.clone()),
        Some(Standing::Loading | Standing::Log(_)) | None => None,
    });
    let places = places.collect::<Option<Vec<_>>>()?;
    places.into_iter().min_by_key(|place| place.offset)
}

async fn session(
    shared: &Shared,
    begun: &mut Option<Begun>,
) -> Result<std::convert::Infallible, SessionError> {
    let config = &shared.config;
    let mut target = Target::open(&config.to, shared.tls.as_ref(), &config.position_key).await?;
    let stands = standing(&target);
    // What is here of the stream is of use if it follows on where the target stands.
    let have = match &stands {
        Some(place) => shared.spool(|spool| {
            spool.snapshot_is_applied()?;
            if !spool.follows(place) {
                spool.begin(&place.id, place.offset)?;
            }
            Ok::<_, SpoolError>(spool.end())
        })?,
        None => {
            may_be_emptied(&mut target, config.overwrite).await?;
            shared.spool(|spool| spool.snapshot().and_then(|_| spool.end()))
        }
    };
    let source = match begun.take() {
        Some(begun) => snapshot(shared, begun).await?,
        None => match shared.connect(have).await? {
            (source, Answer::Full(id, offset)) => {
                snapshot(shared, Begun { source, id, offset }).await?
            }
            (source, Answer::Continue(id)) => {
                if let Some(id) = id {
                    shared.spool(|spool| spool.rename_history(&id))?;
                }
                source
            }
        },
    };
    let end = shared.spool(|spool| spool.end());
    let (id, end) = end.map(|(id, end)| (id.to_string(), end)).unwrap_or_default();
    shared.board.update(|status| {
        status.problem = None;
        status.history = id;
        status.received = end;
        status.applied = stands.as_ref().map_or(0, |place| place.offset);
    });
    let (sender, received) = watch::channel(end);
    let applying = async {
        let snapshot = shared.spool(|spool| spool.snapshot().cloned());
        if let Some(snapshot) = snapshot {
            shared.board.update(|status| {
                status.state = "loading".to_owned();
                status.keys_loaded = 0;
            });
            load(&mut target, &snapshot.path, &shared.tally, &shared.board).await?;
            for shard in &mut target.shards {
                let at = Standing::At(snapshot.place.clone());
                if let Done::Unfit(_) = shard.transact(&Batch::default(), at).await? {
                    return Err(ApplyError::Ended.into());
                }
            }
            shared.spool(|spool| spool.snapshot_is_applied())?;
            let keys = shared.board.update(|status| {
                status.applied = snapshot.place.offset;
                status.keys_loaded
            });
            tracing::info!(keys, "the snapshot was taken in");
        }
        shared.board.update(|status| status.state = "following".to_owned());
        let (tally, board) = (shared.tally.clone(), shared.board.clone());
        let applier = Applier::new(target, shared.spool.clone(), received, tally, board);
        Ok(applier.run().await?)
    };
    tokio::select! {
        ended = applying => ended,
        ended = receive(shared, source, sender) => {
            let (error, again) = ended;
            *begun = again;
            Err(error)
        }
    }
}

/// All that a target holds is deleted before a snapshot: it must be empty, ours, or be said to be
/// worth nothing.
async fn may_be_emptied(target: &mut Target, overwrite: bool) -> Result<(), SessionError> {
    if overwrite || target.shards.iter().any(|shard| shard.standing().is_some()) {
        return Ok(());
    }
    for shard in &mut target.shards {
        let keys = shard.size().await?;
        if keys > 0 {
            return Err(SessionError::NotEmpty { at: "the target".to_owned(), keys });
        }
    }
    Ok(())
}

/// Receives a snapshot whole, before any of it is applied.
async fn snapshot(shared: &Shared, begun: Begun) -> Result<Source, SessionError> {
    let Begun { mut source, id, offset } = begun;
    tracing::info!(%id, offset, "the source sends a snapshot");
    shared.board.update(|status| {
        status.state = "snapshot".to_owned();
        status.problem = None;
        status.snapshots += 1;
    });
    shared.spool(|spool| spool.begin(&id, offset))?;
    let part = shared.spool(|spool| spool.snapshot_part());
    let board = shared.board.clone();
    source.snapshot(&part, |bytes| board.update(|s| s.snapshot_bytes = bytes)).await?;
    shared.spool(|spool| spool.snapshot_is_whole(&id, offset))?;
    Ok(source)
}

/// Receives until it cannot; a source that is gone is dialled again, and the stream goes on.
async fn receive(
    shared: &Shared,
    mut source: Source,
    received: watch::Sender<u64>,
) -> (SessionError, Option<Begun>) {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match receive_from(shared, &mut source, &received).await {
            Err(error @ SessionError::Psync(PsyncError::Source(_))) => error,
            Err(error) => return (error, None),
            Ok(never) => match never {},
        };
        tracing::warn!("{error}; the source is dialled again");
        shared.board.update(|status| status.problem = Some(error.to_string()));
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            pause = (pause * 2).min(PAUSE_MAX);
            let have = shared.spool(|spool| spool.end());
            let offset = have.as_ref().map_or(0, |(_, offset)| *offset);
            match shared.connect(have).await {
                Ok((source, Answer::Full(id, offset_new))) => {
                    let begun = Begun { source, id, offset: offset_new };
                    return (SessionError::Full(offset), Some(begun));
                }
                Ok((again, Answer::Continue(id))) => {
                    let renamed = id.map(|id| shared.spool(|spool| spool.rename_history(&id)));
                    if let Some(Err(error)) = renamed {
                        return (error.into(), None);
                    }
                    source = again;
                    pause = PAUSE_MIN;
                    shared.board.update(|status| status.problem = None);
                    break;
                }
                Err(error) => {
                    tracing::debug!("{error}");
                    shared.board.update(|status| status.problem = Some(error.to_string()));
                }
            }
        }
    }
}

async fn receive_from(
    shared: &Shared,
    source: &mut Source,
    received: &watch::Sender<u64>,
) -> Result<std::convert::Infallible, SessionError> {
    let psync = |error| SessionError::Psync(PsyncError::Source(error));
    let mut tick = tokio::time::interval(ACKNOWLEDGE_EVERY);
    let mut heard = tokio::time::Instant::now();
    let mut over_budget = false;
    loop {
        tokio::select! {
            came = source.receive(), if !over_budget => {
                came.map_err(psync)?;
                heard = tokio::time::Instant::now();
                let bytes = source.received();
                let bytes = bytes.get(..APPEND_BYTES).unwrap_or(bytes);
                let count = bytes.len();
                // A client of the source waits for replicas (WAIT): it is told at once.
                let asked = bytes.windows(6).any(|word| word == b"GETACK");
                let end = shared.spool(|spool| spool.append(bytes))?;
                source.consume(count);
                received.send_replace(end);
                shared.board.update(|status| status.received = end);
                if asked {
                    source.acknowledge(end).await.map_err(psync)?;
                }
            }
            _ = tick.tick() => {
                let (end, bytes) = shared.spool(|spool| (spool.end(), spool.bytes()));
                source.acknowledge(end.map_or(0, |(_, end)| end)).await.map_err(psync)?;
                let now_over = bytes > shared.config.spool_budget;
                if now_over && !over_budget {
                    tracing::error!(
                        bytes, budget = shared.config.spool_budget,
                        "the spool is full: nothing more is received until the target has caught up. Past its own limits the source drops us and a snapshot is needed"
                    );
                }
                over_budget = now_over;
                if !over_budget && heard.elapsed() > SILENCE_MAX {
                    let why = std::io::Error::new(std::io::ErrorKind::TimedOut, "it is silent");
                    return Err(psync(source.failed("hear from", why)));
                }
                if over_budget {
                    heard = tokio::time::Instant::now();
                }
            }
        }
    }
}
