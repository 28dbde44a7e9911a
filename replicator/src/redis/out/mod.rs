//! Out to a plain Redis: a node's log says which keys were touched, the node says what they are now, and
//! the target is told that.
//!
//! ```text
//! node's log files -> spool of its own -> touched keys -> DUMP at the node -> RESTORE at the target
//! ```
//!
//! It reads the log as any other follower does ([`touched`]), from a spool of its own, so it runs beside a
//! sidecar or without one. What it carries is state ([`carry`]): the position, which the target keeps,
//! may be behind what it holds and never before it, and each of its keys is what the node's was at some
//! moment since.

pub mod carry;
pub mod settings;
pub mod touched;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use ops::tls::Client;
use wal::{Continuation, History, Position};

use self::carry::{Carrier, CarryError};
use self::settings::Config;
use super::board::{self, Board};
use super::connection::{Connection, Error};
use super::place::Standing;
use super::tally::Tally;
use super::target::{Batch, Done, Target, TargetError};
use crate::cursor::{Cursor, CursorError, read_facts};
use crate::identity::DatabaseId;
use crate::spool::{Pin, Spool, SpoolError, SpoolLock, keep_linking, watchdog};

/// The name of the spool in the node's directory.
const SPOOL: &str = "spool-redis";
/// Whom log files are kept for.
const FOLLOWER: &str = "redis";
/// How long one before us may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Log(#[from] CursorError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Carry(#[from] CarryError),
    #[error(transparent)]
    Node(#[from] Error),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("there is no database in the node's directory yet: start the node")]
    NoDatabase,
    #[error(
        "the target holds {0} keys and no position of ours: what the node does not have would be deleted. Give an empty target, or --overwrite if they may go"
    )]
    NotEmpty(i64),
    #[error(
        "a bulk load came in, and nobody knows which keys are in it: all of them are copied again"
    )]
    Load,
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("the log's reader has ended")]
    Ended,
}

struct Shared {
    config: Config,
    tls: Option<Client>,
    spool: Spool,
    tally: Tally,
    board: Board,
}

/// Feeds a Redis until shutdown; `metrics` is where to serve them.
pub async fn run(
    config: Config,
    metrics: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.state)
        .with_context(|| format!("cannot create {}", config.state.display()))?;
    let _lock = SpoolLock::take_as(&config.node_dir, SPOOL, LOCK_PATIENCE)?;
    let spool = Spool::open_as(&config.node_dir, SPOOL)?;
    let tls = config.tls.as_ref().map(Client::open).transpose()?;
    let registered = Metrics::new("replicator", env!("CARGO_PKG_VERSION"), &Identity::default());
    let health = Health::new();
    if let Some(address) = &metrics {
        let http = ops::http::bind("the metrics listener", address).await?;
        let served = ops::http::serve(http, registered.clone(), health.clone(), shutdown.clone());
        tokio::spawn(served);
    }
    let former = board::former(&config.state).map(|status| status.not_carried).unwrap_or_default();
    let board = Board::new(config.node.to_string(), config.to.to_string());
    let tally = Tally::new(&registered, former);
    tracing::info!(node = %config.node, to = %config.to, "feeding a Redis");
    let telling = board::keep_telling(
        board.clone(),
        tally.clone(),
        config.state.clone(),
        registered,
        health,
        shutdown.clone(),
    );
    let linking = keep_linking(spool.clone(), shutdown.clone(), |_| {});
    let watching = watchdog(spool.clone(), config.budget, shutdown.clone(), |_| {});
    let shared = Arc::new(Shared { config, tls, spool, tally, board });
    tokio::join!(keep_feeding(&shared, &shutdown), telling, linking, watching);
    Ok(())
}

