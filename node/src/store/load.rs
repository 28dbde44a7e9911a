//! Taking in a load: files of records that do not pass through the log.
//!
//! The log says twice that it happens. An *intent* batch, synced, names what will be done; from then
//! on the load is part of the log, and an open finishes it that finds no more than the intent. A
//! *done* batch follows, which says what sequences RocksDB used for it. Nothing else is written
//! between the two.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use ::store::load::Family;
use admin::{Applied, Intent, Loaded, Taken};
use keyspace::{Cf, Hlc, system};
use rocksdb::{DB, IngestExternalFileOptions, IteratorMode, WriteBatch};
use topology::ShardName;
use wal::{Consumed, Kind, Position, Sequence};

use super::commit::Pace;
use super::dir::{fail_here, sync_dir};
use super::state::{json, put, put_standing};
use super::{CommitError, Exclusive, Standing, Store};

/// Where the files of an intent are linked to, for RocksDB to move them from.
const LINKS: &str = "in";

/// How far a source is, for a load that came from it.
#[derive(Clone, Debug)]
pub struct Following {
    /// The source.
    pub source: ShardName,
    /// What is applied of it with the load.
    pub applied: Applied,
    /// What the node is from there on, if that changes.
    pub standing: Option<Standing>,
}

impl Store {
    /// The directory of loads beside the database.
    pub fn loads(&self) -> PathBuf {
        loads_beside(&self.path)
    }

    /// What is remembered of the load of this id.
    pub fn loaded(&self, id: &str) -> Result<Option<Loaded>, rocksdb::Error> {
        let found = self.db.get_cf(self.cf(Cf::System), system::loaded(id))?;
        Ok(found.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// The id of another load that had this stamp.
    pub fn loaded_with(&self, stamp: Hlc, id: &str) -> Result<Option<String>, rocksdb::Error> {
        for entry in self.db.iterator_cf(self.cf(Cf::System), IteratorMode::Start) {
            let (key, value) = entry?;
            let Some(other) = system::loaded_id(&key).filter(|other| *other != id) else {
                continue;
            };
            let loaded = serde_json::from_slice::<Loaded>(&value);
            if loaded.is_ok_and(|loaded| loaded.stamp == stamp) {
                return Ok(Some(other.to_owned()));
            }
        }
        Ok(None)
    }

    /// What a done batch says: the load is in the tree, and what that consumed.
    pub(super) fn put_done(
        &self,
        batch: &mut WriteBatch,
        intent: &Intent,
        stamp: Hlc,
    ) -> Result<(), CommitError> {
        let now = Sequence(self.db.latest_sequence_number());
        let failed = |why: String| CommitError::Load { id: intent.id.clone(), why };
        let consumed = Consumed::between(intent.end, now).ok_or_else(|| {
            failed(format!("it consumed the sequences from {} to {now}", intent.end))
        })?;
        let system = self.cf(Cf::System);
        batch.delete_cf(system, system::LOAD);
        batch.put_cf(system, system::CONSUMED, consumed.encode());
        if intent.seed {
            return Ok(());
        }
        let before = self.loaded(&intent.id).map_err(|why| failed(why.to_string()))?;
        let slots = before.map_or(intent.slots.clone(), |before| intent.slots.union(&before.slots));
        let loaded = Loaded { stamp: intent.stamp, slots, at: stamp };
        put(self, batch, &system::loaded(&intent.id), &loaded);
        Ok(())
    }
}

impl Exclusive<'_> {
    /// Whether commands of clients may be committed.
    pub fn is_open(&self) -> bool {
        self.order.open
    }

    /// Takes in the files of `intent` (its `end` is set here), with how far the source is that they
    /// came from. The files must have been checked, and be on disk.
    ///
    /// After an error that is no [`CommitError::Latched`] the load may be half done: nothing is
    /// written until the database has been opened again, and the open finishes it.
    pub fn load(
        &mut self,
        intent: &mut Intent,
        following: Option<Following>,
    ) -> Result<Position, CommitError> {
        let mut batch = WriteBatch::default();
        let mut state = super::NodeState::clone(&self.store.state());
        if let Some(Following { source, applied, standing }) = following {
            state.applied.insert(source.clone(), applied);
            state.put_one(self.store, &mut batch, &source);
            if let Some(standing) = standing {
                put_standing(self.store, &mut batch, &standing);
                state.standing = standing;
            }
        }
        self.load_in(batch, intent, state)
    }

    /// Announces `intent` in this batch, with what the node is from there on, and takes it in.
    pub(super) fn load_in(
        &mut self,
        mut batch: WriteBatch,
        intent: &mut Intent,
        state: super::NodeState,
    ) -> Result<Position, CommitError> {
        let store = self.store;
        store.clock.observe(intent.stamp);
        intent.end = self.end_of(batch.len() as u64 + 1).sequence;
        put(store, &mut batch, system::LOAD, &*intent);
        let end = self.mark(batch, Kind::Load, intent.marker())?;
        store.state.store(state.into());
        if end.sequence != intent.end {
            return Err(self.half_done(intent, format!("its intent ended at {}", end.sequence)));
        }
        note_taken(&store.loads().join(&intent.dir), end);
        fail_here("load-after-intent");
        // The versions of its records may be older than a view that does not name them yet.
        store.reclaim().forget();
        let taken = take_in(&store.db, &store.loads(), intent);
        store.changed_outside();
        taken.map_err(|why| self.half_done(intent, why))?;
        fail_here("load-before-done");
        let mut batch = WriteBatch::default();
        let stamp = store.stamp();
        store
            .put_done(&mut batch, intent, stamp)
            .map_err(|why| self.half_done(intent, why.to_string()))?;
        let end = self.mark(batch, Kind::Loaded, intent.marker())?;
        fail_here("load-after-done");
        Ok(end)
    }

    /// Goes on in a source's log past a load that is here already, or of which nothing is for here.
    pub fn follow_on(&mut self, following: Following) -> Result<(), CommitError> {
        let tag = self.store.tag(Kind::Data, self.store.stamp(), 0);
        self.apply_or(WriteBatch::default(), &tag, following, Pace::Wait)
    }

    fn half_done(&self, intent: &Intent, why: String) -> CommitError {
        self.store.latched.store(true, Ordering::Release);
        tracing::error!(
            load = intent.id,
            "taking in a load failed: {why}; the database is opened again, which finishes it"
        );
        CommitError::Load { id: intent.id.clone(), why }
    }
}

/// The directory of loads of the node whose database this is.
pub(super) fn loads_beside(db: &Path) -> PathBuf {
    db.parent().unwrap_or(Path::new("/")).join(Intent::DIR)
}

/// Says beside the files where the log announced them: a sidecar keeps them for its followers.
fn note_taken(dir: &Path, position: Position) {
    let bytes = serde_json::to_vec(&Taken { position }).expect("a position has a JSON form");
    if let Err(why) = std::fs::write(dir.join(Intent::TAKEN), bytes) {
        tracing::warn!(
            "writing {} failed: {why}; the files of the load stay until they are removed by hand",
            dir.display()
        );
    }
}

/// After an open, of whose load nothing is left to do: removes what nobody needs any more.
pub(super) fn tidy(loads: &Path, finished: Option<(&Intent, Option<Position>)>, followed: bool) {
    let received = finished.filter(|(intent, _)| intent.dir.starts_with(Intent::RECEIVED));
    match (finished, received) {
        (_, Some((intent, _))) => discard(&loads.join(&intent.dir)),
        (Some((intent, Some(position))), None) => note_taken(&loads.join(&intent.dir), position),
        _ => {}
    }
    let Ok(entries) = std::fs::read_dir(loads) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name() != Intent::RECEIVED) {
        if !followed || !entry.path().join(Intent::TAKEN).exists() {
            discard(&entry.path());
        }
    }
}

