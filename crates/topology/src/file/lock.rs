//! Whose turn it is to write: a lock that nobody can keep by standing still.
//!
//! Whoever is to commit makes a *ticket* first, an empty file of its own (`next.<random>`), then takes the
//! `flock` of `lock`, reads, fills the ticket, and renames it to the name that readers open. That rename
//! publishes the commit, and it works only while the ticket is there.
//!
//! So a holder that stands still (SIGSTOP, a disk that hangs) is *passed by*: who has waited for it long
//! enough makes a lock file of its own, locked, renames it to `lock`, and removes every ticket but its
//! own. From then on the old holder either has published, and whoever passed it by reads that, or never
//! will: its rename finds no ticket. Two that pass it by at once do the same to each other. A ticket is
//! made before its lock is taken, and what it is renamed to was not there before, so nobody who was
//! passed by comes back later with an old view.
//!
//! A lock file that was put there so says `!` until the tickets are gone: if whoever put it there dies, the
//! next one removes them before it reads.
//!
//! What a wrong guess costs is a turn: who lost its ticket has written nothing, and stands in line again.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use super::unavailable;
use crate::registry::RegistryError;

/// A holder that keeps its turn for longer than this is passed by: a commit takes some milliseconds, a
/// sync of a slow disk a few hundred. Well below a lease, so that one that stands still ends none.
pub const HELD_MAX: Duration = Duration::from_secs(1);
/// The same for a holder of which this machine says that it is stopped.
pub const STOPPED_MAX: Duration = Duration::from_millis(100);
/// Between two tries to take the lock, at first and at most.
pub(super) const BACKOFF_MIN: Duration = Duration::from_micros(200);
pub(super) const BACKOFF_MAX: Duration = Duration::from_millis(4);
/// What a process that died left behind is removed after this; nobody waits for so long.
const LITTER_AGE: Duration = Duration::from_secs(60);
/// `lock` may be replaced between opening and locking it; then the new one is tried, so often at once.
const REOPENS_MAX: u32 = 4;

const LOCK: &str = "lock";
const NEW_LOCK: &str = "lock.";
const TICKET: &str = "next.";
/// `<mark><pid> <random>`, as the lock's holder writes it there; blanks while nobody holds it.
const HOLDER_BYTES: usize = 29;
/// Tickets from before this lock file may be there.
const UNCLEAN: u8 = b'!';
const CLEAN: u8 = b' ';

/// Whether this module makes files of this name.
pub(super) fn is_ours(name: &str) -> bool {
    name == LOCK || is_passing(name)
}

/// A file that may become the next one of a name. Removed with this value unless it did.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) file: File,
    path: PathBuf,
}

impl Ticket {
    /// Makes one.
    pub(super) fn make(dir: &Path) -> Result<Self, RegistryError> {
        let cannot = |why: std::io::Error| unavailable(dir, format!("cannot write there: {why}"));
        // A directory that was replaced is no registry to write to.
        if !dir.join(super::MARKER).exists() {
            return Err(cannot(ErrorKind::NotFound.into()));
        }
        let path = dir.join(format!("{TICKET}{:016x}", rand::random::<u64>()));
        let file = File::options().create_new(true).write(true).open(&path).map_err(cannot)?;
        Ok(Self { file, path })
    }

