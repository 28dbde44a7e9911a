//! How much log the node writes: by the hour, for a day, kept over restarts of the sidecar.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::LogFile;

/// Its file in the spool.
const NAME: &str = "rate.json";
/// Hours that are remembered.
const HOURS: u64 = 24;
/// Less of an hour says nothing about it.
const TELLING_MS: u64 = 60_000;
/// How often it is written down.
const SAVE_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Hour {
    bytes: u64,
    /// How much of it was measured.
    ms: u64,
}

impl Hour {
    fn rate(self) -> u64 {
        let rate = u128::from(self.bytes) * 1000 / u128::from(self.ms.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Hours {
    /// By hours since 1970.
    hours: BTreeMap<u64, Hour>,
}

/// The newest file at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    number: u64,
    inode: u64,
    bytes: u64,
}

/// Measures the log's growth from the files of the spool.
#[derive(Debug)]
pub struct LogRate {
    path: PathBuf,
    kept: Hours,
    newest: Option<Newest>,
    saved: Instant,
}

impl LogRate {
    /// Goes on from what a former run measured. A file that cannot be read is begun anew: it is a
    /// forecast.
    pub fn open(spool: &Path) -> Self {
        let path = spool.join(NAME);
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, kept: kept.unwrap_or_default(), newest: None, saved: Instant::now() }
    }

    /// Takes note of how much the log has grown in the time since the last look. `files`: of the node's
    /// database, oldest first; `now_ms`: since 1970.
    pub fn look(&mut self, files: &[LogFile], now_ms: u64, since: Duration) {
        let of = |file: &LogFile| fs::metadata(&file.path).map(|meta| meta.len()).unwrap_or(0);
        let newest = files.last().map(|file| Newest {
            number: file.number,
            inode: file.inode,
            bytes: of(file),
        });
        let (Some(now), before) = (newest, std::mem::replace(&mut self.newest, newest)) else {
            return;
        };
        // Another database, or the first look: from here on.
        let Some(before) = before.filter(|before| {
            files.iter().any(|f| (f.number, f.inode) == (before.number, before.inode))
        }) else {
            return;
        };
        let since_then = files.iter().filter(|file| file.number >= before.number);
        let bytes: u64 = since_then
            .map(|file| if file.number == now.number { now.bytes } else { of(file) })
            .sum();
        let grown = bytes.saturating_sub(before.bytes);
        let hour = now_ms / 3_600_000;
        let held = self.kept.hours.entry(hour).or_default();
        held.bytes += grown;
        held.ms += u64::try_from(since.as_millis()).unwrap_or(0);
        self.kept.hours.retain(|at, _| at + HOURS > hour);
        if self.saved.elapsed() > SAVE_EVERY {
            self.save();
        }
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        let new = self.path.with_extension("new");
        // A forecast: one that is lost is measured again.
        let written = serde_json::to_vec(&self.kept)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&new, bytes))
            .and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::debug!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Bytes a second in the busiest hour of the last day; of what there is, while no hour has a
    /// minute yet.
    pub fn busiest(&self) -> u64 {
        let telling = self.kept.hours.values().filter(|hour| hour.ms >= TELLING_MS);
        telling.map(|hour| hour.rate()).max().unwrap_or_else(|| {
            let all = self.kept.hours.values();
            all.fold(Hour::default(), |sum, hour| Hour {
                bytes: sum.bytes + hour.bytes,
                ms: sum.ms + hour.ms,
            })
            .rate()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn file(dir: &Path, number: u64, bytes: usize) -> LogFile {
        let path = dir.join(format!("{number}.log"));
        fs::write(&path, vec![0; bytes]).unwrap();
        LogFile { number, inode: number, path }
    }

    #[test]
    fn growth_is_counted_over_files_and_the_busiest_hour_stands_for_the_day() {
        let dir = tempfile::tempdir().unwrap();
        let mut rate = LogRate::open(dir.path());
        let minute = Duration::from_secs(60);
        let first = file(dir.path(), 3, 1000);
        rate.look(std::slice::from_ref(&first), 0, minute);
        assert_eq!(rate.busiest(), 0, "what was there before says nothing");
        // 200 bytes more in that file, a whole file, and the beginning of a third: 60,000 in a minute.
        let files =
            [file(dir.path(), 3, 1200), file(dir.path(), 7, 50_000), file(dir.path(), 9, 9800)];
        rate.look(&files, 1, minute);
        assert_eq!(rate.busiest(), 1000);
        // A quiet hour later it still stands, a day later it does not.
        rate.look(&files, HOUR_MS, minute);
        assert_eq!(rate.busiest(), 1000);
        rate.save();
        let mut again = LogRate::open(dir.path());
        assert_eq!(again.busiest(), 1000);
        again.look(&files, 25 * HOUR_MS, minute);
        again.look(&files, 25 * HOUR_MS, minute);
        assert_eq!(again.busiest(), 0);
    }

    #[test]
    fn another_database_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut rate = LogRate::open(dir.path());
        rate.look(&[file(dir.path(), 3, 1000)], 0, Duration::from_secs(1));
        let other = LogFile { inode: 99, ..file(dir.path(), 3, 5000) };
        rate.look(&[other], 0, Duration::from_secs(1));
        assert_eq!(rate.busiest(), 0);
        fs::write(dir.path().join(NAME), b"{").unwrap();
        assert_eq!(LogRate::open(dir.path()).busiest(), 0);
    }
}
