//! Who is subscribed to what, and messages on their way: what PUBLISH reaches.
//!
//! A message is put into the mail of each subscriber of this node; its connection takes it from
//! there. Nothing of it is stored or shipped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use resp::Version;
use resp::reply::Writer;

use super::client::Client;
use crate::acl::Account;
use crate::command::glob_matches;
use crate::settings::{self, OutputClass};

/// What is named: a channel, a pattern, or a channel of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Sharded,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Sharded];

    /// The command that begins it.
    pub(super) const fn subscribe(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
            Self::Sharded => "ssubscribe",
        }
    }

    /// The command that ends it.
    pub(super) const fn unsubscribe(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
            Self::Sharded => "sunsubscribe",
        }
    }
}

type Subscribers = HashMap<Vec<u8>, Vec<Arc<Client>>>;

/// All subscriptions of the node.
#[derive(Default)]
pub(super) struct Broker {
    by_name: [Mutex<Subscribers>; 3],
    /// Subscribers that were closed because they did not read.
    pub(super) too_slow: AtomicU64,
}

/// Messages that a subscriber has not been sent yet.
#[derive(Default)]
pub(super) struct Mail {
    bytes: Vec<u8>,
    version: Option<Version>,
    overflown: bool,
    /// Since when it is beyond the soft limit.
    swollen: Option<Instant>,
}

impl Mail {
    /// Whether the subscriber is to be closed for so many bytes that it has not read
    /// (`client-output-buffer-limit`).
    fn is_too_much(&mut self, bytes: usize) -> bool {
        let limit = settings::OUTPUT_LIMITS.of(OutputClass::Pubsub);
        let beyond = |bound: u64| bound > 0 && bytes as u64 > bound;
        if !beyond(limit.soft) {
            self.swollen = None;
        }
        let since = beyond(limit.soft).then(|| *self.swollen.get_or_insert_with(Instant::now));
        let for_long = since.is_some_and(|since| since.elapsed().as_secs() >= limit.seconds);
        beyond(limit.hard) || for_long
    }

    /// Takes what has arrived.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// In which protocol messages are written from now on.
    pub(super) fn speak(&mut self, version: Version) {
        self.version = Some(version);
    }
}

impl Broker {
    fn names(&self, kind: Kind) -> MutexGuard<'_, Subscribers> {
        self.by_name[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, kind: Kind, name: &[u8], client: &Arc<Client>) {
        self.names(kind).entry_ref(name).or_default().push(client.clone());
    }

    pub(super) fn remove(&self, kind: Kind, name: &[u8], client: &Client) {
        let mut names = self.names(kind);
        let Some(subscribers) = names.get_mut(name) else { return };
        subscribers.retain(|subscriber| subscriber.id != client.id);
        if subscribers.is_empty() {
            names.remove(name);
        }
    }

    /// How many a message would reach.
    pub(super) fn audience(&self, kind: Kind, channel: &[u8]) -> i64 {
        let direct = self.names(kind).get(channel).map_or(0, |clients| clients.len());
        if kind == Kind::Sharded {
            return direct as i64;
        }
        let patterns = self.names(Kind::Pattern);
        let matching = patterns.iter().filter(|(pattern, _)| glob_matches(pattern, channel));
        (direct + matching.map(|(_, clients)| clients.len()).sum::<usize>()) as i64
    }

    /// Puts a message into the mail of all who want it, and says how many that were.
    pub(super) fn publish(&self, kind: Kind, channel: &[u8], message: &[u8]) -> i64 {
        let mut reached = 0;
        let word: &[u8] = if kind == Kind::Sharded { b"smessage" } else { b"message" };
        for client in self.names(kind).get(channel).into_iter().flatten() {
            self.deliver(client, &[word, channel, message]);
            reached += 1;
        }
        if kind == Kind::Sharded {
            return reached;
        }
        for (pattern, clients) in self.names(Kind::Pattern).iter() {
            if !glob_matches(pattern, channel) {
                continue;
            }
            for client in clients {
                self.deliver(client, &[b"pmessage", pattern, channel, message]);
                reached += 1;
            }
        }
        reached
    }

    fn deliver(&self, client: &Client, parts: &[&[u8]]) {
        let size = parts.iter().map(|part| part.len() + 16).sum();
        self.post(client, size, |out| {
            out.push(parts.len());
            parts.iter().for_each(|part| out.bulk(part));
        });
    }

    /// Puts a message of about this many bytes into a client's mail, in its protocol.
    pub(super) fn post(&self, client: &Client, size: usize, write: impl FnOnce(&mut Writer<'_>)) {
        self.put(client, size, |bytes, version| write(&mut Writer::new(bytes, version)));
    }

    /// The same of bytes as they are.
    pub(super) fn post_bytes(&self, client: &Client, text: &[u8]) {
        self.put(client, text.len(), |bytes, _| bytes.extend_from_slice(text));
    }

    fn put(&self, client: &Client, size: usize, write: impl FnOnce(&mut Vec<u8>, Version)) {
        let mut mail = client.mail();
        if mail.overflown {
            return;
        }
        let waiting = mail.bytes.len() + size;
        if mail.is_too_much(waiting) {
            mail.overflown = true;
            mail.bytes = Vec::new();
            drop(mail);
            self.too_slow.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "client {} is closed: it has {waiting} bytes of messages to read, which is more than client-output-buffer-limit allows",
                client.peer
            );
            client.kill();
            return;
        }
        let was_empty = mail.bytes.is_empty();
        let version = mail.version.unwrap_or(Version::V2);
        write(&mut mail.bytes, version);
        let fresh = was_empty && !mail.bytes.is_empty();
        drop(mail);
        if fresh {
            client.wake();
        }
    }

    /// Subscribers that hear, as this user, what the user may not.
    pub(super) fn not_allowed(&self, account: &Arc<Account>) -> Vec<Arc<Client>> {
        let mut found: Vec<Arc<Client>> = Vec::new();
        for kind in Kind::ALL {
            for (name, clients) in self.names(kind).iter() {
                let is_of = |client: &&Arc<Client>| {
                    client.said().account.as_ref().is_some_and(|a| Arc::ptr_eq(a, account))
                };
                let mut theirs = clients.iter().filter(is_of).peekable();
                if theirs.peek().is_some() && !account.hears(name, kind == Kind::Pattern) {
                    found.extend(theirs.cloned());
                }
            }
        }
        found
    }

    /// Names with subscribers that match, or all.
    pub(super) fn active(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let names = self.names(kind);
        let wanted = |name: &&Vec<u8>| pattern.is_none_or(|p| glob_matches(p, name));
        names.keys().filter(wanted).cloned().collect()
    }

    /// How many subscribers a name has.
    pub(super) fn count(&self, kind: Kind, name: &[u8]) -> usize {
        self.names(kind).get(name).map_or(0, Vec::len)
    }

    /// How many names have subscribers.
    pub(super) fn names_active(&self, kind: Kind) -> usize {
        self.names(kind).len()
    }
}
