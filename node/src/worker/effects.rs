//! What commands do beside their writes: they wake those who wait for a key.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::blocked::Blocked;
use super::view::Key;
use super::waiter::Waiter;
use super::watch::Watches;

/// What one worker's commands did beside their writes.
pub(super) struct Effects {
    pub(super) watches: Watches,
    pub(super) blocked: Blocked,
    /// Keys that were written and that somebody waits for, in that order.
    ready: RefCell<VecDeque<Vec<u8>>>,
    /// The call that runs has waited.
    waited: RefCell<Option<Arc<Waiter>>>,
}

impl Effects {
    pub(super) fn new(watches: Watches, blocked: Blocked) -> Self {
        Self { watches, blocked, ready: RefCell::default(), waited: RefCell::default() }
    }

    /// A key is about to be written. Only its worker calls this, or one that its worker waits for.
    pub(super) fn touch(&self, key: Key<'_>) {
        self.watches.touch(key);
        if self.blocked.is_awaited(key) {
            self.ready(key.name);
        }
    }

    /// Every key is about to be deleted.
    pub(super) fn touch_all(&self) {
        self.watches.touch_all();
        if !self.blocked.is_empty() {
            self.blocked.keys().iter().for_each(|name| self.ready(name));
        }
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
