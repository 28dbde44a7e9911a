//! What was denied lately: ACL LOG.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Reason;
use crate::settings;

/// Where a command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// A client said it.
    Toplevel,
    /// It was in a transaction.
    Multi,
    /// A script said it.
    Lua,
}

impl Context {
    /// Redis's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Toplevel => "toplevel",
            Self::Multi => "multi",
            Self::Lua => "lua",
        }
    }
}

/// What was denied, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Rises from entry to entry.
    pub(crate) id: u64,
    /// How often it happened.
    pub(crate) count: u64,
    /// What was not allowed.
    pub(crate) reason: Reason,
    /// Where the command came from.
    pub(crate) context: Context,
    /// The command, key, channel.
    pub(crate) object: Vec<u8>,
    /// The user.
    pub(crate) user: String,
    /// The client, as in CLIENT LIST.
    pub(crate) client: String,
    /// Unix milliseconds of the first time.
    pub(crate) created_ms: u64,
    /// Unix milliseconds of the last time.
    pub(crate) updated_ms: u64,
}

/// The last denials, the newest first, and counts of all.
#[derive(Default)]
pub(crate) struct Log {
    entries: Mutex<VecDeque<Entry>>,
    next_id: AtomicU64,
    counts: [AtomicU64; 4],
}

impl Log {
    /// Entries that are looked at for one that says the same.
    const COMPARED: usize = 10;
    /// Entries further apart are not the same event.
    const SAME_MS: u64 = 60_000;

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, or counts it with one that says the same.
    pub(crate) fn add(
        &self,
        (reason, context): (Reason, Context),
        object: &[u8],
        user: &str,
        client: String,
    ) {
        /// The longest object that is kept, in bytes.
        const OBJECT_BYTES_MAX: usize = 4 << 10;
        let object = &object[..object.len().min(OBJECT_BYTES_MAX)];
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let now_ms = ops::clock::unix_ms();
        let mut entries = self.entries();
        let same = |entry: &Entry| {
            (entry.reason, entry.context) == (reason, context)
                && now_ms.saturating_sub(entry.updated_ms) <= Self::SAME_MS
                && entry.object == object
                && entry.user == user
        };
        let found = entries.iter().take(Self::COMPARED).position(same);
        if let Some(mut entry) = found.and_then(|at| entries.remove(at)) {
            entry.count += 1;
            (entry.client, entry.updated_ms) = (client, now_ms);
            entries.push_front(entry);
            return;
        }
        entries.push_front(Entry {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            count: 1,
            reason,
            context,
            object: object.to_vec(),
            user: user.to_owned(),
            client,
            created_ms: now_ms,
            updated_ms: now_ms,
        });
        entries.truncate(settings::ACL_LOG_MAX.get() as usize);
    }

    /// The newest `count`.
    pub(crate) fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries().iter().take(count).cloned().collect()
    }

    /// Forgets the entries, not the counts.
    pub(crate) fn clear(&self) {
        self.entries().clear();
    }

    /// How often this was the reason.
    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// Begins to count anew.
    pub(crate) fn reset_counts(&self) {
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}
