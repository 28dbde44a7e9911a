//! Makes the hard links.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use super::{LogFile, SpoolError};
use crate::identity::DatabaseId;

/// Links the log files of `<node_dir>/db` and of its archive that are not among `have`.
pub(super) fn link_new(
    node_dir: &Path,
    root: &Path,
    database: &DatabaseId,
    have: &[(u64, u64)],
) -> Result<Vec<LogFile>, SpoolError> {
    let have: HashSet<_> = have.iter().copied().collect();
    let target = root.join(database.as_str());
    fs::create_dir_all(&target).map_err(SpoolError::io("create", &target))?;
    let db = node_dir.join("db");
    let mut new = Vec::new();
    // The live directory twice: a file that is archived between the two looks is seen in the second.
    for dir in [db.clone(), db.join("archive"), db] {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(SpoolError::io("list", &dir)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(SpoolError::io("list", &dir))?;
            let Some(number) = number_of(&entry.path()) else { continue };
            let key = (number, entry.ino());
            if have.contains(&key) || new.iter().any(|f: &LogFile| (f.number, f.inode) == key) {
                continue;
            }
            let path = target.join(LogFile::name(number, entry.ino()));
            if link(&entry.path(), &path)? {
                new.push(LogFile { number, inode: entry.ino(), path });
            }
        }
    }
    Ok(new)
}

/// RocksDB's log files are named by number alone: `000012.log`.
fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

/// `false`: the file was gone before it could be linked.
fn link(from: &Path, to: &Path) -> Result<bool, SpoolError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists => Ok(true),
            ErrorKind::NotFound => Ok(false),
            ErrorKind::CrossesDevices => {
                Err(SpoolError::OtherMount { from: from.to_owned(), to: to.to_owned() })
            }
            ErrorKind::PermissionDenied => {
                Err(SpoolError::OtherUser { from: from.to_owned(), to: to.to_owned(), why: error })
            }
            _ => Err(SpoolError::io("link", from)(error)),
        },
    }
}
