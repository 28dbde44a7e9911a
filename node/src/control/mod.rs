//! Who may write, what comes from elsewhere, and the admin listener.
//!
//! [`Authority`] is what workers ask for each command: atomics only. [`Control`] changes it, one
//! change at a time: it makes the node what the record says ([`roles`](self)), applies frames,
//! swaps directories, rewinds, digests. [`Steward`] watches the registry, renews the lease and
//! publishes the node's key; [`listener`] answers control commands.

mod activate;
mod agreed;
mod apply;
mod authority;
mod checkpoint;
mod digest;
mod dispatch;
mod export;
mod fault;
mod guard;
mod lease;
pub mod listener;
mod load;
mod promises;
mod publish;
mod ranges;
mod reclaim;
mod records;
mod refusal;
mod repair;
mod replay;
mod rewind;
mod roles;
mod seed;
mod slice;
mod slots;
mod status;
mod steward;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use topology::record::UnixMs;
use topology::{Epoch, FreezeId, Record, Revision, ShardName};
use wal::TimelineId;

use crate::store::{Current, NodeDir, OpenError, Store, StoreOptions, clear_dead_drills};

pub use authority::{Authority, Mode, Permit};
pub use fault::Fault;
pub(crate) use guard::Guard;
pub use refusal::Refusal;
pub use steward::{Announce, Steward};

/// How long a swap of the database waits for whoever still reads it.
const SWAP_PATIENCE: Duration = Duration::from_secs(10);

/// Parks whoever writes, between two batches, until what it gives is dropped.
pub trait Quiesce: Send + Sync + 'static {
    /// Blocks until all stand.
    fn pause(&self) -> Box<dyn Parked>;

    /// Any key may have changed beside them; they are parked.
    fn changed_outside(&self);

    /// The events that clients are told (`notify-keyspace-events`).
    fn notices(&self) -> String {
        String::new()
    }

    /// The users that this database has may be others than before.
    fn users_changed(&self, _store: &Store) {}

    /// The node is a primary: its users become those of its service, if they are not yet.
    fn bring_users(&self) {}
}

/// Holding it keeps writers parked.
pub trait Parked {}
impl<T> Parked for T {}

impl Quiesce for crate::worker::Workers {
    fn pause(&self) -> Box<dyn Parked> {
        Box::new(crate::worker::Workers::pause(self))
    }

    fn changed_outside(&self) {
        crate::worker::Workers::changed_outside(self);
    }

    fn notices(&self) -> String {
        self.listeners().classes().letters()
    }

    fn users_changed(&self, store: &Store) {
        if let Some(herald) = self.listeners().herald() {
            herald.users_changed(store);
        }
    }

    fn bring_users(&self) {
        if let Some(herald) = self.listeners().herald() {
            herald.bring_users();
        }
    }
}

/// What control shares. Cheap to clone. With a timeline it finds the database only while the node's log
/// is on that one.
#[derive(Clone)]
pub struct Control(Arc<Shared>, Option<TimelineId>);

struct Shared {
    dir: NodeDir,
    /// The service and the shard, for a node that has one.
    owner: Option<(String, ShardName)>,
    options: StoreOptions,
    current: Current,
    authority: Authority,
    workers: Box<dyn Quiesce>,
    /// Held for each change, so that there is one at a time.
    turn: Mutex<Turn>,
    /// What the last change left, for those who do not wait for the next: a change may take as long
    /// as RocksDB holds its writes up.
    told: ArcSwap<Told>,
    digests: digest::Digests,
    /// What this node's sidecar says of its followers.
    streams: ArcSwap<reclaim::Streams>,
    announced: Mutex<reclaim::Announced>,
    /// Held to take in a load, so that no checkpoint shows half of it; taken after the turn.
    checkpoints: RwLock<()>,
    /// One load is brought at a time.
    loading: Mutex<()>,
    exports: ranges::Exports,
    /// What this node promises as a standby, and asks as a primary, while the registry is silent.
    promises: promises::Keeper,
    /// Why the registry did not renew the lease, as last said.
    unrenewed: Mutex<String>,
    /// What was last said about a database that cannot be opened again.
    trouble: Mutex<String>,
    /// Something changed that the node's key should say.
    changed: Notify,
    /// The record was acted upon: there may be a lease to renew.
    obeyed: Notify,
    /// The database was opened again.
    reopened: Notify,
    /// No change begins any more.
    closing: AtomicBool,
}

/// What changes are decided by.
#[derive(Debug)]
struct Turn {
    fence: Epoch,
    /// The record that was last acted upon.
    record: Option<(Record, Revision)>,
    /// A freeze by hand, on a node without a service.
    manual: Option<(FreezeId, UnixMs)>,
    /// What was last said about the role, so that it is said once.
    said: String,
    /// A database that failed is not looked at again before this.
    reopen_at: Option<Instant>,
    /// It is not opened again before this for background jobs that failed.
    mend_at: Option<Instant>,
}

