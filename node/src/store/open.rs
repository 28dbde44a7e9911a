//! Opening the database.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use admin::{Adopt, Applied, Intent, Reclaimed};
use arc_swap::ArcSwap;
use keyspace::{Cf, HlcClock, system};
use rocksdb::{DB, WriteBatch};
use topology::ShardName;
use topology::members::Role;
use wal::batch::BatchRef;
use wal::history::TimelineStart;
use wal::{History, Kind, Position, Sequence, Tag, TimelineId};

use super::dir::{DirError, NodeDir, read_bounded, sync_dir};
use super::pressure::Pressure;
use super::save::Saves;
use super::state::{Found, NodeState, Standing, Until};
use super::wall::Wall;
use super::{Identity, Order, Reads, Reclaim, Store, StoreOptions, intact, load, options};

/// Why a database was not opened. No data was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// It is somebody else's, or not what this version can run.
    #[error("the database {db} is refused: {why}")]
    Refused {
        /// Its directory.
        db: String,
        /// In words.
        why: String,
    },
    /// RocksDB does not open it.
    #[error(
        "RocksDB cannot open the database {db}: {why}; nothing was changed, look at its LOG file"
    )]
    Rocksdb {
        /// Its directory.
        db: String,
        /// What RocksDB says.
        why: rocksdb::Error,
    },
    /// The first batches cannot be written.
    #[error("the database {db} was opened and cannot be written: {why}")]
    Start {
        /// Its directory.
        db: String,
        /// What the log says.
        why: super::CommitError,
    },
}

impl Store {
    /// Opens the database of a directory for its owner (a service and a shard), or for nobody.
    ///
    /// Before anything else is written a timeline is started, synced. Writing is closed until
    /// control opens it, but for a node without a service.
    pub fn open(
        dir: &NodeDir,
        owner: Option<&(String, ShardName)>,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        // Without this a database that a failed swap moved aside would be taken for none.
        dir.finish_swap()?;
        let path = dir.db();
        let name = || path.display().to_string();
        let refused = |why: String| OpenError::Refused { db: name(), why };
        let existed = path.join("CURRENT").exists();
        let identity = match Identity::read(&path)? {
            Some(identity) => identity,
            None if existed && !path.join(Adopt::FILE).exists() => {
                return Err(refused(
                    "there is a RocksDB database without the file GODWIT: another program's, or a \
                     copy that was cut short"
                        .to_owned(),
                ));
            }
            None => {
                let created = std::fs::create_dir_all(&path);
                created.map_err(|why| super::dir::io("creating", &path, why))?;
                let identity = Identity::new(owner);
                identity.write(&path)?;
                identity
            }
        };
        identity.check(owner).map_err(refused)?;
        let adopt = read_adopt(&path)?;
        if owner.is_none() && adopt.as_ref().is_some_and(|adopt| adopt.follow.is_some()) {
            return Err(refused(
                "it is to follow a shard of a service: start the node with --registry, --service, \
                 --cluster and --shard"
                    .to_owned(),
            ));
        }
        if existed {
            intact::check(&path).map_err(refused)?;
        }
        let rocksdb = |why| OpenError::Rocksdb { db: name(), why };
        let reclaim = Arc::new(Reclaim::default());
        let families = options.families(&reclaim);
        let db = DB::open_cf_descriptors(&options.database(), &path, families).map_err(rocksdb)?;
        options::verify(&path).map_err(refused)?;
        check_families(&db).map_err(refused)?;
        let found = Found::read(&db).map_err(refused)?;
        let unfinished = found.load.clone().filter(|_| adopt.is_none());
        let store = Self::start((db, reclaim), &path, identity, owner, options, found, adopt)
            .map_err(|why| OpenError::Start { db: name(), why })?;
        remove_adopt(&path)?;
        dir.drop_old()?;
        let announced = |intent: &Intent| store.history().position_of(intent.end);
        let finished = unfinished.as_ref().map(|intent| (intent, announced(intent)));
        load::tidy(&dir.loads(), finished, owner.is_some());
        Ok(store)
    }

