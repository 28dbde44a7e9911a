//! What a run that a timer starts needs around it.
//!
//! ```text
//! priority   nice, and the disk when nobody else wants it
//! jitter     not all at the same second
//! window     only at these times of the day; what is under way at its end stops
//! load       not while the nodes are busy
//! lock       not beside another run of the same
//! report     what came of it, as JSON and as metrics, whatever that was
//! ```
//!
//! A run that does not begin, or stops, for one of these exits with 3 and has changed nothing that counts.

pub mod load;
mod lock;
mod priority;
mod report;
mod settings;
mod window;

use std::future::Future;
use std::time::{Duration, Instant};

use ops::exit::{self, Exit, Stop};
use store::repository::Repository;

pub use settings::{Cron, CronSettings};
pub use window::Window;

/// A run of a verb.
#[derive(Debug)]
pub struct Run {
    cron: Cron,
    verb: &'static str,
    begun: Instant,
    begun_ms: u64,
}

impl Run {
    /// Of this verb.
    pub fn new(cron: Cron, verb: &'static str) -> Self {
        Self { cron, verb, begun: Instant::now(), begun_ms: ops::clock::unix_ms() }
    }

    /// Runs `work` as was asked for, and reports what came of it. `lock` opens the repository that the
    /// run is about and names its lock there; `idle` waits until the nodes have time, or refuses.
    ///
    /// # Errors
    /// Those of `work`; or it may not run now: exit code 3.
    pub async fn run<W, I, L>(self, idle: I, lock: L, work: W) -> anyhow::Result<Exit>
    where
        W: Future<Output = anyhow::Result<Exit>>,
        I: Future<Output = anyhow::Result<()>>,
        L: Future<Output = anyhow::Result<Option<(Repository, String)>>>,
    {
        let result = self.guarded(idle, lock, work).await;
        let exit = result.as_ref().map_or_else(exit::of, |exit| *exit);
        let error = result.as_ref().err().map(ops::cli::sentence);
        let ended = report::Ended {
            verb: self.verb,
            begun_ms: self.begun_ms,
            seconds: self.begun.elapsed().as_secs_f64(),
            exit,
            error,
        };
        // What came of the run counts more than that it could not be told.
        for written in [
            self.cron.report.as_ref().map(|path| ended.write_json(path)),
            self.cron.textfile.as_ref().map(|path| ended.write_metrics(path)),
        ] {
            if let Some(Err(why)) = written {
                tracing::warn!("the report of this run was not written: {why:#}");
            }
        }
        result
    }

    async fn guarded<W, I, L>(&self, idle: I, lock: L, work: W) -> anyhow::Result<Exit>
    where
        W: Future<Output = anyhow::Result<Exit>>,
        I: Future<Output = anyhow::Result<()>>,
        L: Future<Output = anyhow::Result<Option<(Repository, String)>>>,
    {
        priority::lower(self.cron.nice, self.cron.io_idle)?;
        if let Some(jitter) = self.cron.jitter {
            tokio::time::sleep(jitter.mul_f64(rand::random::<f64>())).await;
        }
        let left = match &self.cron.window {
            Some(window) => window.left(ops::clock::unix_ms()).ok_or_else(|| {
                let why = format!("it is outside of --window {window} (UTC): nothing was done");
                Stop::new(Exit::Refused, why)
            })?,
            None => Duration::MAX,
        };
        let timed = async {
            idle.await?;
            let Some((repository, name)) = lock.await? else { return work.await };
            lock::held(&repository, &name, work).await
        };
        match tokio::time::timeout(left, timed).await {
            Ok(done) => done,
            Err(_) => {
                let why = "the --window has ended before the run: it stopped, and the next goes on where it was";
                Err(Stop::new(Exit::Refused, why).into())
            }
        }
    }
}

/// For runs that need no lock.
///
/// # Errors
/// None.
pub async fn no_lock() -> anyhow::Result<Option<(Repository, String)>> {
    Ok(None)
}

/// For runs that no node feels.
///
/// # Errors
/// None.
pub async fn no_load() -> anyhow::Result<()> {
    Ok(())
}
