//! Keys that end with their writer: each has a lease of etcd's, kept alive by its writes.
//!
//! etcd counts leases in whole seconds, two at least, and a lease is asked for with a second more
//! than the key is to last: so a write within that second needs no call for its lease, and the key
//! still ends no sooner than it should.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::{Again, Client, Failed};
use super::proto::{KeepAliveRequest, KeepAliveResponse, LeaseGrantRequest, LeaseGrantResponse};
use crate::limits::KEYS_MAX;

/// How much longer than the key a lease lasts, and how long it goes without being kept alive.
const SLACK: Duration = Duration::from_secs(1);

/// A lease that was given for a key.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: i64,
    ttl: Duration,
    /// On the boot clock, before etcd was asked.
    kept_at: Duration,
}

/// The leases of the keys that this process writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<String, Held>>>);

impl Leases {
    /// A lease under which the key lasts so long from now on.
    pub(super) async fn of(
        &self,
        client: &Client,
        key: &str,
        ttl: Duration,
    ) -> Result<i64, Failed> {
        let held = self.locked(|held| held.get(key).copied()).filter(|held| held.ttl == ttl);
        let now = ops::clock::boot_now();
        if let Some(held) = held {
            if now.saturating_sub(held.kept_at) < SLACK {
                return Ok(held.id);
            }
            // A lease that has ended may take a moment to be gone, and its keys with it: so it is
            // asked for first, never beside the write.
            if keep_alive(client, held.id).await? {
                self.put(key, Held { kept_at: now, ..held });
                return Ok(held.id);
            }
        }
        let seconds = (ttl + SLACK).as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let wish = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        let path = "/etcdserverpb.Lease/LeaseGrant";
        // Given twice, one of them is not used and ends by itself.
        let given: LeaseGrantResponse = client.call(path, wish, Again::Safe).await?;
        if !given.error.is_empty() {
            return Err(Failed::NotDone(format!("no lease: {}", given.error)));
        }
        self.put(key, Held { id: given.id, ttl, kept_at: now });
        Ok(given.id)
    }

    /// The key has no lease any more, or one that etcd does not know.
    pub(super) fn forget(&self, key: &str) {
        self.locked(|held| held.remove(key));
    }

    fn put(&self, key: &str, lease: Held) {
        self.locked(|held| {
            if held.len() >= KEYS_MAX {
                let now = ops::clock::boot_now();
                held.retain(|_, old| now.saturating_sub(old.kept_at) < old.ttl + SLACK);
            }
            held.insert(key.to_owned(), lease)
        });
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<String, Held>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the lease lives, for its whole time again.
async fn keep_alive(client: &Client, id: i64) -> Result<bool, Failed> {
    let path = "/etcdserverpb.Lease/LeaseKeepAlive";
    let asked = client.ask(Again::Safe, |link| async move {
        let mut answers = link.streaming(path, KeepAliveRequest { id }).await?;
        answers.message().await
    });
    let answer: Option<KeepAliveResponse> = asked.await?;
    Ok(answer.is_some_and(|answer| answer.ttl > 0))
}
