//! Reading and replacing the two files of keys.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::lock::{self, Ticket};
use super::table::{Entry, Now, Table};
use super::unavailable;
use crate::limits::{KEYS_MAX, TOTAL_BYTES_MAX};
use crate::registry::{Expect, Outcome, RegistryError, Revision, Versioned, View, Write};

/// The longest file that is read into memory.
const FILE_BYTES_MAX: u64 = TOTAL_BYTES_MAX as u64;
/// A reader that meets this many commits in a row takes what it has: it is one moment's view of
/// each file.
const READ_TRIES_MAX: u32 = 64;

const KEPT: &str = "kept";
const LEASED: &str = "leased";

/// Whether a registry makes files of this name, or did in earlier versions.
pub(super) fn is_ours(name: &str) -> bool {
    [KEPT, LEASED, "kept.new", "leased.new"].contains(&name) || lock::is_ours(name)
}

/// Whether a rename to this name changes what readers see.
pub(super) fn is_table(name: &std::ffi::OsStr) -> bool {
    name == KEPT || name == LEASED
}

/// Both files at one moment.
#[derive(Clone, Debug)]
pub(super) struct Content {
    kept: Table,
    leased: Table,
    now: Now,
}

impl Content {
    fn revision(&self) -> Revision {
        self.kept.revision.max(self.leased.revision)
    }

    /// The last write of each key, deleted and expired ones left out.
    fn live(&self) -> BTreeMap<&str, &Entry> {
        let mut newest: BTreeMap<&str, &Entry> = BTreeMap::new();
        for (key, entry) in self.kept.entries.iter().chain(&self.leased.entries) {
            let held = newest.entry(key).or_insert(entry);
            if held.revision < entry.revision {
                *held = entry;
            }
        }
        newest.retain(|_, entry| entry.is_live(self.now));
        newest
    }

    /// The live keys that begin so.
    pub(super) fn view(&self, prefix: &str) -> View {
        let begins = self.live().into_iter().filter(|(key, _)| key.starts_with(prefix));
        let keys = begins.filter_map(|(key, entry)| {
            let value = entry.value.clone()?;
            Some((key.to_owned(), Versioned { value, revision: entry.revision }))
        });
        View { revision: self.revision(), keys: keys.collect() }
    }

    /// How long until the next key under this prefix ends.
    pub(super) fn next_expiry(&self, prefix: &str) -> Option<Duration> {
        let live = self.live().into_iter().filter(|(key, _)| key.starts_with(prefix));
        let at_ms = live.filter_map(|(_, entry)| Some(entry.expiry?.at_ms)).min()?;
        Some(Duration::from_millis(at_ms.saturating_sub(self.now.ms)))
    }
}

/// Both files at one moment, without a lock: `leased` was current while `kept` was read.
pub(super) fn read(dir: &Path) -> Result<Content, RegistryError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let leased = open_table(dir, LEASED)?;
        let kept = open_table(dir, KEPT)?;
        // An open file keeps its inode, so the same inode under the name is the same file.
        let current = std::fs::metadata(dir.join(LEASED)).ok().map(|m| m.ino());
        if current != leased.as_ref().map(|(_, inode)| *inode) && tries < READ_TRIES_MAX {
            continue;
        }
        let now = Now::read().map_err(|why| unavailable(dir, why))?;
        let kept = kept.map_or_else(|| Ok(Table::default()), |(file, _)| load(dir, KEPT, file))?;
        let leased = match leased.map(|(file, _)| load(dir, LEASED, file)) {
            None => Table::default(),
            Some(Ok(table)) => table,
            // It is never synced, so a power cut may leave anything; its keys ended with that boot.
            Some(Err(why)) => {
                tracing::warn!("{why}; its keys come back as their writers renew them");
                Table::default()
            }
        };
        return Ok(Content { kept, leased, now });
    }
}

fn open_table(dir: &Path, name: &str) -> Result<Option<(File, u64)>, RegistryError> {
    let cannot = |why: std::io::Error| unavailable(dir, format!("cannot read `{name}`: {why}"));
    match File::open(dir.join(name)) {
        Ok(file) => {
            let inode = file.metadata().map_err(cannot)?.ino();
            Ok(Some((file, inode)))
        }
        // No file yet, or no directory any more: the latter is no empty registry.
        Err(why) if why.kind() == ErrorKind::NotFound && dir.join(super::MARKER).exists() => {
            Ok(None)
        }
        Err(why) => Err(cannot(why)),
    }
}