    /// Publishes it under `name`; `false` if it was taken away: nothing was written.
    pub(super) fn publish(&self, dir: &Path, name: &str) -> std::io::Result<bool> {
        match std::fs::rename(&self.path, dir.join(name)) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
            Err(why) => Err(why),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Its name is nobody else's. What was published or taken away is not there any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The turn: given back when this is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Turn(File);

impl Turn {
    /// With the tickets of others gone.
    fn of(lock: File, holder: &Holder) -> std::io::Result<Self> {
        lock.write_all_at(&holder.text(CLEAN), 0)?;
        Ok(Self(lock))
    }
}

/// Who has the turn: no two times the same.
struct Holder(u64);

impl Holder {
    fn new() -> Self {
        Self(rand::random())
    }

    fn text(&self, mark: u8) -> Vec<u8> {
        format!("{}{:>10} {:016x}\n", char::from(mark), std::process::id(), self.0).into_bytes()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before it is unlocked; a name that stayed would only be a wrong name in a message.
        let _ = self.0.write_all_at(&[b' '; HOLDER_BYTES], 0);
    }
}

/// The lock, if nobody has it. The ticket must be there already.
fn try_take(dir: &Path, own: &Ticket) -> std::io::Result<Option<Turn>> {
    let path = dir.join(LOCK);
    for _ in 0..REOPENS_MAX {
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => return Ok(None),
            Err(why) => return Err(why.into()),
        }
        // Whoever was passed by keeps a file that is `lock` no more.
        let named = std::fs::metadata(&path).map(|meta| meta.ino());
        if named.is_ok_and(|inode| file.metadata().is_ok_and(|meta| meta.ino() == inode)) {
            let mut mark = [CLEAN];
            if file.read_at(&mut mark, 0)? > 0 && mark[0] == UNCLEAN {
                remove_tickets(dir, own)?;
            }
            return Turn::of(file, &Holder::new()).map(Some);
        }
    }
    Ok(None)
}

/// Takes the lock from whoever holds it, and every ticket but our own.
fn pass_by(dir: &Path, own: &Ticket) -> std::io::Result<Turn> {
    let new = dir.join(format!("{NEW_LOCK}{:016x}", rand::random::<u64>()));
    let file = File::options().create_new(true).write(true).open(&new)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let holder = Holder::new();
    file.write_all_at(&holder.text(UNCLEAN), 0)?;
    std::fs::rename(&new, dir.join(LOCK))?;
    if ops::failpoint::hit("registry-die-passing-by") {
        std::process::abort();
    }
    remove_tickets(dir, own)?;
    Turn::of(file, &holder)
}

/// Removes the tickets that were there before the lock was taken. Entries that are there all the while are
/// all listed (readdir(3)); of what comes meanwhile, nobody has the turn.
fn remove_tickets(dir: &Path, own: &Ticket) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_passing(&name.to_string_lossy()) && entry.path() != own.path {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn is_passing(name: &str) -> bool {
    name.starts_with(TICKET) || name.starts_with(NEW_LOCK)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Removes what processes that died left there.
pub(super) fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = is_passing(&name.to_string_lossy());
        let made = entry.metadata().and_then(|meta| meta.modified());
        let old = made.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(is_litter));
        if ours && old {
            // Somebody else may be quicker; its owner, if it lives after all, makes another.
            let _ = remove(&entry.path());
        }
    }
}

fn is_litter(age: Duration) -> bool {
    age >= LITTER_AGE
}

/// Somebody who waits for the turn.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What the lock said of its holder when that changed last, and when that was.
    seen: Vec<u8>,
    since: Instant,
}

impl Waiting {
    pub(super) fn begin(now: Instant) -> Self {
        Self { seen: Vec::new(), since: now }
    }

    /// One try: the turn, if it is free, or if its holder has had it for too long.
    pub(super) fn look(
        &mut self,
        dir: &Path,
        ticket: &Ticket,
        now: Instant,
    ) -> Result<Option<Turn>, RegistryError> {
        let cannot = |why: std::io::Error| unavailable(dir, format!("cannot take its lock: {why}"));
        if let Some(turn) = try_take(dir, ticket).map_err(cannot)? {
            return Ok(Some(turn));
        }
        let says = read_holder(dir);
        if says != self.seen {
            (self.seen, self.since) = (says, now);
            return Ok(None);
        }
        let held = now.duration_since(self.since);
        if held < STOPPED_MAX || held < HELD_MAX && !pid(&self.seen).is_some_and(is_stopped) {
            return Ok(None);
        }
        tracing::warn!(
            "{} has held the lock of the registry {} for {} ms and is passed by: it writes nothing there when it goes on",
            self.holder(),
            dir.display(),
            held.as_millis()
        );
        match pass_by(dir, ticket) {
            Ok(turn) => Ok(Some(turn)),
            // Another one passed it by, and took what we were about to use.
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(cannot(why)),
        }
    }

    /// Who has it, in words.
    pub(super) fn holder(&self) -> String {
        match pid(&self.seen) {
            Some(pid) => format!("process {pid}"),
            None => "another process".to_owned(),
        }
    }
}

fn read_holder(dir: &Path) -> Vec<u8> {
    let mut held = vec![0; HOLDER_BYTES];
    let read = File::open(dir.join(LOCK)).and_then(|file| file.read_at(&mut held, 0));
    held.truncate(read.unwrap_or(0));
    held
}

