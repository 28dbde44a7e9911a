//! Who is connected: what CLIENT LIST shows and CLIENT KILL reaches.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::broker::Mail;
use super::tracking::{self, Tracks};
use crate::acl::Account;

/// A connected client.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    local: String,
    since: Instant,
    said: Mutex<Said>,
    /// Told of a kill and of mail.
    attention: Notify,
    killed: AtomicBool,
    mail: Mutex<Mail>,
    /// What CLIENT LIST shows of subscriptions: channels, patterns, sharded channels.
    pub(super) subscribed: [AtomicUsize; 3],
    /// There is mail, or there was just now.
    mailed: AtomicBool,
    tracks: Mutex<Option<Tracks>>,
    /// Commands since MULTI; -1: it is in none.
    pub(super) queued: AtomicI64,
    /// It looks on at all commands.
    pub(super) monitors: AtomicBool,
}

/// What it said of itself, and did last.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) library: String,
    pub(super) library_version: String,
    pub(super) version: u8,
    /// Who it is.
    pub(super) account: Option<Arc<Account>>,
    last_command: &'static str,
    last_seen: Option<Instant>,
}

impl Client {
    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rename(&self, name: &[u8]) {
        self.said().name = String::from_utf8_lossy(name).into_owned();
    }

    /// The address that it connected to.
    pub(super) fn local(&self) -> &str {
        &self.local
    }

    /// Remembers what it did last.
    pub(super) fn note(&self, command: &'static str) {
        self.said().last_command = command;
    }

    /// When it sent something.
    pub(super) fn touch(&self) {
        self.said().last_seen = Some(Instant::now());
    }

    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.attention.notify_one();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// How long it has said nothing.
    pub(super) fn idle(&self) -> std::time::Duration {
        self.said().last_seen.unwrap_or(self.since).elapsed()
    }

    /// There is mail.
    pub(super) fn wake(&self) {
        self.mailed.store(true, Ordering::Release);
        self.attention.notify_one();
    }

    /// Whether there may be mail that nobody has taken; asking forgets it.
    pub(super) fn has_mail(&self) -> bool {
        self.mailed.load(Ordering::Acquire) && self.mailed.swap(false, Ordering::AcqRel)
    }

    /// What it asked to be told of keys that it has read; `None`: nothing.
    pub(super) fn tracks(&self) -> MutexGuard<'_, Option<Tracks>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is subscribed to anything.
    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Until it is killed or has mail.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    pub(super) fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line in CLIENT LIST; `waits`: a command of it waits for others, `qbuf`: bytes of its command.
    pub(super) fn line(&self, waits: bool, qbuf: usize) -> String {
        let said = self.said().clone();
        let idle = said.last_seen.unwrap_or(self.since).elapsed().as_secs();
        let age = self.since.elapsed().as_secs();
        let [sub, psub, ssub] =
            [0, 1, 2].map(|kind: usize| self.subscribed[kind].load(Ordering::Relaxed));
        let queued = self.queued.load(Ordering::Relaxed);
        let letters = [
            (self.monitors.load(Ordering::Relaxed), 'O'),
            (self.is_subscribed(), 'P'),
            (queued >= 0, 'x'),
            (waits, 'b'),
        ];
        let letters = letters.into_iter().filter(|(shown, _)| *shown).map(|(_, letter)| letter);
        let mut flags: String = letters.collect();
        self.tracks().iter().for_each(|tracks| flags += &tracks.letters());
        if flags.is_empty() {
            flags.push('N');
        }
        let redirection = tracking::redirection(self);
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags={} db=0 sub={sub} psub={psub} \
             ssub={ssub} multi={queued} qbuf={qbuf} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={} user={} redir={redirection} resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.peer,
            self.local,
            said.name,
            flags,
            if said.last_command.is_empty() { "NULL" } else { said.last_command },
            said.account
                .as_ref()
                .map_or_else(|| "(superuser)".to_owned(), |account| account.name()),
            said.version.max(2),
            said.library,
            said.library_version,
        )
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    last_id: AtomicU64,
    count: AtomicUsize,
    by_id: Mutex<HashMap<u64, Arc<Client>>>,
}

impl Clients {
    fn by_id(&self) -> MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, peer: SocketAddr, local: String) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            peer,
            local,
            since: Instant::now(),
            said: Mutex::default(),
            attention: Notify::new(),
            killed: AtomicBool::new(false),
            mail: Mutex::default(),
            subscribed: Default::default(),
            mailed: AtomicBool::new(false),
            tracks: Mutex::default(),
            queued: AtomicI64::new(-1),
            monitors: AtomicBool::new(false),
        });
        self.by_id().insert(id, client.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        client
    }

    pub(super) fn remove(&self, id: u64) {
        if self.by_id().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The one of this id.
    pub(super) fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id().get(&id).cloned()
    }

    /// All that are not about to be ended, by id.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> =
            self.by_id().values().filter(|client| !client.is_killed()).cloned().collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }
}
