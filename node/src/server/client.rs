//! Who is connected: what CLIENT LIST shows and CLIENT KILL reaches.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::broker::Mail;

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
}

/// What it said of itself, and did last.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) library: String,
    pub(super) library_version: String,
    pub(super) version: u8,
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

    /// There is mail.
    pub(super) fn wake(&self) {
        self.attention.notify_one();
    }

    /// Until it is killed or has mail.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    pub(super) fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its line in CLIENT LIST; `waits`: a command of it waits for others.
    pub(super) fn line(&self, waits: bool) -> String {
        let said = self.said().clone();
        let idle = said.last_seen.unwrap_or(self.since).elapsed().as_secs();
        let age = self.since.elapsed().as_secs();
        let [sub, psub, ssub] =
            [0, 1, 2].map(|kind: usize| self.subscribed[kind].load(Ordering::Relaxed));
        let flags = match (sub + psub + ssub > 0, waits) {
            (false, false) => "N",
            (true, false) => "P",
            (false, true) => "b",
            (true, true) => "Pb",
        };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags={} db=0 sub={sub} psub={psub} \
             ssub={ssub} multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.peer,
            self.local,
            said.name,
            flags,
            if said.last_command.is_empty() { "NULL" } else { said.last_command },
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

    /// All, by id.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.by_id().values().cloned().collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }
}
