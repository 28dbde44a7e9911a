//! What commands do beside their writes: they wake those who wait for a key, and tell of it those
//! who listen.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use resp::Version;

use super::blocked::Blocked;
use super::listeners::{Event, Listeners};
use super::notice::Class;
use super::view::Key;
use super::waiter::Waiter;
use super::watch::Watches;
use crate::control::Authority;
use crate::stats::keys::Counts;

/// What one worker's commands did beside their writes.
pub(super) struct Effects {
    pub(super) watches: Watches,
    pub(super) blocked: Blocked,
    pub(super) listeners: Arc<Listeners>,
    authority: Authority,
    /// Keys that were written and that somebody waits for, in that order.
    ready: RefCell<VecDeque<Vec<u8>>>,
    /// The call that runs has waited.
    waited: RefCell<Option<Arc<Waiter>>>,
    /// What is told once the batch is committed.
    told: RefCell<Vec<Event>>,
    /// Keys that the call found dead: they are deleted behind it.
    dead: RefCell<Vec<Vec<u8>>>,
    /// The classes that are wanted: read once for each request.
    classes: Cell<u32>,
    /// The client whose call runs.
    caller: Cell<u64>,
    /// The command that runs only reads.
    reading: Cell<bool>,
    /// The call has run a command that only reads: a script may have.
    has_read: Cell<bool>,
    /// What INFO says of keys.
    pub(super) counts: Arc<Counts>,
}

impl Effects {
    pub(super) fn new(
        watches: Watches,
        blocked: Blocked,
        listeners: Arc<Listeners>,
        authority: Authority,
    ) -> Self {
        Self {
            watches,
            blocked,
            listeners,
            authority,
            ready: RefCell::default(),
            waited: RefCell::default(),
            told: RefCell::default(),
            dead: RefCell::default(),
            classes: Cell::default(),
            caller: Cell::default(),
            reading: Cell::default(),
            has_read: Cell::default(),
            counts: Counts::register(),
        }
    }

    /// Looks again at what is wanted.
    pub(super) fn refresh(&self) {
        self.classes.set(self.listeners.classes().wanted());
    }

    /// A client's call begins.
    pub(super) fn begin_call(&self, client: u64) {
        self.caller.set(client);
        self.has_read.set(false);
    }

    /// A command of it begins.
    pub(super) fn begin_command(&self, reading: bool) {
        self.reading.set(reading);
        self.has_read.set(self.has_read.get() || reading);
    }