/// What others may know of the [`Turn`].
#[derive(Clone, Debug, Default)]
struct Told {
    fence: Epoch,
    record: Option<(Record, Revision)>,
    manual: Option<(FreezeId, UnixMs)>,
}

impl Turn {
    fn told(&self) -> Told {
        Told { fence: self.fence, record: self.record.clone(), manual: self.manual }
    }
}

impl Control {
    /// Opens the database of a locked directory; the fence is read first.
    ///
    /// Nobody writes until [`Control::obey`] or, without a service, at once. `peer_promises`: whether it asks
    /// for promises while the registry is silent, and gives any.
    pub fn open(
        dir: NodeDir,
        owner: Option<(String, ShardName)>,
        options: StoreOptions,
        peer_promises: bool,
    ) -> Result<Opened, OpenError> {
        let fence = dir.fence()?;
        clear_dead_drills(&dir.checkpoints());
        dir.drop_activation()?;
        let store = Store::open(&dir, owner.as_ref(), options)?;
        let promises = promises::Keeper::open(&dir, peer_promises, store.epoch())?;
        let authority = match owner {
            Some(_) => Authority::unknown(),
            None => Authority::standalone(),
        };
        let current = Current::new(Arc::new(store));
        Ok(Opened { dir, owner, options, fence, current, authority, promises })
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // Each change ends in a synced batch or not at all, so a panic leaves nothing half done.
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others know what a change of the turn's own facts left.
    fn tell(&self, turn: &Turn) {
        self.0.told.store(Arc::new(turn.told()));
    }

    /// The store, or the fault to answer with while there is none.
    ///
    /// Who changes something asks for it with the turn, so that no swap comes in between.
    fn store(&self) -> Result<Arc<Store>, Fault> {
        let store = self.0.current.load().ok_or_else(Fault::swapping)?;
        match self.1.filter(|meant| *meant != store.position().timeline) {
            Some(meant) => Err(Fault::other_database(meant, &store)),
            None => Ok(store),
        }
    }

    /// The same, for what was decided while its log was on this timeline.
    fn on(&self, timeline: TimelineId) -> Self {
        Self(self.0.clone(), Some(timeline))
    }

    /// What workers ask.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Where the store is.
    pub fn current(&self) -> &Current {
        &self.0.current
    }

    /// Whether the node belongs to a service.
    fn has_service(&self) -> bool {
        self.0.owner.is_some()
    }

    fn shard(&self) -> Option<&ShardName> {
        self.0.owner.as_ref().map(|(_, shard)| shard)
    }

    /// Ends digests, syncs the log and closes the database, once nobody uses it. The directory
    /// stays locked until the last clone is gone.
    pub fn close(&self) -> Result<(), Fault> {
        self.0.closing.store(true, Ordering::Release);
        let _turn = self.turn();
        self.0.digests.clear();
        self.0.exports.stop();
        if let Some(store) = self.0.current.load() {
            store.sync()?;
        }
        match self.0.current.take(SWAP_PATIENCE) {
            Some(store) => drop(store),
            None => tracing::warn!("the database is in use at shutdown; its log is synced"),
        }
        Ok(())
    }
}

/// A panic while one of control's notes was held leaves it as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory opened, before its workers have been started.
#[derive(Debug)]
pub struct Opened {
    dir: NodeDir,
    owner: Option<(String, ShardName)>,
    options: StoreOptions,
    fence: Epoch,
    current: Current,
    authority: Authority,
    promises: promises::Keeper,
}

impl Opened {
    /// Where the store is, for workers.
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// What workers ask.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Control over it, with these workers.
    pub fn control(self, workers: impl Quiesce) -> Control {
        let turn = Turn {
            fence: self.fence,
            record: None,
            manual: None,
            said: String::new(),
            reopen_at: None,
            mend_at: None,
        };
        let shared = Shared {
            dir: self.dir,
            owner: self.owner,
            options: self.options,
            current: self.current,
            authority: self.authority,
            workers: Box::new(workers),
            told: ArcSwap::from_pointee(turn.told()),
            turn: Mutex::new(turn),
            digests: digest::Digests::default(),
            streams: ArcSwap::default(),
            announced: Mutex::default(),
            checkpoints: RwLock::default(),
            loading: Mutex::default(),
            exports: ranges::Exports::default(),
            promises: self.promises,
            unrenewed: Mutex::default(),
            trouble: Mutex::default(),
            changed: Notify::new(),
            obeyed: Notify::new(),
            reopened: Notify::new(),
            closing: AtomicBool::new(false),
        };
        Control(Arc::new(shared), None)
    }
}