async fn keep_feeding(shared: &Shared, shutdown: &Shutdown) {
    let (mut pause, mut again) = (PAUSE_MIN, false);
    loop {
        let before = shared.board.read();
        let ended = tokio::select! {
            ended = session(shared, again) => ended,
            () = shutdown.cancelled() => return,
        };
        let Err(error) = ended;
        again = matches!(error, SessionError::Load);
        let now = shared.board.read();
        if (now.applied, now.keys_loaded) != (before.applied, before.keys_loaded) {
            pause = PAUSE_MIN;
        }
        tracing::warn!("{error}; again in {pause:?}");
        shared.board.update(|status| status.problem = Some(error.to_string()));
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
            () = shutdown.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn session(
    shared: &Shared,
    copy_anyway: bool,
) -> Result<std::convert::Infallible, SessionError> {
    let config = &shared.config;
    let pin = shared.spool.pin(FOLLOWER);
    shared.spool.scan()?;
    let database = shared.spool.current().ok_or(SessionError::NoDatabase)?;
    let key = format!("{}.{}", config.position_key, database.as_str());
    let node = Connection::open(&config.node, shared.tls.as_ref()).await?;
    let mut target = Target::open(&config.to, shared.tls.as_ref(), &key).await?;
    let facts = read_facts(&shared.spool, &database)?;
    let history = facts.history.clone().unwrap_or_default();
    let end = facts.position(&history).ok_or(SessionError::NoDatabase)?;
    let stands = if copy_anyway { None } else { standing(&target) };
    let cursor = stands.and_then(|at| goes_on(shared, &database, &history, at, end));
    let (cursor, copy) = match cursor {
        Some(cursor) => (cursor, false),
        None => {
            may_be_swept(&mut target, config.overwrite).await?;
            pin.hold();
            (Cursor::open(&shared.spool, &database, &history, end)?, true)
        }
    };
    let at = cursor.position();
    shared.board.update(|status| {
        status.problem = None;
        status.history = at.timeline.to_string();
        status.received = end.sequence.0;
        status.applied = if copy { 0 } else { at.sequence.0 };
    });
    let standing = if copy { Standing::Loading } else { Standing::Log(at) };
    let (tally, board) = (shared.tally.clone(), shared.board.clone());
    let mut carrier = Carrier { node, target, tally, board, standing };
    if copy {
        full_copy(shared, &mut carrier, at).await?;
    }
    shared.board.update(|status| status.state = "following".to_owned());
    follow(shared, carrier, cursor, &pin).await
}

/// The least position of all shards.
fn standing(target: &Target) -> Option<Position> {
    let places = target.shards.iter().map(|shard| match shard.standing() {
        Some(Standing::Log(position)) => Some(*position),
        _ => None,
    });
    let places = places.collect::<Option<Vec<_>>>()?;
    places.into_iter().min_by_key(|position| position.sequence)
}

/// A cursor behind the position, if this log goes on from there and it is all here.
fn goes_on(
    shared: &Shared,
    database: &DatabaseId,
    history: &History,
    at: Position,
    end: Position,
) -> Option<Cursor> {
    let Continuation::From(from) = history.continue_from(at, at.sequence, end.sequence) else {
        tracing::warn!(%at, "the node's log was recovered to before the target's position: everything is copied");
        return None;
    };
    let cursor = Cursor::open(&shared.spool, database, history, from);
    cursor.inspect_err(|error| tracing::warn!("{error}: everything is copied")).ok()
}

async fn may_be_swept(target: &mut Target, overwrite: bool) -> Result<(), SessionError> {
    if overwrite || target.shards.iter().any(|shard| shard.standing().is_some()) {
        return Ok(());
    }
    for shard in &mut target.shards {
        let keys = shard.size().await?;
        if keys > 0 {
            return Err(SessionError::NotEmpty(keys));
        }
    }
    Ok(())
}

/// Copies every key as it is now. What is written meanwhile stands in the log behind `at`.
async fn full_copy(
    shared: &Shared,
    carrier: &mut Carrier,
    at: Position,
) -> Result<(), SessionError> {
    tracing::info!(%at, "every key is copied");
    shared.board.update(|status| {
        status.state = "loading".to_owned();
        status.keys_loaded = 0;
        status.snapshots += 1;
    });
    shared.tally.clear();
    mark(carrier, Standing::Loading).await?;
    carrier.libraries().await?;
    carrier.everything().await?;
    carrier.sweep().await?;
    mark(carrier, Standing::Log(at)).await
}

/// Tells every shard where it stands.
async fn mark(carrier: &mut Carrier, standing: Standing) -> Result<(), SessionError> {
    carrier.standing = standing.clone();
    for shard in &mut carrier.target.shards {
        if let Done::Unfit(_) = shard.transact(&Batch::default(), standing.clone()).await? {
            return Err(SessionError::Ended);
        }
    }
    Ok(())
}

async fn follow(
    shared: &Shared,
    mut carrier: Carrier,
    cursor: Cursor,
    pin: &Pin,
) -> Result<std::convert::Infallible, SessionError> {
    let (database, file) = (cursor.database().clone(), cursor.file().number);
    pin.advance(&database, file);
    let mut runs = touched::follow(cursor).map_err(SessionError::Thread)?;
    loop {
        let run = runs.recv().await.ok_or(SessionError::Ended)??;
        shared.board.update(|status| status.received = run.end.sequence.0);
        if run.touched.load {
            return Err(SessionError::Load);
        }
        if run.touched.libraries {
            carrier.libraries().await?;
        }
        if run.touched.ranges {
            carrier.sweep().await?;
        }
        carrier.keys(run.touched.keys.iter().map(Vec::as_slice)).await?;
        mark(&mut carrier, Standing::Log(run.end)).await?;
        pin.advance(&database, run.file);
        shared.board.update(|status| status.applied = run.end.sequence.0);
    }
}