    /// Whether the call has run a command that only reads.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.get()
    }

    /// A key is about to be written. Only its worker calls this, or one that its worker waits for.
    pub(super) fn touch(&self, key: Key<'_>) {
        self.watches.touch(key);
        self.change(key, self.caller.get());
    }

    /// A key changes, for those who wait for it or keep a copy of it.
    fn change(&self, key: Key<'_>, by: u64) {
        if self.blocked.is_awaited(key) {
            self.ready(key.name);
        }
        let tracked = &self.listeners.tracked;
        if let Some(stale) = tracked.change(key, by) {
            self.told.borrow_mut().push(stale);
        }
        if tracked.has_followers() {
            let changed = Event::Changed { key: key.name.to_vec(), by };
            let mut told = self.told.borrow_mut();
            // A command writes many records of a key.
            if told.last() != Some(&changed) {
                told.push(changed);
            }
        }
    }

    /// Every key is about to be deleted.
    pub(super) fn touch_all(&self) {
        self.watches.touch_all();
        if !self.blocked.is_empty() {
            self.blocked.keys(None).iter().for_each(|name| self.ready(name));
        }
        self.listeners.tracked.clear();
        self.told.borrow_mut().push(Event::Flushed { by: self.caller.get() });
    }

    /// Looks again for all who wait for keys of a worker, whose data changed without it.
    pub(super) fn ready_all(&self, worker: u16) {
        if !self.blocked.is_empty() {
            self.blocked.keys(Some(worker)).iter().for_each(|name| self.ready(name));
        }
    }

    /// Whether events of this class are wanted.
    pub(super) fn tells(&self, class: Class) -> bool {
        self.classes.get() & class.bits() != 0
    }

    /// Tells of an event, if its class is wanted.
    pub(super) fn notify(&self, class: Class, event: &'static str, key: Key<'_>) {
        if self.tells(class) {
            let key = key.name.to_vec();
            self.told.borrow_mut().push(Event::Key { class, event, key });
        }
    }

    /// The command found a key.
    pub(super) fn found(&self) {
        if self.reading.get() {
            self.counts.hit();
        }
    }

    /// The command found no such key.
    pub(super) fn missed(&self, key: Key<'_>) {
        if self.reading.get() {
            self.counts.miss();
            self.notify(Class::MISS, "keymiss", key);
        }
    }

    /// The command found a key whose time has come: it is deleted behind the call, where this node
    /// may do that.
    pub(super) fn found_dead(&self, key: Key<'_>) {
        self.missed(key);
        let known = self.dead.borrow().iter().any(|name| name == key.name);
        if known || self.listeners.is_still() || self.authority.admit_write(key.slot).is_err() {
            return;
        }
        self.dead.borrow_mut().push(key.name.to_vec());
        self.expire(key);
    }

    /// A key is deleted because its time has come.
    pub(super) fn expire(&self, key: Key<'_>) {
        self.listeners.expired.fetch_add(1, Ordering::Relaxed);
        self.notify(Class::EXPIRED, "expired", key);
        self.change(key, 0);
    }

    /// Fields of a hash are deleted because their time has come, and the key with them if it has no
    /// others.
    pub(super) fn expire_fields(&self, key: Key<'_>, gone: bool) {
        self.notify(Class::HASH, "hexpired", key);
        if gone {
            self.notify(Class::GENERIC, "del", key);
        }
        self.change(key, 0);
    }

    /// The keys that were found dead.
    pub(super) fn take_dead(&self) -> Vec<Vec<u8>> {
        // Nearly always there are none.
        if self.dead.borrow().is_empty() { Vec::new() } else { self.dead.take() }
    }

    /// The call's client keeps a copy of this key.
    pub(super) fn remember(&self, key: Key<'_>) {
        let pushed = self.listeners.tracked.remember(key, self.caller.get());
        self.told.borrow_mut().extend(pushed);
    }

    /// What the call's own client is told behind its answer.
    pub(super) fn tell_caller(&self, version: Version, out: &mut Vec<u8>) {
        let (caller, mut told) = (self.caller.get(), self.told.borrow_mut());
        let mut herald = None;
        for event in told.iter_mut() {
            let key = match event {
                Event::Stale { key, clients, by } if *by == caller => {
                    let before = clients.len();
                    clients.retain(|client| *client != caller);
                    if clients.len() == before {
                        continue;
                    }
                    Some(&key[..])
                }
                Event::Flushed { by } if *by == caller => None,
                _ => continue,
            };
            if herald.is_none() {
                herald = self.listeners.herald();
            }
            if let Some(herald) = &herald {
                herald.own_change(caller, key, version, out);
            }
        }
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        !self.told.borrow().is_empty()
    }

    /// To be told once the batch is committed.
    pub(super) fn will_tell(&self, event: Event) {
        self.told.borrow_mut().push(event);
    }

    /// How much is to be told already.
    pub(super) fn mark(&self) -> usize {
        self.told.borrow().len()
    }

    /// What came after the mark is not to be told: it did not happen.
    pub(super) fn cut_to(&self, mark: usize) {
        self.told.borrow_mut().truncate(mark);
    }

    /// Tells what was committed.
    pub(super) fn tell(&self) {
        if self.has_news() {
            let events = self.told.take();
            if let Some(herald) = self.listeners.herald() {
                herald.tell(events);
            }
        }
    }

    /// What was to be told has not happened, or nobody knows.
    pub(super) fn forget(&self) {
        self.told.borrow_mut().clear();
        self.dead.borrow_mut().clear();
    }

    /// Those who wait for this key are to be served.
    pub(super) fn ready(&self, name: &[u8]) {
        let mut ready = self.ready.borrow_mut();
        if !ready.iter().any(|other| other == name) {
            ready.push_back(name.to_vec());
        }
    }

    /// The next call has waited.
    pub(super) fn set_waited(&self, waiter: Option<Arc<Waiter>>) {
        self.waited.replace(waiter);
    }

    /// What the call that runs noted when it began to wait.
    pub(super) fn note(&self) -> Option<Vec<u8>> {
        self.waited.borrow().as_ref().map(|waiter| waiter.until.note.clone())
    }

    /// The next key that is ready.
    pub(super) fn take_ready(&self) -> Option<Vec<u8>> {
        self.ready.borrow_mut().pop_front()
    }
}
