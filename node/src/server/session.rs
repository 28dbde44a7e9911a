//! What a connection has said of itself, and what all connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use ops::shutdown::Shutdown;
use resp::Version;
use resp::command::Limits;
use resp::reply::Writer;

use super::broker::{Broker, Kind};
use super::client::{Client, Clients};
use super::monitor::Monitors;
use super::pause::{self, Pause};
use super::pubsub::{self, Subscriptions};
use super::tracking::{self, Followers};
use super::transaction::Queued;
use crate::command::{Args, Fail, Handler, Spec};
use crate::control::Authority;
use crate::store::Current;
use crate::worker::{Sticky, Watch, WorkerSet, Workers};

/// What a handler on an I/O thread gets: the connection, the arguments, where its answer goes.
pub type SessionHandler = fn(&mut Session, &Args<'_>, &mut Vec<u8>) -> Result<(), Fail>;

/// Counters that INFO and the metrics show.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sockets accepted.
    pub connections_received: AtomicU64,
    /// Sockets turned away for `maxclients`.
    pub connections_rejected: AtomicU64,
    /// Commands taken from sockets.
    pub commands_processed: AtomicU64,
}

/// What all connections share.
pub struct Shared {
    /// Those who run commands.
    pub workers: Workers,
    /// What this node may do.
    pub authority: Authority,
    /// The database, for what INFO says of it.
    pub store: Current,
    /// Ends the node.
    pub shutdown: Shutdown,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Counters.
    pub stats: Stats,
    /// The most clients at once.
    pub clients_max: AtomicUsize,
    /// The longest argument in bytes.
    pub bulk_bytes_max: AtomicUsize,
    pub(super) clients: Clients,
    pub(super) broker: Broker,
    pub(super) followers: Followers,
    pub(super) monitors: Monitors,
    pub(super) pause: Pause,
    pub(super) started: Instant,
    pub(super) run_id: String,
}

impl Shared {
    /// With default limits, which CONFIG SET may change.
    pub fn new(
        workers: Workers,
        authority: Authority,
        store: Current,
        shutdown: Shutdown,
        address: SocketAddr,
    ) -> Self {
        const CLIENTS_MAX: usize = 10_000;
        Self {
            workers,
            authority,
            store,
            shutdown,
            address,
            stats: Stats::default(),
            clients_max: AtomicUsize::new(CLIENTS_MAX),
            bulk_bytes_max: AtomicUsize::new(Limits::default().bulk_bytes),
            clients: Clients::default(),
            broker: Broker::default(),
            followers: Followers::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            started: Instant::now(),
            run_id: format!("{:032x}{:08x}", rand::random::<u128>(), rand::random::<u32>()),
        }
    }

    /// How many clients are connected.
    pub fn clients_connected(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn limits(&self, base: &Limits) -> Limits {
        let bulk_bytes = self.bulk_bytes_max.load(std::sync::atomic::Ordering::Relaxed);
        Limits { bulk_bytes, ..base.clone() }
    }
}

/// Which answers a client wants (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyMode {
    On,
    Off,
    SkipNext,
}

/// One connection's state.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    pub(super) version: Version,
    pub(super) readonly: bool,
    pub(super) reply: ReplyMode,
    /// No more is read; the connection ends once everything is answered.
    pub(super) closing: bool,
    /// What is sent last, after all answers.
    pub(super) farewell: Option<Vec<u8>>,
    pub(super) sticky: Arc<Sticky>,
    /// What it is subscribed to.
    pub(super) subscriptions: Subscriptions,
    /// The commands since MULTI.
    pub(super) queued: Option<Box<Queued>>,
    /// What it watches, and whose keys those are.
    pub(super) watch: Option<(Arc<Watch>, WorkerSet)>,
    /// No more is parsed before everything is answered: what comes changes the connection.
    pub(super) barrier: bool,
    /// What everything waits for may wait for others itself (BLPOP).
    pub(super) waits: bool,
    /// Its next command waits for the end of a pause.
    pub(super) postponed: bool,
    /// It keeps copies of what it reads.
    pub(super) tracking: bool,
    /// It looks on.
    pub(super) monitoring: bool,
    holding: bool,
    holds: u32,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, peer: SocketAddr, local: String) -> Self {
        let client = shared.clients.add(peer, local);
        Self {
            shared,
            client,
            version: Version::V2,
            readonly: false,
            reply: ReplyMode::On,
            closing: false,
            farewell: None,
            sticky: Arc::default(),
            subscriptions: Subscriptions::default(),
            queued: None,
            watch: None,
            barrier: false,
            waits: false,
            postponed: false,
            tracking: false,
            monitoring: false,
            holding: false,
            holds: 1,
        }
    }

    /// Whether what it sends is kept for later: a command of it waits for others.
    pub(super) fn must_wait(&self) -> bool {
        self.waits || self.postponed
    }

    /// The number that refusals of the next command stick to; 0: they do not stick.
    pub(super) fn hold(&self) -> u32 {
        if self.holding { self.holds } else { 0 }
    }

    /// GODWIT.HOLD: refusals stick from now on.
    pub(super) fn begin_hold(&mut self) {
        self.holding = true;
    }

    /// GODWIT.RESUME: earlier refusals stick no more; later ones do, if it holds.
    pub(super) fn resume(&mut self) {
        self.holds = self.holds.saturating_add(1);
    }

    /// Runs a command whose turn has come after all that was before it, in the protocol of then.
    pub(super) fn answer_late(
        &mut self,
        spec: &Spec,
        args: &Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let (Handler::Late(handler) | Handler::Session(handler)) = spec.handler else { return };
        let now = std::mem::replace(&mut self.version, version);
        let start = out.len();
        if let Err(fail) = handler(self, args, out) {
            out.truncate(start);
            Writer::new(out, version).error(&fail.line());
        }
        if self.version == version {
            self.version = now;
        }
    }

    /// For CLIENT LIST.
    pub(super) fn show_subscriptions(&self) {
        for kind in Kind::ALL {
            let shown = &self.client.subscribed[kind as usize];
            shown.store(self.subscriptions.of(kind).len(), Ordering::Relaxed);
        }
    }

    /// For CLIENT LIST.
    pub(super) fn show_queued(&self) {
        let queued = self.queued.as_ref().map_or(-1, |queued| queued.len() as i64);
        self.client.queued.store(queued, Ordering::Relaxed);
    }

    /// RESET: as if it had just connected.
    pub(super) fn reset(&mut self) {
        (self.version, self.readonly, self.reply) = (Version::V2, false, ReplyMode::On);
        (self.holding, self.holds) = (false, self.holds.saturating_add(1));
        (self.queued, self.watch) = (None, None);
        self.show_queued();
        self.leave();
        self.client.rename(b"");
    }

    /// Takes it out of all that others bring to it.
    pub(super) fn leave(&mut self) {
        pubsub::leave(self);
        tracking::end(self);
        pause::go_on(self);
        if std::mem::take(&mut self.monitoring) {
            self.shared.monitors.remove(&self.client);
        }
    }
}
