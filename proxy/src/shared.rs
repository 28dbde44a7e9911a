//! What the threads of one proxy share: the config, the routes, the clients by id, and how far each
//! thread has followed the routes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use ops::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use topology::{Epoch, FreezeId};

use crate::config::Config;
use crate::routes::Routes;
use crate::stats::Stats;

/// What `CLIENT LIST` says of a client.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) since: Instant,
}

/// How far one thread has followed the routes.
#[derive(Debug, Default)]
struct Progress {
    /// It routes by this version.
    follows: AtomicU64,
    /// By this version it held, with no write to a held primary unanswered.
    quiet: AtomicU64,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// What others are told to connect to.
    announce: String,
    pub(crate) stats: Stats,
    pub(crate) shutdown: Shutdown,
    /// The latest routes.
    pub(crate) routes: ArcSwap<Routes>,
    /// Says that there are new ones.
    changed: watch::Sender<u64>,
    progress: Vec<Progress>,
    /// A thread has come further.
    pub(crate) progressed: Notify,
    clients: Mutex<BTreeMap<u64, ClientInfo>>,
    next_client: AtomicU64,
    /// Bytes that clients hold while their next command waits; at most `hold-bytes`.
    pub(crate) held_bytes: AtomicUsize,
    /// 40 hexadecimal digits, as a Redis Cluster node has.
    pub(crate) node_id: String,
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        announce: String,
        stats: Stats,
        routes: Routes,
        shutdown: Shutdown,
    ) -> Self {
        let digits: [u8; 20] = rand::random();
        let node_id = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            progress: (0..config.threads).map(|_| Progress::default()).collect(),
            changed: watch::Sender::new(routes.version),
            routes: ArcSwap::from_pointee(routes),
            config,
            announce,
            stats,
            shutdown,
            progressed: Notify::new(),
            clients: Mutex::default(),
            next_client: AtomicU64::new(1),
            held_bytes: AtomicUsize::new(0),
            node_id,
            started: Instant::now(),
        }
    }

    /// What others are told to connect to.
    pub(crate) fn announce(&self) -> &str {
        &self.announce
    }

    /// Routes for all threads to follow.
    pub(crate) fn publish(&self, routes: Routes) {
        let version = routes.version;
        self.routes.store(Arc::new(routes));
        self.changed.send_replace(version);
    }

    /// Resolves when there are new routes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A thread routes by this version now.
    pub(crate) fn follows(&self, thread: usize, version: u64) {
        self.progress[thread].follows.store(version, Ordering::Release);
        self.progressed.notify_one();
    }

    /// A thread holds by this version, and no write to a held primary is unanswered.
    pub(crate) fn quiet(&self, thread: usize, version: u64) {
        if self.progress[thread].quiet.swap(version, Ordering::AcqRel) != version {
            self.progressed.notify_one();
        }
    }

    /// The epoch that every thread routes by, and the freeze that every thread holds for.
    pub(crate) fn acknowledged(&self) -> Option<(Epoch, Option<FreezeId>)> {
        let routes = self.routes.load();
        let all = |of: fn(&Progress) -> &AtomicU64| {
            self.progress.iter().all(|p| of(p).load(Ordering::Acquire) == routes.version)
        };
        if !all(|p| &p.follows) {
            return None;
        }
        Some((routes.epoch, routes.freeze.filter(|_| all(|p| &p.quiet))))
    }

    /// A new client.
    pub(crate) fn add_client(&self, address: String) -> u64 {
        let id = self.next_client.fetch_add(1, Ordering::Relaxed);
        let info = ClientInfo { address, name: String::new(), since: Instant::now() };
        self.clients(|clients| clients.insert(id, info));
        self.stats.clients.inc();
        id
    }

    /// A client has gone.
    pub(crate) fn remove_client(&self, id: u64) {
        self.clients(|clients| clients.remove(&id));
        self.stats.clients.dec();
    }

    /// Works on the clients by id.
    pub(crate) fn clients<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, ClientInfo>) -> T) -> T {
        work(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
