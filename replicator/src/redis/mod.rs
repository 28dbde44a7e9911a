//! In from a stock Redis or Valkey: it is followed as one of its replicas would, and what it writes is
//! applied to Godwit, or to any server that speaks its protocol.
//!
//! ```text
//! source ==PSYNC: snapshot, stream==> spool (disk) -> groups -> MULTI .. SET position .. EXEC -> target
//! ```
//!
//! [`session`] is what runs; [`psync`] is the source, [`spool`] what was received, [`load`] and [`apply`]
//! the way into the [`target`], [`cross`] what is on several shards of it. The position ([`place`]) is kept by the target, with what was applied.
//! [`tally`] counts what cannot be carried over, [`board`] says how it goes.
//!
//! It has no node and no registry, so it is a verb of its own: `godwit-replicator redis-in`. The way out
//! to a plain Redis is [`out`], `godwit-replicator redis-out`.

pub mod address;
pub mod apply;
pub mod board;
pub mod connection;
pub mod cross;
pub mod load;
pub mod out;
pub mod place;
pub mod psync;
pub mod session;
pub mod settings;
pub mod spool;
pub mod tally;
pub mod target;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use ops::health::Health;
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use rustix::fs::{FlockOperation, flock};

use self::board::Board;
use self::session::Shared;
use self::settings::Config;
use self::spool::Spool;
use self::tally::Tally;

/// Follows a Redis until shutdown; `metrics` is where to serve them.
pub async fn run(
    config: Config,
    metrics: Option<String>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.state)
        .with_context(|| format!("cannot create {}", config.state.display()))?;
    let _lock = lock(&config.state)?;
    let tls = config.tls.as_ref().map(ops::tls::Client::open).transpose()?;
    let registered = Metrics::new("replicator", env!("CARGO_PKG_VERSION"), &Identity::default());
    let health = Health::new();
    if let Some(address) = &metrics {
        let http = ops::http::bind("the metrics listener", address).await?;
        let served = ops::http::serve(http, registered.clone(), health.clone(), shutdown.clone());
        tokio::spawn(served);
    }
    let former = board::former(&config.state).map(|status| status.not_carried).unwrap_or_default();
    let board = Board::new(config.from.to_string(), config.to.to_string());
    let tally = Tally::new(&registered, former);
    let spool = Arc::new(Mutex::new(Spool::open(&config.state.join("spool"))?));
    tracing::info!(from = %config.from, to = %config.to, "following a Redis");
    let telling = board::keep_telling(
        board.clone(),
        tally.clone(),
        config.state.clone(),
        registered,
        health,
        shutdown.clone(),
    );
    let shared = Shared { config, tls, spool, tally, board, shutdown };
    tokio::join!(session::keep_following(shared), telling);
    Ok(())
}

/// One process a state directory.
fn lock(state: &Path) -> anyhow::Result<File> {
    let path = state.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        anyhow::anyhow!("{} is locked: another process follows with it", path.display())
    })?;
    Ok(file)
}