    /// Installs what was adopted and starts a timeline, in one synced batch.
    fn start(
        (db, reclaim): (DB, Arc<Reclaim>),
        path: &Path,
        identity: Identity,
        owner: Option<&(String, ShardName)>,
        options: StoreOptions,
        found: Found,
        adopt: Option<Adopt>,
    ) -> Result<Self, super::CommitError> {
        let unfinished = found.load.filter(|_| adopt.is_none());
        if let Some(intent) = &unfinished {
            tracing::warn!(load = intent.id, "a load was cut short: finishing it");
            load::take_in(&db, &load::loads_beside(path), intent)
                .map_err(|why| super::CommitError::Load { id: intent.id.clone(), why })?;
        }
        let recovered = Sequence(db.latest_sequence_number());
        // What was applied was seen, whether or not the clock's bound survived with it.
        let applied = found.applied.values().map(|applied| applied.stamp);
        let mut floor = found.clock.max(applied.max().unwrap_or_default());
        let mut reclaimed = found.reclaimed;
        // What a load consumed belongs to no batch.
        let ended = unfinished.as_ref().map_or(recovered, |intent| intent.end);
        floor = floor.max(unfinished.as_ref().map_or(floor, |intent| intent.stamp));
        let mut strangers = Vec::new();
        let (mut history, mut state) = match adopt {
            None => {
                let home = if owner.is_some() { Role::Unknown } else { Role::Standalone };
                let standing = found.standing.unwrap_or(Standing::new(home));
                (found.history, NodeState { standing, applied: found.applied })
            }
            Some(adopt) => {
                floor = floor.max(adopt.stamp);
                strangers = found.keys;
                reclaimed = Reclaimed { horizon_ms: reclaimed.horizon_ms, ..Reclaimed::default() };
                // What was loaded came with the data.
                strangers.retain(|key| system::loaded_id(key).is_none());
                (History::default(), adopted(adopt, owner.is_some()))
            }
        };
        let parents: Vec<Position> = history.position_of(ended).into_iter().collect();
        // A freeze by hand ends with its process.
        if state.standing.role == Role::Standalone {
            state.standing.ended = None;
        }
        // A primary that did not say goodbye: what was recovered is the end of what it wrote.
        let standing = &mut state.standing;
        // It keeps the first such end: only timeline starts were written since.
        if standing.role == Role::Primary && standing.own_end.is_none() {
            let ended = standing.ended.map(|(_, position)| position);
            standing.own_end = ended.or(parents.first().copied());
            standing.local_until = Some(recovered);
        }
        let start = TimelineStart {
            timeline: TimelineId(rand::random()),
            first: recovered.next(),
            parents,
            epoch: standing.epoch.0,
        };
        history.push(start);
        reclaim.restore(reclaimed);
        let store = Self {
            db: Arc::new(db),
            path: path.to_owned(),
            identity,
            options,
            reads: Reads::default(),
            origin: owner.map_or(0, |(_, shard)| Tag::origin_of(&shard.cluster)),
            epoch: AtomicU64::new(standing.epoch.0),
            clock: HlcClock::above(floor),
            wall: Wall::start(),
            clock_bound: AtomicU64::new(0),
            reclaim,
            order: Mutex::new(Order { open: standing.role == Role::Standalone }),
            history: ArcSwap::from_pointee(history.clone()),
            state: ArcSwap::from_pointee(NodeState {
                standing: standing.clone(),
                applied: Default::default(),
            }),
            synced: AtomicU64::new(0),
            generation: AtomicU64::new(super::next_generation()),
            commits: AtomicU64::new(0),
            written: AtomicU64::new(0),
            moved: AtomicU64::new(super::boot_ms()),
            syncing: Mutex::default(),
            pressure: Pressure::default(),
            saves: Saves::at_open(),
            latched: AtomicBool::new(false),
        };
        {
            let mut exclusive = store.exclusive();
            exclusive.begin(strangers, unfinished, history, state)?;
        }
        Ok(store)
    }
}