fn pid(holder: &[u8]) -> Option<u32> {
    std::str::from_utf8(holder.get(1..)?).ok()?.split_whitespace().next()?.parse().ok()
}

/// Whether a process is stopped by a signal or a debugger (proc(5): the state behind the name). Only a
/// hint: in another namespace the number may be another process's.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(super::super::MARKER), "1\n").unwrap();
        dir
    }

    fn published(dir: &Path, turn: &Ticket, text: &str) -> bool {
        turn.file.write_all_at(text.as_bytes(), 0).unwrap();
        turn.publish(dir, "kept").unwrap()
    }

    #[test]
    fn who_was_passed_by_publishes_nothing_and_locks_nobody_out() {
        let dir = registry();
        let dir = dir.path();
        let slow = Ticket::make(dir).unwrap();
        let held = try_take(dir, &slow).unwrap().unwrap();
        let quick = Ticket::make(dir).unwrap();
        assert!(try_take(dir, &quick).unwrap().is_none());
        let turn = pass_by(dir, &quick).unwrap();
        assert!(!published(dir, &slow, "slow"), "its ticket is gone");
        let next = Ticket::make(dir).unwrap();
        assert!(try_take(dir, &next).unwrap().is_none(), "the lock is the new one");
        assert!(published(dir, &quick, "quick"));
        drop(held);
        assert!(try_take(dir, &next).unwrap().is_none(), "what the slow one gives back is no lock");
        drop(turn);
        assert!(try_take(dir, &next).unwrap().is_some());
        assert_eq!(std::fs::read(dir.join("kept")).unwrap(), b"quick");
    }

    #[test]
    fn of_two_that_pass_a_holder_by_the_later_one_has_the_turn() {
        let dir = registry();
        let dir = dir.path();
        let (one, two) = (Ticket::make(dir).unwrap(), Ticket::make(dir).unwrap());
        let _held = try_take(dir, &one).unwrap().unwrap();
        let _first = pass_by(dir, &one).unwrap();
        // It took the other's ticket, which had been made before.
        assert!(!published(dir, &two, "two"));
        let again = Ticket::make(dir).unwrap();
        let _second = pass_by(dir, &again).unwrap();
        assert!(!published(dir, &one, "one"), "it was passed by in its turn");
        assert!(published(dir, &again, "two"));
    }

    #[test]
    fn a_holder_is_named_and_passed_by_only_after_its_time() {
        let dir = registry();
        let dir = dir.path();
        let ticket = Ticket::make(dir).unwrap();
        let _held = try_take(dir, &ticket).unwrap().unwrap();
        let began = Instant::now();
        let mut waiting = Waiting::begin(began);
        let mut look = |after: Duration| waiting.look(dir, &ticket, began + after).unwrap();
        assert!(look(Duration::ZERO).is_none());
        assert!(look(HELD_MAX - Duration::from_millis(1)).is_none());
        assert!(look(HELD_MAX).is_some());
        assert_eq!(waiting.holder(), format!("process {}", std::process::id()));
    }

    #[test]
    fn a_lock_whose_maker_died_before_it_took_the_tickets_is_cleaned_by_the_next() {
        let dir = registry();
        let dir = dir.path();
        let slow = Ticket::make(dir).unwrap();
        let _held = try_take(dir, &slow).unwrap().unwrap();
        let left = Holder::new().text(UNCLEAN);
        std::fs::write(dir.join("lock.left"), left).unwrap();
        std::fs::rename(dir.join("lock.left"), dir.join(LOCK)).unwrap();
        let next = Ticket::make(dir).unwrap();
        let turn = try_take(dir, &next).unwrap().unwrap();
        assert!(!published(dir, &slow, "slow"));
        assert!(published(dir, &next, "next"));
        drop(turn);
        assert!(std::fs::read(dir.join(LOCK)).unwrap().iter().all(|byte| *byte == CLEAN));
    }

    #[test]
    fn litter_is_swept_by_its_age_only() {
        let dir = registry();
        let dir = dir.path();
        let young = Ticket::make(dir).unwrap();
        let old = Ticket::make(dir).unwrap();
        old.file.set_modified(SystemTime::now() - LITTER_AGE).unwrap();
        sweep(dir);
        assert!(!published(dir, &old, "old"));
        assert!(published(dir, &young, "young"));
    }
}
