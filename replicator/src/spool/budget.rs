//! What the spool may take, held to by a task that measures the disk itself and shares nothing with
//! the streams that fill it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ops::shutdown::Shutdown;

use super::{LogFile, Spool};
use crate::identity::DatabaseId;

/// The limits of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes on the disk of everything in it.
    pub bytes: u64,
    /// How old a file may become that a follower still needs.
    pub age: Duration,
    /// Bytes that must stay free on the volume.
    pub free: u64,
}

/// What the spool takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bytes free on the volume, for ordinary users.
    pub free: u64,
}

/// How often the disk is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Measures the disk: looks at every file below.
pub fn usage(root: &Path) -> Usage {
    Usage { bytes: bytes_below(root), free: free(root) }
}

/// Bytes free on the volume, for ordinary users: one call, whatever lies there.
pub fn free(root: &Path) -> u64 {
    rustix::fs::statvfs(root).map(|s| s.f_bavail * s.f_frsize).unwrap_or(u64::MAX)
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Holds the spool to its budget until shutdown; `report` hears each measurement.
pub async fn watchdog(spool: Spool, budget: Budget, shutdown: Shutdown, report: impl Fn(Usage)) {
    loop {
        let (again, root) = (spool.clone(), spool.root().to_owned());
        let measured = tokio::task::spawn_blocking(move || {
            let usage = usage(&root);
            again.enforce(&budget, usage);
            usage
        });
        if let Ok(usage) = measured.await {
            report(usage);
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURE_EVERY) => {}
            () = spool.0.unpinned.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Spool {
    /// Drops what is too much, oldest first: files that nobody needs once they are beyond a quarter
    /// of the budget, files that a follower needs once all of it is used, and then it is lost.
    pub(super) fn enforce(&self, budget: &Budget, usage: Usage) {
        self.hold_to_their_own();
        let linger = budget.bytes / 4;
        let mut over = usage.bytes;
        let mut short = budget.free.saturating_sub(usage.free);
        for (database, file, newest) in self.oldest_first() {
            if newest {
                continue;
            }
            let bytes = file.bytes();
            let (needed, age_max) = self.locked(|state| {
                let needed = state.pins.needing(&database, file.number);
                let age_max = state.pins.age(&needed, budget.age);
                (needed, age_max)
            });
            let old = age(&file) > age_max;
            let drop =
                if needed.is_empty() { over > linger || old } else { over > budget.bytes || old };
            if !drop && short == 0 {
                continue;
            }
            let why = format!(
                "its log files went past the spool's budget ({} bytes used, {} free on the volume, oldest {:?}): it will be seeded again; the node and its data are not touched",
                usage.bytes,
                usage.free,
                age(&file)
            );
            for follower in needed {
                tracing::error!(follower, "follower lost: {why}");
                self.locked(|state| state.pins.lose(&follower, &why));
            }
            self.remove(&database, &file);
            over = over.saturating_sub(bytes);
            short = short.saturating_sub(bytes);
        }
    }

    /// Lets go of the followers that are past a budget of their own.
    fn hold_to_their_own(&self) {
        self.locked(|state| {
            let files = &state.files;
            let kept = |from: Option<&(DatabaseId, u64)>| {
                let needs = |database: &DatabaseId, file: &LogFile| {
                    from.is_none_or(|(of, number)| of == database && file.number >= *number)
                };
                let all = files.iter().flat_map(|(of, files)| files.values().map(move |f| (of, f)));
                all.filter(|(of, file)| needs(of, file)).map(|(_, file)| file.bytes()).sum()
            };
            for (follower, kept, within) in state.pins.past_their_own(kept) {
                let why = format!(
                    "{kept} bytes of log files were kept for it, more than its own budget of {within}: they are \
                     kept no longer, and it begins again; the node and its data are not touched"
                );
                tracing::error!(follower, "follower lost: {why}");
                state.pins.lose(&follower, &why);
            }
        });
    }

    /// Every file; the flag marks those that must stay: the newest of the current database.
    fn oldest_first(&self) -> Vec<(DatabaseId, LogFile, bool)> {
        self.locked(|state| {
            let current = state.current.clone();
            let mut all = Vec::new();
            for (database, files) in &state.files {
                let last = files.keys().next_back().copied();
                for (key, file) in files {
                    let newest = Some(database) == current.as_ref() && Some(*key) == last;
                    all.push((database.clone(), file.clone(), newest));
                }
            }
            // Those of former databases first.
            all.sort_by_key(|(database, file, _)| {
                (Some(database) == current.as_ref(), file.number)
            });
            all
        })
    }

    fn remove(&self, database: &DatabaseId, file: &LogFile) {
        if let Err(error) = fs::remove_file(&file.path) {
            tracing::warn!("cannot remove {}: {error}", file.path.display());
        }
        self.locked(|state| {
            if let Some(files) = state.files.get_mut(database) {
                files.remove(&(file.number, file.inode));
                if files.is_empty() {
                    state.files.remove(database);
                    let _ = fs::remove_dir(self.root().join(database.as_str()));
                }
            }
        });
        self.index().forget(database, file);
        self.0.changes.send_modify(|count| *count += 1);
    }
}

/// Since its last write.
fn age(file: &LogFile) -> Duration {
    let modified = fs::metadata(&file.path).and_then(|m| m.modified());
    modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "0123456789abcdef0123456789abcdef";

    /// A spool of four files of 64 KiB.
    fn spool(dir: &Path) -> (Spool, DatabaseId) {
        let db = dir.join("db");
        fs::create_dir_all(&db).unwrap();
        fs::write(db.join("GODWIT"), format!("{{\"database\":\"{DATABASE}\"}}")).unwrap();
        for number in 1..=4 {
            fs::write(db.join(format!("{number:06}.log")), [1; 64 << 10]).unwrap();
        }
        (Spool::open(dir).unwrap(), DatabaseId::parse(DATABASE).unwrap())
    }

    fn numbers(spool: &Spool, database: &DatabaseId) -> Vec<u64> {
        spool.files(database).iter().map(|file| file.number).collect()
    }

    fn hold(spool: &Spool, bytes: u64) {
        let budget = Budget { bytes, age: Duration::from_secs(3600), free: 0 };
        spool.enforce(&budget, usage(spool.root()));
    }

    #[test]
    fn what_nobody_needs_goes_first_and_a_follower_past_the_budget_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, database) = spool(dir.path());
        let pin = spool.pin("b/0");
        hold(&spool, 1 << 20);
        assert_eq!(numbers(&spool, &database), [1, 2, 3, 4]);
        // A quarter of the budget is room for what nobody needs.
        pin.advance(&database, 3);
        hold(&spool, 600 << 10);
        assert_eq!(numbers(&spool, &database), [3, 4]);
        assert_eq!(pin.lost(), None);
        hold(&spool, 100 << 10);
        assert_eq!(numbers(&spool, &database), [4]);
        assert!(pin.lost().unwrap().contains("seeded again"));
        // Being seeded again, it is held for anew.
        pin.hold();
        assert_eq!(pin.lost(), None);
        // One that is a follower no more keeps nothing, whatever its last stream has to say.
        spool.retain_pins(|_| false);
        pin.advance(&database, 4);
        pin.hold();
        spool.locked(|state| assert_eq!(state.pins.needing(&database, 4), Vec::<String>::new()));
    }

    #[test]
    fn a_follower_with_a_budget_of_its_own_is_lost_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, database) = spool(dir.path());
        let (stream, archive) = (spool.pin("b/0"), spool.pin_within("archive", 150 << 10));
        stream.advance(&database, 2);
        archive.advance(&database, 3);
        hold(&spool, 1 << 20);
        assert_eq!(archive.lost(), None);
        archive.advance(&database, 2);
        hold(&spool, 1 << 20);
        assert!(archive.lost().unwrap().contains("its own budget"), "{:?}", archive.lost());
        assert_eq!((stream.lost(), numbers(&spool, &database).len()), (None, 4));
        // It begins again, within the same budget.
        archive.hold();
        assert_eq!(archive.lost(), None);
        archive.advance(&database, 1);
        hold(&spool, 1 << 20);
        assert!(archive.lost().is_some());
    }

    #[test]
    fn a_volume_that_is_almost_full_is_given_room() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, database) = spool(dir.path());
        let pin = spool.pin("b/0");
        let budget = Budget { bytes: 1 << 30, age: Duration::from_secs(3600), free: 128 << 10 };
        spool.enforce(&budget, Usage { bytes: 256 << 10, free: 1 << 10 });
        assert_eq!(numbers(&spool, &database), [3, 4]);
        assert!(pin.lost().is_some());
    }
}
