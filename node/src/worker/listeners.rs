//! Who is to hear of what commands do: shared by the workers, which tell, and the server, which
//! knows the clients.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use resp::Version;

use super::notice::Class;
use super::tracked::Tracked;
use crate::store::Store;

/// Something that clients may want to hear of. It is told once its batch is committed.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A notification.
    Key {
        /// Its class.
        class: Class,
        /// What happened.
        event: &'static str,
        /// To which key.
        key: Vec<u8>,
    },
    /// Clients that read a key have to read it again.
    Stale {
        /// The key.
        key: Vec<u8>,
        /// Those clients.
        clients: Vec<u64>,
        /// The client that changed it; 0: nobody did.
        by: u64,
    },
    /// A key changed, for clients that follow prefixes.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// The client that changed it; 0: nobody did.
        by: u64,
    },
    /// A script published a message.
    Message {
        /// To a sharded channel.
        sharded: bool,
        /// Its channel.
        channel: Vec<u8>,
        /// What it says.
        message: Vec<u8>,
    },
    /// All keys were deleted. The client that did it has been told with its answer.
    Flushed {
        /// The client.
        by: u64,
    },
}

/// Whoever brings events to clients.
pub trait Herald: Send + Sync {
    /// Brings events, in order.
    fn tell(&self, events: Vec<Event>);
    /// What a client that tracks keys gets behind the answer to its own command: a key that it has
    /// to read again, or, with `None`, all of them.
    fn own_change(&self, client: u64, key: Option<&[u8]>, version: Version, out: &mut Vec<u8>);
    /// The users may be others than before: those of the database as it is now.
    fn users_changed(&self, store: &Store);
    /// This node is a primary: its users become those of the service, if they are not yet.
    fn bring_users(&self);
}

/// What clients want to hear of.
#[derive(Default)]
pub struct Listeners {
    classes: AtomicU32,
    /// Keys that clients keep copies of.
    pub tracked: Tracked,
    herald: OnceLock<Weak<dyn Herald>>,
    /// Unix milliseconds until which nothing is changed by this node itself (CLIENT PAUSE); 0: no.
    still_until_ms: AtomicU64,
    /// Keys that were deleted because their time had come.
    pub expired: AtomicU64,
}

impl Listeners {
    /// Who brings events to clients; once.
    pub fn set_herald(&self, herald: Weak<dyn Herald>) {
        // A second one would be a mistake in putting the node together, and changes nothing.
        let _ = self.herald.set(herald);
    }

    pub(crate) fn herald(&self) -> Option<std::sync::Arc<dyn Herald>> {
        self.herald.get().and_then(Weak::upgrade)
    }

    /// The classes of notifications that are wanted.
    pub fn classes(&self) -> Class {
        Class::from_bits(self.classes.load(Ordering::Relaxed))
    }

    /// From now on these classes are.
    pub fn set_classes(&self, classes: Class) {
        self.classes.store(classes.bits(), Ordering::Relaxed);
    }

    /// Until when keys whose time has come are kept; 0: not.
    pub fn keep_still(&self, until_ms: u64) {
        self.still_until_ms.store(until_ms, Ordering::Relaxed);
    }

    pub(super) fn is_still(&self) -> bool {
        let until_ms = self.still_until_ms.load(Ordering::Relaxed);
        until_ms > 0 && ops::clock::unix_ms() < until_ms
    }
}