impl super::Exclusive<'_> {
    /// The first batch after an open.
    fn begin(
        &mut self,
        strangers: Vec<Vec<u8>>,
        unfinished: Option<Intent>,
        history: History,
        state: NodeState,
    ) -> Result<(), super::CommitError> {
        let mut batch = WriteBatch::default();
        for key in strangers {
            batch.delete_cf(self.family(Cf::System), key);
        }
        if let Some(intent) = unfinished {
            let stamp = self.store.stamp();
            self.store.put_done(&mut batch, &intent, stamp)?;
            let tag = self.store.tag(Kind::Loaded, stamp, intent.marker());
            batch.put_log_data(tag.encode());
        }
        self.start_timeline_in(batch, history, state).map(drop)
    }
}

/// The state of a directory that came from elsewhere.
fn adopted(adopt: Adopt, in_service: bool) -> NodeState {
    let Some(follow) = adopt.follow else {
        let role = if in_service { Role::Unknown } else { Role::Standalone };
        return NodeState { standing: Standing::new(role), applied: Default::default() };
    };
    let whole = follow.position.sequence >= follow.until;
    let until = Until { source: follow.source.clone(), sequence: Some(follow.until) };
    let standing = Standing {
        role: if whole { Role::Standby } else { Role::Seeding },
        epoch: follow.epoch,
        until: (!whole).then_some(until),
        ..Standing::new(Role::Seeding)
    };
    let applied = Applied {
        position: follow.position,
        log_chain: follow.log_chain,
        stream_chain: follow.stream_chain,
        stamp: adopt.stamp,
        epoch: follow.epoch,
        ended: None,
    };
    NodeState { standing, applied: [(follow.source, applied)].into() }
}

fn read_adopt(db: &Path) -> Result<Option<Adopt>, DirError> {
    let path = db.join(Adopt::FILE);
    let Some(bytes) = read_bounded(&path, Adopt::BYTES_MAX)? else { return Ok(None) };
    let damaged = |why| DirError::Damaged { path: path.display().to_string(), why };
    Adopt::parse(&bytes).map(Some).map_err(damaged)
}

fn remove_adopt(db: &Path) -> Result<(), DirError> {
    match std::fs::remove_file(db.join(Adopt::FILE)) {
        Ok(()) => sync_dir(db),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(super::dir::io("removing", &db.join(Adopt::FILE), why)),
    }
}

/// Batches name column families by id, so the ids must be those that every node has. A batch that
/// is never written shows them.
fn check_families(db: &DB) -> Result<(), String> {
    for cf in Cf::ALL {
        let handle = db.cf_handle(cf.name()).ok_or(format!("it has no family `{}`", cf.name()))?;
        let mut batch = WriteBatch::default();
        batch.put_cf(handle, system::CLOCK, b"");
        let parsed = BatchRef::parse(batch.data()).map_err(|why| why.to_string())?;
        if !parsed.touches(cf) {
            return Err(format!("its column family `{}` has not the id {}", cf.name(), cf.id()));
        }
    }
    Ok(())
}

/// Reads where a copy of a node's database stands, without changing it.
pub fn read_copy(
    path: &Path,
    options: &StoreOptions,
) -> Result<(Sequence, History, BTreeMap<ShardName, Applied>), String> {
    let mut opts = options.database();
    opts.create_if_missing(false);
    let names = Cf::ALL.map(Cf::name);
    let db = DB::open_cf_for_read_only(&opts, path, names, false).map_err(|why| why.to_string())?;
    let found = Found::read(&db)?;
    Ok((Sequence(db.latest_sequence_number()), found.history, found.applied))
}
