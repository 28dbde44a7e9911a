//! The directory itself: opening, its marker, its parts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Address, SnapshotId, StoreError, files};

/// The file that says what the directory is.
const MARKER: &str = "GODWIT-STORE";
/// What the marker says before the format's number.
const MAGIC: &str = "godwit-store format ";
/// The format that this version reads and writes.
const FORMAT: u32 = 1;
/// A marker is one short line.
const MARKER_BYTES_MAX: u64 = 128;
/// What lies in `tmp/` for longer was left by a writer that died.
const SCRATCH_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// An open store. Cheap to clone; several processes may use one at once.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens a store that exists.
    ///
    /// # Errors
    /// The directory is missing, is no store, or has a newer format.
    pub fn open(address: &Address) -> Result<Self, StoreError> {
        let root = address.path();
        let unusable = |why: String| StoreError::Unusable { path: root.to_path_buf(), why };
        match files::read(&root.join(MARKER), MARKER_BYTES_MAX)? {
            Some(marker) => check_marker(&marker).map_err(unusable)?,
            None if root.is_dir() => {
                return Err(unusable(format!(
                    "it has no file {MARKER}: give the directory that was given to `push --to`"
                )));
            }
            None => return Err(unusable("there is no such directory".to_owned())),
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// Opens a store, or makes one of a directory that is missing or empty.
    ///
    /// # Errors
    /// As [`Store::open`]; and the directory holds something else, which is left alone.
    pub fn open_or_create(address: &Address) -> Result<Self, StoreError> {
        let root = address.path();
        if !root.join(MARKER).exists() {
            files::make_dir(root)?;
            let mut inside = fs::read_dir(root).map_err(StoreError::io("list", root))?;
            if inside.any(|entry| entry.is_ok_and(|e| !is_own(&e.file_name()))) {
                return Err(StoreError::Unusable {
                    path: root.to_path_buf(),
                    why: "it is not empty and no store: give an empty or a new directory"
                        .to_owned(),
                });
            }
            for part in ["objects", "snapshots", "tmp"] {
                files::make_dir(&root.join(part))?;
            }
            let marker = format!("{MAGIC}{FORMAT}\n");
            files::write(&root.join("tmp"), &root.join(MARKER), marker.as_bytes())?;
        }
        let store = Self::open(address)?;
        files::make_dir(&store.tmp())?;
        Ok(store)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Removes what writers that died left behind more than a day ago.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn tidy(&self) -> Result<usize, StoreError> {
        let tmp = self.tmp();
        let mut removed = 0;
        for entry in fs::read_dir(&tmp).map_err(StoreError::io("list", &tmp))? {
            let entry = entry.map_err(StoreError::io("list", &tmp))?;
            let age =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > SCRATCH_AGE_MAX) && fs::remove_file(entry.path()).is_ok()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots().join(id.as_str())
    }
}

/// Parts that a making of the store that was cut short may have left.
fn is_own(name: &std::ffi::OsStr) -> bool {
    ["objects", "snapshots", "tmp"].iter().any(|part| name == *part)
}

fn check_marker(marker: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(marker).unwrap_or_default();
    let format = text.strip_prefix(MAGIC).and_then(|f| f.trim_end().parse::<u32>().ok());
    match format {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(format!(
            "it has format {newer}, and this version knows format {FORMAT}: use the version that wrote it, or a newer one"
        )),
        _ => Err(format!("its file {MARKER} is damaged: it should say `{MAGIC}{FORMAT}`")),
    }
}
