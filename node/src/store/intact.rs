//! Whether RocksDB would recover all that its log files hold.
//!
//! RocksDB reads them to the first bad record and drops what follows, without a word: right for the
//! torn end that a power cut leaves, wrong for a damaged byte in the middle of what clients were
//! told is stored. So the files are read here first.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use wal::log::{Damage, LogDecoder};

/// How much of a file is read at a time.
const CHUNK: usize = 1 << 20;

/// What one log file holds.
struct Found {
    file: PathBuf,
    records: u64,
    /// The end of the last whole record.
    end: u64,
    len: u64,
    damage: Option<Damage>,
    /// Where whole records go on after the damage.
    resumes: Option<u64>,
}

/// In words, if there are whole batches behind damage: nothing is changed.
pub(super) fn check(db: &Path) -> Result<(), String> {
    let mut found = Vec::new();
    for file in files(db).map_err(|why| format!("its log files cannot be listed: {why}"))? {
        let failed = |why| format!("its log {} cannot be read: {why}", file.display());
        found.push(read(&file).map_err(failed)?);
    }
    for (index, log) in found.iter().enumerate() {
        let Some(damage) = log.damage.filter(|damage| !damage.cause.is_refusal()) else { continue };
        let name = log.file.display();
        let later = found[index + 1..].iter().find(|later| later.records > 0);
        let (follow, also) = match (log.resumes, later) {
            (Some(at), _) => (format!("at byte {at}"), String::new()),
            (None, Some(later)) => {
                let later = later.file.display();
                (format!("in {later}"), format!(" and move {later} and later logs away"))
            }
            (None, None) => {
                let lost = log.len - log.end;
                tracing::warn!(
                    "the log {name} ends in {lost} bytes that are no whole batch ({damage}), as a \
                     power cut leaves them: they are dropped; what was synced before is whole"
                );
                continue;
            }
        };
        return Err(format!(
            "its log {name} is damaged ({damage}) and whole batches follow {follow}, which would be \
             lost although clients may have been told that they are stored; nothing was changed: \
             move the directory away and have the node seeded or restored, or, to go on with what \
             comes before the damage only, keep a copy, run `truncate -s {} {name}`{also} and \
             start again",
            log.end
        ));
    }
    Ok(())
}

/// The log files, oldest first.
fn files(db: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(db)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("log")) = (number, path.extension().and_then(|e| e.to_str())) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> std::io::Result<Found> {
    let mut file = File::open(path)?;
    let mut decoder = LogDecoder::new();
    let mut chunk = vec![0; CHUNK];
    let mut records = 0;
    let mut damage = None;
    while damage.is_none() {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        decoder.feed(&chunk[..count]);
        damage = loop {
            match decoder.next() {
                Ok(Some(_)) => records += 1,
                Ok(None) => break None,
                Err(damage) => break Some(damage),
            }
        };
    }
    let mut resumes = None;
    if let Some(damage) = &damage {
        file.seek(SeekFrom::Start(damage.offset))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        resumes = damage.resumes(&rest);
    }
    let len = file.metadata()?.len();
    Ok(Found { file: path.to_owned(), records, end: decoder.end(), len, damage, resumes })
}
