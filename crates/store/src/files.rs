//! Small files, written so that a crash leaves the old one or the new one, and read within a bound.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StoreError;

/// A name in `tmp` that no other process or thread has.
pub(crate) fn scratch(tmp: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    tmp.join(format!("{}-{nanos}-{n}", std::process::id()))
}

/// Makes what was renamed into this directory survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::io("sync", dir))
}

/// Makes a directory and every one above it, each synced in its parent.
pub(crate) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io("make", dir)(error)),
        Ok(()) => sync_dir(parent),
    }
}

/// Writes a whole file: to `tmp`, synced, renamed.
pub(crate) fn write(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let scratch = scratch(tmp);
    let written = File::create_new(&scratch)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&scratch, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&scratch);
        return Err(StoreError::io("write", path)(error));
    }
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Reads a whole file of at most `max` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > max {
        return Err(StoreError::damaged(path, format!("it is longer than {max} bytes")));
    }
    Ok(Some(bytes))
}
