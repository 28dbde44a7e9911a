//! What a connection has said of itself, and what all connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ops::shutdown::Shutdown;
use ops::tls::TlsFiles;
use resp::Version;
use resp::command::Limits;
use resp::reply::Writer;

use super::broker::{Broker, Kind};
use super::client::{Client, Clients};
use super::config::{self, Parameters};
use super::monitor::{self, Monitors};
use super::pause::{self, Pause};
use super::pubsub::{self, Subscriptions};
use super::slowlog::SlowLog;
use super::tracking::{self, Followers};
use super::transaction::Queued;
use crate::acl::{Account, Users};
use crate::command::{Args, Fail, Handler, Spec, table};
use crate::control::{Authority, Mode};
use crate::settings;
use crate::stats;
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
    /// Those of them that came before the last CONFIG RESETSTAT.
    commands_before: AtomicU64,
    /// Commands of the last second.
    pub commands_per_second: AtomicU64,
    /// Bytes read from sockets.
    pub bytes_in: AtomicU64,
    /// Bytes written to sockets.
    pub bytes_out: AtomicU64,
    /// Reads from sockets.
    pub reads: AtomicU64,
    /// Writes to sockets.
    pub writes: AtomicU64,
    /// Clients that were closed because they did not read.
    pub clients_too_slow: AtomicU64,
}

impl Stats {
    /// Commands since the last CONFIG RESETSTAT.
    pub(super) fn commands(&self) -> u64 {
        let before = self.commands_before.load(Ordering::Relaxed);
        self.commands_processed.load(Ordering::Relaxed).saturating_sub(before)
    }