fn load(dir: &Path, name: &str, file: File) -> Result<Table, RegistryError> {
    let length = file.metadata().map(|meta| meta.len().min(FILE_BYTES_MAX)).unwrap_or(0);
    // Room for all of it and a byte more, so that its end is met by one more read.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|why| unavailable(dir, format!("cannot read `{name}`: {why}")))?;
    Table::decode(&bytes).map_err(|why| {
        unavailable(dir, format!("`{name}` cannot be used, {why}. It was left as it is"))
    })
}

/// A commit, in its turn; `None` if the turn was taken away: nothing was written.
pub(super) fn commit(
    dir: &Path,
    ticket: &Ticket,
    expect: &[Expect],
    writes: &[Write],
) -> Result<Option<Outcome>, RegistryError> {
    stop_here("registry-stop-before-read");
    let content = read(dir)?;
    let live = content.live();
    let holds = |e: &Expect| {
        let held = live.get(e.key.as_str());
        held.map(|entry| entry.revision) == e.revision
            && (e.value.is_none()
                || held.and_then(|entry| entry.value.as_ref()) == e.value.as_ref())
    };
    if !expect.iter().all(holds) {
        return Ok(Some(Outcome::Conflict));
    }
    if writes.is_empty() {
        return Ok(Some(Outcome::Committed(content.revision())));
    }
    if live.len() + writes.len() > KEYS_MAX {
        return Err(RegistryError::Unusable(format!(
            "the registry has {} keys, and holds at most {KEYS_MAX}; nothing was written",
            live.len()
        )));
    }
    let revision = Revision(content.revision().0 + 1);
    let stays = |w: &Write| {
        let held = live.get(w.key.as_str());
        w.value.is_some() && w.ttl.is_none() || held.is_some_and(|entry| entry.expiry.is_none())
    };
    let durable = writes.iter().any(stays);
    let (ours, other) = match durable {
        true => (&content.kept, &content.leased),
        false => (&content.leased, &content.kept),
    };
    let newer_elsewhere = |key: &str, entry: &Entry| {
        other.entries.get(key).is_some_and(|held| held.revision > entry.revision)
    };
    let mut table = Table { revision, entries: BTreeMap::new() };
    for (key, entry) in &ours.entries {
        // A deletion is dropped once the other file has nothing that it hides.
        let hides = other.entries.contains_key(key);
        if !newer_elsewhere(key, entry) && (entry.is_live(content.now) || hides) {
            table.entries.insert(key.clone(), entry.clone());
        }
    }
    for write in writes {
        let expiry = write.ttl.map(|ttl| content.now.after(ttl));
        let entry = Entry { revision, expiry, value: write.value.clone() };
        match write.value.is_some() || other.entries.contains_key(&write.key) {
            true => table.entries.insert(write.key.clone(), entry),
            false => table.entries.remove(&write.key),
        };
    }
    if durable && ops::failpoint::hit("registry-silent") {
        return Err(unavailable(dir, "it is silent: a failpoint"));
    }
    let published = replace(dir, ticket, &table, durable).map_err(|why| {
        unavailable(dir, format!("writing failed ({why}): whether it was committed must be read"))
    })?;
    if !published {
        return Ok(None);
    }
    stop_here("registry-stop-after-rename");
    if durable && ops::failpoint::hit("registry-answer-lost") {
        return Err(unavailable(dir, "its answer was lost: a failpoint"));
    }
    Ok(Some(Outcome::Committed(revision)))
}

/// Fills the ticket and publishes it; `false` if it was taken away.
fn replace(dir: &Path, ticket: &Ticket, table: &Table, durable: bool) -> std::io::Result<bool> {
    (&ticket.file).write_all(&table.encode())?;
    if durable {
        ticket.file.sync_all()?;
        if ops::failpoint::hit("registry-die-before-rename") {
            std::process::abort();
        }
    }
    stop_here("registry-stop-before-rename");
    if !ticket.publish(dir, if durable { KEPT } else { LEASED })? {
        return Ok(false);
    }
    if !durable {
        return Ok(true);
    }
    if ops::failpoint::hit("registry-die-after-rename") {
        std::process::abort();
    }
    sync_dir(dir).map(|()| true)
}

/// Stops this process as SIGSTOP from outside would, if a test asks for it here.
#[allow(clippy::disallowed_methods)] // a blocking thread, and only where a test stops it
fn stop_here(failpoint: &str) {
    /// The signal may be taken by another thread first; this one stops a moment later.
    const TAKES: Duration = Duration::from_millis(100);
    if ops::failpoint::hit(failpoint) {
        use rustix::process::{Signal, getpid, kill_process};
        let _ = kill_process(getpid(), Signal::STOP);
        std::thread::sleep(TAKES);
    }
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
