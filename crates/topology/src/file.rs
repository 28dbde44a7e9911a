//! The registry of one machine: a directory.
//!
//! ```text
//! GODWIT-REGISTRY   the format of this directory
//! lock              flocked for each commit; says whose turn it is
//! next.*            what somebody is about to commit
//! kept              keys that stay: synced, file and directory, before a commit is answered
//! leased            keys that end with their writer: written without a sync
//! ```
//!
//! Each of the two is one checksummed file ([`table`]) that a commit replaces by a rename, so that a
//! commit is whole or not there, for readers and after a crash. A commit that touches a key that
//! stays goes into `kept` as a whole; of two entries for one key the later revision holds. Expiry
//! is on the boot clock, with the boot's id: after a reboot nothing leased is left.
//!
//! Readers take no lock. A process that stands still in the middle of a commit holds the others up for
//! [`HELD_MAX`], less if it is seen to be stopped; then it is passed by, and writes nothing when it goes
//! on ([`lock`] has how).

mod lock;
mod store;
mod table;
mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::limits;
use crate::registry::{Expect, Outcome, Registry, RegistryError, Versioned, View, Write};

pub use lock::{HELD_MAX, STOPPED_MAX};

/// How long a commit may take, its wait for the turn included, before it reports the registry as silent.
pub const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// A registry in a directory. Clones share it.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    dir: Arc<Path>,
    /// Commits of this process wait for each other here, in order; only one polls the lock.
    turn: Arc<tokio::sync::Mutex<()>>,
}

const MARKER: &str = "GODWIT-REGISTRY";
const MARKER_TEXT: &str = "1\n";

impl FileRegistry {
    /// Opens the directory, or makes it.
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        prepare(dir)?;
        Ok(Self { dir: dir.into(), turn: Arc::default() })
    }

    fn unavailable(&self, why: impl ToString) -> RegistryError {
        unavailable(&self.dir, why)
    }

    fn late(&self, who: &str) -> RegistryError {
        let seconds = COMMIT_WAIT.as_secs();
        self.unavailable(format!(
            "for {seconds} s it was not this process's turn to write there ({who} has it); nothing was written"
        ))
    }

    /// Waits for the turn of this process.
    async fn stand_in_line(
        &self,
        deadline: tokio::time::Instant,
    ) -> Result<(lock::Ticket, lock::Turn), RegistryError> {
        let ticket = lock::Ticket::make(&self.dir)?;
        let mut waiting = lock::Waiting::begin(tokio::time::Instant::now());
        let mut backoff = lock::BACKOFF_MIN;
        loop {
            let now = tokio::time::Instant::now();
            if let Some(turn) = waiting.look(&self.dir, &ticket, now)? {
                return Ok((ticket, turn));
            }
            if now >= deadline {
                return Err(self.late(&waiting.holder()));
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(lock::BACKOFF_MAX);
        }
    }

    /// Runs file work where it may block.
    async fn blocking<T, F>(&self, work: F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> Result<T, RegistryError> + Send + 'static,
    {
        let dir = self.dir.clone();
        match tokio::task::spawn_blocking(move || work(&dir)).await {
            Ok(result) => result,
            Err(why) => Err(self.unavailable(why)),
        }
    }
}

impl Registry for FileRegistry {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let key = key.to_owned();
        self.blocking(move |dir| {
            let mut view = store::read(dir)?.view(&key);
            Ok(view.keys.remove(&key))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<View, RegistryError> {
        let prefix = prefix.to_owned();
        self.blocking(move |dir| Ok(store::read(dir)?.view(&prefix))).await
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Outcome, RegistryError> {
        limits::check(expect, writes)?;
        let deadline = tokio::time::Instant::now() + COMMIT_WAIT;
        if writes.iter().all(|w| w.ttl.is_some()) && ops::failpoint::hit("registry-members-hang") {
            tokio::time::sleep_until(deadline).await;
            return Err(self.unavailable("it hangs: a failpoint; nothing was written"));
        }
        let turn = tokio::time::timeout_at(deadline, self.turn.clone().lock_owned()).await;
        let mut own = turn.map_err(|_| self.late("another commit of this process"))?;
        loop {
            let (ticket, turn) = self.stand_in_line(deadline).await?;
            let (expect, writes) = (expect.to_vec(), writes.to_vec());
            // The work owns both turns: dropping this future does not let others in early.
            let work = self.blocking(move |dir| {
                let outcome = store::commit(dir, &ticket, &expect, &writes);
                drop((ticket, turn));
                outcome.map(|outcome| (outcome, own))
            });
            let Ok(done) = tokio::time::timeout_at(deadline, work).await else {
                let seconds = COMMIT_WAIT.as_secs();
                return Err(self.unavailable(format!(
                    "its disk has not answered for {seconds} s: whether it was committed must be read"
                )));
            };
            match done? {
                (Some(outcome), _) => return Ok(outcome),
                // This process stood still for too long, and others have written meanwhile.
                (None, again) if tokio::time::Instant::now() < deadline => own = again,
                (None, _) => return Err(self.unavailable(
                    "this process stood still in its turn and was passed by; nothing was written",
                )),
            }
        }
    }

    async fn watch(&self, prefix: &str) -> Result<watch::Receiver<View>, RegistryError> {
        watcher::start(self.dir.clone(), prefix.to_owned())
    }

    fn quiet(&self) -> Duration {
        // Leased keys are not synced: a write costs a rename.
        Duration::from_millis(3)
    }
}

fn unavailable(dir: &Path, why: impl ToString) -> RegistryError {
    RegistryError::Unavailable { registry: format!("file:{}", dir.display()), why: why.to_string() }
}

/// Makes sure that the directory is a registry of a format that this version knows.
fn prepare(dir: &Path) -> Result<(), RegistryError> {
    let unusable = |why: String| RegistryError::Unusable(why);
    let cannot = |what: &str, why: std::io::Error| {
        unusable(format!("cannot {what} the registry directory {}: {why}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(|why| cannot("make", why))?;
    let marker = dir.join(MARKER);
    match std::fs::read_to_string(&marker) {
        Ok(text) if text == MARKER_TEXT => {
            lock::sweep(dir);
            return Ok(());
        }
        Ok(text) => {
            return Err(unusable(format!(
                "the registry {} has format `{}`; this version knows format `{}`: upgrade this program",
                dir.display(),
                text.trim().escape_debug(),
                MARKER_TEXT.trim()
            )));
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
        Err(why) => return Err(cannot("read", why)),
    }
    // Several processes may open a new registry at once; only what none of them makes is foreign.
    for entry in std::fs::read_dir(dir).map_err(|why| cannot("list", why))? {
        let name = entry.map_err(|why| cannot("list", why))?.file_name();
        let name = name.to_string_lossy();
        if name != MARKER && !name.starts_with("GODWIT-REGISTRY.new-") && !store::is_ours(&name) {
            return Err(unusable(format!(
                "{} is no registry: it holds `{name}` and no {MARKER}; name an empty or new directory",
                dir.display()
            )));
        }
    }
    let new: PathBuf = dir.join(format!("{MARKER}.new-{:016x}", rand::random::<u64>()));
    store::write_synced(&new, MARKER_TEXT.as_bytes())
        .and_then(|()| std::fs::rename(&new, &marker))
        .and_then(|()| store::sync_dir(dir))
        .map_err(|why| cannot("mark", why))
}