    /// CONFIG RESETSTAT.
    pub(super) fn reset(&self) {
        for counter in [
            &self.connections_received,
            &self.connections_rejected,
            &self.bytes_in,
            &self.bytes_out,
            &self.reads,
            &self.writes,
            &self.clients_too_slow,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        let commands = self.commands_processed.load(Ordering::Relaxed);
        self.commands_before.store(commands, Ordering::Relaxed);
    }
}

/// How the node was started.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The node's directory.
    pub dir: std::path::PathBuf,
    /// When writes are on disk, in Redis's words for it.
    pub append_fsync: &'static str,
    /// Threads that read and answer.
    pub io_threads: usize,
    /// Threads that run commands.
    pub workers: usize,
    /// Memory for the database's caches and buffers, in bytes.
    pub memory_bytes: u64,
    /// The files of TLS, and its port; `None`: nobody listens for it.
    pub tls: Option<(TlsFiles, u16)>,
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
    /// Who may do what.
    pub users: Arc<Users>,
    /// How the node was started, for CONFIG GET and INFO.
    pub facts: Facts,
    pub(super) slow_log: SlowLog,
    pub(super) parameters: Parameters,
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
        (address, facts): (SocketAddr, Facts),
        users: Arc<Users>,
    ) -> Self {
        Self {
            workers,
            authority,
            store,
            shutdown,
            address,
            stats: Stats::default(),
            users,
            facts,
            slow_log: SlowLog::default(),
            parameters: Parameters::default(),
            clients: Clients::default(),
            broker: Broker::default(),
            followers: Followers::default(),
            monitors: Monitors::default(),
            pause: Pause::default(),
            started: Instant::now(),
            run_id: format!("{:032x}{:08x}", rand::random::<u128>(), rand::random::<u32>()),
        }
    }

    /// Makes this the password of the user `default`.
    pub fn require_password(&self, password: &[u8]) -> Result<(), String> {
        config::require_password(self, password)
    }

    /// How many clients are connected.
    pub fn clients_connected(&self) -> usize {
        self.clients.len()
    }

    /// Remembers a command of a client if it took long enough.
    pub(super) fn note_slow(&self, client: u64, args: &Args<'_>, took: Duration) {
        if let Some(client) = self.clients.find(client) {
            self.slow_log.note(&client, args, took);
        }
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
    /// Who it is.
    pub(super) account: Arc<Account>,
    /// It has said who it is, or did not need to when it came.
    authenticated: bool,
    /// Who it is has just changed: what comes next is another request.
    pub(super) changed_user: bool,
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
    /// It asked for commands and transactions over all slots of the shard.
    pub(super) crosses: bool,
    holding: bool,
    holds: u32,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, peer: SocketAddr, local: String) -> Self {
        let client = shared.clients.add(peer, local);
        Self::with(shared, client)
    }

    /// For the commands of scripts: nobody is connected to it.
    pub(super) fn of_script(shared: Arc<Shared>) -> Self {
        let client = shared.clients.add(shared.address, String::new());
        shared.clients.remove(client.id);
        Self::with(shared, client)
    }

    fn with(shared: Arc<Shared>, client: Arc<Client>) -> Self {
        let account = shared.users.default_one().clone();
        client.said().account = Some(account.clone());
        let authenticated = shared.users.needs_no_password();
        Self {
            account,
            authenticated,
            changed_user: false,
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
            crosses: false,
            holding: false,
            holds: 1,
        }
    }

    /// Whether what it sends is kept for later: a command of it waits for others.
    pub(super) fn must_wait(&self) -> bool {
        self.waits || self.postponed
    }

    /// Whether it may run commands that need a user.
    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated || self.shared.users.needs_no_password()
    }

    /// From now on it is this user.
    pub(super) fn become_user(&mut self, account: Arc<Account>, authenticated: bool) {
        self.client.said().account = Some(account.clone());
        (self.account, self.authenticated, self.changed_user) = (account, authenticated, true);
    }

    /// Its line in CLIENT LIST, without the end.
    pub(super) fn client_line(&self) -> String {
        self.client.line(false, 0).trim_end().to_owned()
    }

    /// What is taken from it at once: little before it has said who it is, as by Redis.
    pub(super) fn limits(&self, base: &Limits) -> Limits {
        const UNKNOWN_ARGS: usize = 10;
        const UNKNOWN_BULK_BYTES: usize = 16 << 10;
        let bulk_bytes = settings::BULK_BYTES_MAX.get() as usize;
        let command_bytes = settings::QUERY_BYTES_MAX.get() as usize;
        let known = Limits { bulk_bytes, command_bytes, ..base.clone() };
        match self.is_authenticated() {
            true => known,
            false => Limits { args: UNKNOWN_ARGS, bulk_bytes: UNKNOWN_BULK_BYTES, ..known },
        }
    }

    /// The number that refusals of the next command stick to; 0: they do not stick.
    pub(super) fn hold(&self) -> u32 {
        if self.holding { self.holds } else { 0 }
    }

    /// Whether the keys of a transaction must be of one slot.
    pub(super) fn is_of_one_slot(&self) -> bool {
        !self.crosses && self.shared.authority.mode() != Mode::Standalone
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
        let (start, began) = (out.len(), Instant::now());
        let answered = handler(self, args, out);
        self.count(spec, args, began.elapsed(), answered.is_err());
        if let Err(fail) = answered {
            out.truncate(start);
            stats::errors::count(&fail.line());
            Writer::new(out, version).error(&fail.line());
        }
        if self.version == version {
            self.version = now;
        }
    }

    /// Counts a command that an I/O thread ran.
    pub(super) fn count(&self, spec: &Spec, args: &Args<'_>, took: Duration, failed: bool) {
        stats::commands::ran(spec, took, failed);
        stats::events::command(spec, took);
        // What is in no table only says that a command was queued or refused.
        if table::number(spec).is_some() {
            self.shared.slow_log.note(&self.client, args, took);
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
        self.crosses = false;
        (self.queued, self.watch) = (None, None);
        self.show_queued();
        self.leave();
        self.client.rename(b"");
        let users = self.shared.users.clone();
        self.become_user(users.default_one().clone(), users.needs_no_password());
    }

    /// Takes it out of all that others bring to it.
    pub(super) fn leave(&mut self) {
        pubsub::leave(self);
        tracking::end(self);
        pause::go_on(self);
        monitor::leave(self);
    }
}
