//! A node's directory: its lock, its fence, and the state that a crash left a swap in.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use topology::Epoch;

/// How long to wait for the lock: a sidecar that drains a dead node holds it for so long.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// An entry for each primary of a service takes less.
const PROMISES_BYTES_MAX: u64 = 4 << 20;

/// Why a directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The file system failed.
    #[error("{what} {path} failed: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        why: std::io::Error,
    },
    /// Somebody else has it.
    #[error(
        "the directory {dir} is in use: {holder} holds its LOCK; end that process or use another directory"
    )]
    Locked {
        /// The directory.
        dir: String,
        /// Who, as the lock file says.
        holder: String,
    },
    /// A file of ours that cannot be read.
    #[error("{path} cannot be read: {why}; it is damaged, restore it from a copy")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Written by a later version.
    #[error(
        "the database {db} has format {format}; this version knows format 1: upgrade godwit-node"
    )]
    Format {
        /// The directory.
        db: String,
        /// Its format.
        format: u32,
    },
}

/// The file `FENCE`: a node writes as primary only once the record has reached this epoch.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fence {
    format: u32,
    epoch: Epoch,
}

/// The directory, locked for as long as this lives: across reopens of the database, until the
/// process ends.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    _lock: File,
}

impl NodeDir {
    /// Creates the directory if need be, and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, DirError> {
        std::fs::create_dir_all(path).map_err(|why| io("creating the directory", path, why))?;
        let path = std::path::absolute(path).map_err(|why| io("finding", path, why))?;
        let file = path.join("LOCK");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(|why| io("opening", &file, why))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    #[allow(clippy::disallowed_methods)] // before there is a runtime to block
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(DirError::Locked {
                        dir: path.display().to_string(),
                        holder: holder(&mut lock),
                    });
                }
                Err(TryLockError::Error(why)) => return Err(io("locking", &file, why)),
            }
        }
        let named = format!("godwit-node, process {}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.write_all(named.as_bytes()))
            .map_err(|why| io("writing", &file, why))?;
        let dir = Self { path, _lock: lock };
        dir.finish_swap()?;
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    pub fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where outgoing checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Where loads are: this node's own, and what its sidecar received.
    pub fn loads(&self) -> PathBuf {
        self.path.join(admin::Intent::DIR)
    }

    /// The database that a swap replaces, until the new one has been opened.
    fn old(&self) -> PathBuf {
        self.path.join("db.old")
    }

    /// The epoch of the fence; 0 without one.
    pub fn fence(&self) -> Result<Epoch, DirError> {
        let path = self.path.join("FENCE");
        let Some(bytes) = read_bounded(&path, 4096)? else { return Ok(Epoch(0)) };
        let fence: Fence = serde_json::from_slice(&bytes).map_err(|why| DirError::Damaged {
            path: path.display().to_string(),
            why: why.to_string(),
        })?;
        Ok(fence.epoch)
    }

    /// Raises the fence, synced; it never falls.
    pub fn raise_fence(&self, epoch: Epoch) -> Result<Epoch, DirError> {
        let epoch = self.fence()?.max(epoch);
        let fence = Fence { format: 1, epoch };
        let bytes = serde_json::to_vec(&fence).expect("numbers have a JSON form");
        write_synced(&self.path.join("FENCE"), &bytes)?;
        Ok(epoch)
    }

    /// The bytes of the file `PROMISES`; `None` without one. It is beside the database, so that it outlasts
    /// any that is swapped in.
    pub fn promises(&self) -> Result<Option<Vec<u8>>, DirError> {
        read_bounded(&self.path.join("PROMISES"), PROMISES_BYTES_MAX)
    }

    /// The file `PROMISES` has these bytes, synced.
    pub fn write_promises(&self, bytes: &[u8]) -> Result<(), DirError> {
        write_synced(&self.path.join("PROMISES"), bytes)
    }

    /// Puts `seed` in the database's place. The old one stays beside it until
    /// [`NodeDir::drop_old`], and a crash in between is undone or finished at the next start.
    pub fn swap(&self, seed: &Path) -> Result<(), DirError> {
        let (db, old) = (self.db(), self.old());
        self.drop_old()?;
        if db.exists() {
            std::fs::rename(&db, &old).map_err(|why| io("renaming", &db, why))?;
            sync_dir(&self.path)?;
        }
        fail_here("seed-between-renames");
        if let Err(why) = std::fs::rename(seed, &db) {
            self.finish_swap()?;
            return Err(io("renaming", seed, why));
        }
        sync_dir(&self.path)?;
        fail_here("seed-after-renames");
        Ok(())
    }

    /// Removes the database that a swap replaced, once the new one has been opened.
    pub fn drop_old(&self) -> Result<(), DirError> {
        match std::fs::remove_dir_all(self.old()) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(io("removing", &self.old(), why))
            }
            _ => Ok(()),
        }
    }

    /// Where the files of an activation are put together.
    pub fn activation(&self) -> PathBuf {
        self.path.join("activate")
    }

    /// Removes what an activation that was cut short has left.
    pub fn drop_activation(&self) -> Result<(), DirError> {
        match std::fs::remove_dir_all(self.activation()) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(io("removing", &self.activation(), why))
            }
            _ => Ok(()),
        }
    }

    /// A crash between the two renames of a swap: the old database is still the node's.
    pub(super) fn finish_swap(&self) -> Result<(), DirError> {
        if self.old().exists() && !self.db().exists() {
            tracing::warn!("a swap of the database was cut short before its end: undone");
            std::fs::rename(self.old(), self.db())
                .map_err(|why| io("renaming", &self.old(), why))?;
            sync_dir(&self.path)?;
        }
        Ok(())
    }
}

/// Ends the process as a crash would, where a test asks for it.
pub(crate) fn fail_here(point: &str) {
    if ops::failpoint::hit(point) {
        std::process::abort();
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(200).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

pub(super) fn io(what: &'static str, path: &Path, why: std::io::Error) -> DirError {
    DirError::Io { what, path: path.display().to_string(), why }
}

/// A file's bytes; `None` where there is none. More than `limit` is an error.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DirError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(io("opening", path, why)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|why| io("reading", path, why))?;
    if bytes.len() as u64 > limit {
        return Err(DirError::Damaged {
            path: path.display().to_string(),
            why: format!("it is longer than {limit} bytes"),
        });
    }
    Ok(Some(bytes))
}

/// Writes a file so that after a power cut it has its old content or this.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DirError> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|why| io("writing", &new, why))?;
    std::fs::rename(&new, path).map_err(|why| io("renaming", &new, why))?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Makes a directory's renames and removals durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), DirError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|why| io("syncing", path, why))
}
