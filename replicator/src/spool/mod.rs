//! The spool: a hard link to each log file of the node, made as soon as the file appears, so that
//! the node may archive and delete its own name for it.
//!
//! `<node dir>/spool/<database id>/<file number>-<inode>.log`. A file is kept from the one that the
//! slowest follower needs on ([`pins`]); what nobody needs lingers while there is room; past the
//! budget ([`budget`]) a follower is marked lost and its files go. One sidecar a spool ([`lock`]).

mod budget;
mod file;
mod link;
mod lock;
mod pins;
mod rate;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch as signal};

pub use budget::{Budget, Usage, free, usage, watchdog};
pub use file::LogFile;
pub use lock::SpoolLock;
pub use pins::Pin;
pub use rate::LogRate;
pub use watch::keep_linking;

use crate::cursor::Index;
use crate::identity::{DatabaseId, Identity};

/// Why the spool cannot do its work. The node is not touched by any of it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The spool is on another file system than the database.
    #[error(
        "cannot hard-link {from} into {to}: they are on different file systems. The sidecar must see the node's whole directory through one mount; nothing is lost while the node keeps its archive"
    )]
    OtherMount {
        /// The log file.
        from: PathBuf,
        /// The spool.
        to: PathBuf,
    },
    /// Another user.
    #[error(
        "may not hard-link {from} into {to}: {why}. Run the sidecar as the same user as its node"
    )]
    OtherUser {
        /// The log file.
        from: PathBuf,
        /// The spool.
        to: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// Another sidecar is at work.
    #[error(
        "the spool {0} is locked by another sidecar: one sidecar a node; end the other one first"
    )]
    Locked(PathBuf),
    /// The disk.
    #[error("cannot {what} {path}: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        why: std::io::Error,
    },
}

impl SpoolError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |why| Self::Io { what, path, why }
    }
}

/// The name of a sidecar's spool in its node's directory.
const NAME: &str = "spool";
/// How often directories are listed where the system tells of no changes.
pub const RESCAN_EVERY: Duration = Duration::from_millis(500);
/// How often they are listed where it does, and has told of none.
const RECHECK_EVERY: Duration = Duration::from_secs(2);

/// The spool; clones share it.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node_dir: PathBuf,
    root: PathBuf,
    state: Mutex<State>,
    /// Counts changes of the set of files, for readers that wait for the next one.
    changes: signal::Sender<u64>,
    /// What cursors have read of the files, so that they are read once.
    index: Index,
    /// Wakes the watchdog: there may be less to keep.
    unpinned: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By database, then by number and inode.
    files: BTreeMap<DatabaseId, BTreeMap<(u64, u64), LogFile>>,
    /// The database that was linked last.
    current: Option<DatabaseId>,
    pins: pins::Pins,
}

impl Spool {
    /// Opens the spool beside a node's database, takes note of what is in it, and tries a link if
    /// there is a log file to try it with.
    pub fn open(node_dir: &Path) -> Result<Self, SpoolError> {
        Self::open_as(node_dir, NAME)
    }

    /// The same under another name: a follower that is no sidecar links files for itself.
    pub fn open_as(node_dir: &Path, name: &str) -> Result<Self, SpoolError> {
        let root = node_dir.join(name);
        std::fs::create_dir_all(&root).map_err(SpoolError::io("create the spool", &root))?;
        let state = State { files: file::list(&root)?, ..State::default() };
        let (changes, _) = signal::channel(0);
        let index = Index::default();
        let state = Mutex::new(state);
        let (node_dir, unpinned) = (node_dir.to_owned(), Notify::new());
        let shared = Shared { node_dir, root, state, changes, index, unpinned };
        let spool = Self(Arc::new(shared));
        spool.scan()?;
        Ok(spool)
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The node's directory.
    pub fn node_dir(&self) -> &Path {
        &self.0.node_dir
    }

    /// Links every log file that is not linked yet; says how many were new.
    pub fn scan(&self) -> Result<usize, SpoolError> {
        let Some(identity) = Identity::read(&self.0.node_dir.join("db")) else { return Ok(0) };
        let database = identity.database;
        let have: Vec<(u64, u64)> = self.locked(|state| {
            state.current = Some(database.clone());
            state
                .files
                .get(&database)
                .map(|files| files.keys().copied().collect())
                .unwrap_or_default()
        });
        let new = link::link_new(&self.0.node_dir, &self.0.root, &database, &have)?;
        let count = new.len();
        if count > 0 {
            self.locked(|state| {
                let files = state.files.entry(database).or_default();
                files.extend(new.into_iter().map(|file| ((file.number, file.inode), file)));
            });
            self.0.changes.send_modify(|count| *count += 1);
        }
        Ok(count)
    }

    /// The database that the node has now, as last seen.
    pub fn current(&self) -> Option<DatabaseId> {
        self.locked(|state| state.current.clone())
    }

    /// The log files of a database, oldest first.
    pub fn files(&self, database: &DatabaseId) -> Vec<LogFile> {
        self.locked(|state| {
            state
                .files
                .get(database)
                .map(|files| files.values().cloned().collect())
                .unwrap_or_default()
        })
    }

    /// Whether there is a file that may come after this one: cheaper than to list them.
    pub fn has_later(&self, database: &DatabaseId, file: &LogFile) -> bool {
        self.locked(|state| {
            let files = state.files.get(database);
            files.is_some_and(|files| {
                let mut later = files.range((file.number, 0)..);
                later.any(|((number, inode), _)| *number > file.number || *inode != file.inode)
            })
        })
    }

    /// Changes whenever files come or go.
    pub fn changes(&self) -> signal::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Keeps files for a follower, from the oldest there is until [`Pin::advance`] says otherwise.
    pub fn pin(&self, follower: &str) -> Pin {
        self.locked(|state| state.pins.add(follower, None, None));
        Pin::new(self.clone(), follower.to_owned())
    }

    /// The same for a follower with a budget of its own, in bytes of log files: past it that follower is
    /// lost, whatever room there is, and no other one.
    pub fn pin_within(&self, follower: &str, bytes: u64) -> Pin {
        self.locked(|state| state.pins.add(follower, Some(bytes), None));
        Pin::new(self.clone(), follower.to_owned())
    }

    /// The same for one that may need files of another age than the rest.
    pub fn pin_for(&self, follower: &str, bytes: u64, age: Duration) -> Pin {
        self.locked(|state| state.pins.add(follower, Some(bytes), Some(age)));
        Pin::new(self.clone(), follower.to_owned())
    }

    /// Keeps nothing more for followers that are not among these; what only they needed goes at once, as
    /// far as the budget asks for it.
    pub fn retain_pins(&self, keep: impl Fn(&str) -> bool) {
        if self.locked(|state| state.pins.retain(keep)) {
            self.0.unpinned.notify_one();
        }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