fn discard(dir: &Path) {
    if let Err(why) = std::fs::remove_dir_all(dir) {
        tracing::warn!("removing {} failed: {why}; it may be removed by hand", dir.display());
    }
}

/// Has RocksDB take in the files, family after family. May be done again.
pub(super) fn take_in(db: &DB, loads: &Path, intent: &Intent) -> Result<(), String> {
    let dir = loads.join(&intent.dir);
    let links = dir.join(LINKS);
    let io =
        |what: &str, path: &Path, why: std::io::Error| format!("{what} {}: {why}", path.display());
    clear(&links).map_err(|why| io("clearing", &links, why))?;
    std::fs::create_dir(&links).map_err(|why| io("creating", &links, why))?;
    let mut options = IngestExternalFileOptions::default();
    // A link, which goes when RocksDB has its own: the file stays for followers, and for an open
    // that has to do this again. RocksDB never writes into it.
    options.set_move_files(true);
    for family in Family::ALL {
        let mut paths = Vec::new();
        for (number, file) in intent.files_of(family.cf()).enumerate() {
            let (from, to) =
                (dir.join(file), links.join(format!("{}-{number}.sst", family.name())));
            std::fs::hard_link(&from, &to).map_err(|why| io("linking", &from, why))?;
            paths.push(to);
        }
        if paths.is_empty() {
            continue;
        }
        let cf = db.cf_handle(family.cf().name()).ok_or("a family is missing")?;
        db.ingest_external_file_cf_opts(cf, &options, paths).map_err(|why| why.to_string())?;
        fail_here("load-after-family");
    }
    clear(&links).map_err(|why| io("clearing", &links, why))?;
    sync_dir(&dir).map_err(|why| why.to_string())
}

fn clear(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Reads the intent of a load that was not finished.
pub(super) fn read_intent(value: &[u8]) -> Result<Intent, String> {
    json(system::LOAD, value)
}
