//! Something that is made of files, and made again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};

use super::TlsError;
use crate::shutdown::Shutdown;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What tells that a file has changed; `None`: it is not there.
type Mark = Option<(SystemTime, u64)>;
type Make<C> = Box<dyn Fn() -> Result<C, TlsError> + Send + Sync>;

/// What was made of the files last.
pub(super) struct Reloaded<C> {
    paths: Vec<PathBuf>,
    /// As they were before they were read for the first time.
    first: Vec<Mark>,
    make: Make<C>,
    now: ArcSwap<C>,
}

impl<C> Reloaded<C> {
    /// With what the files hold now.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<C, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let first = marks(&paths);
        let now = ArcSwap::from_pointee(make()?);
        Ok(Self { paths, first, make: Box::new(make), now })
    }

    pub(super) fn now(&self) -> Arc<C> {
        self.now.load_full()
    }

    /// Reads the files again whenever they have changed, and at each SIGHUP, until shutdown. While
    /// they cannot be used, what was read before stays.
    pub(super) async fn follow(&self, shutdown: Shutdown) -> std::io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut seen = self.first.clone();
        loop {
            let told = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = hangups.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = marks(&self.paths);
            if !told && now == seen {
                continue;
            }
            seen = now;
            match (self.make)() {
                Ok(made) => {
                    self.now.store(Arc::new(made));
                    tracing::info!(files = ?self.paths, "the certificates were read again");
                }
                Err(why) => tracing::warn!("{why}; new connections get the one from before"),
            }
        }
    }
}

fn marks(paths: &[PathBuf]) -> Vec<Mark> {
    let mark = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    paths.iter().map(mark).collect()
}
