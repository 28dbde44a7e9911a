//! Which records nobody can need any more, and may be dropped by compaction.
//!
//! A compaction filter heeds no snapshot and no log: what it drops is gone at once, for every
//! reader, and a power cut does not bring it back. So it may look only at metadata that is certain to
//! stay the past of this node: a **reclaim view**, a snapshot of the metadata at a position that the
//! primary announced in its log. A view goes through three states:
//!
//! 1. *waiting*: taken, here and on every follower that applied the announcement;
//! 2. *released*: synced by the primary, staged by every follower that is not lost, as the primary
//!    says in its log;
//! 3. *in use*: synced here, older than everything that is being read here, and noted in
//!    [`Reclaimed`], synced, before the first record is dropped by it.
//!
//! Architecture Invariant: nothing is dropped but by [`filter`], and nothing but (a) data of a
//! version below the view's bound that the view's metadata does not name, (b) keys that had expired
//! by the view's horizon, which nobody who has applied the view takes for live ([`Store::now_ms`]).
//!
//! [`Store::now_ms`]: super::Store::now_ms

pub(super) mod filter;
mod floors;
mod pinned;
mod probe;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use admin::Reclaimed;
use arc_swap::ArcSwap;
use keyspace::{Hlc, Slot};
use topology::ShardName;
use wal::{Position, Sequence};

use floors::Floors;
pub use probe::Search;
pub use view::ReclaimView;

/// What filters have dropped since the database was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// The views of an open database, and what holds them up.
#[derive(Debug, Default)]
pub struct Reclaim {
    /// In use by filters: at most one for each source.
    ///
    /// A filter reads them under the lock and keeps none: the last holder of a view closes the
    /// database, and a compaction cannot wait for itself.
    active: RwLock<Vec<ReclaimView>>,
    /// Counts the changes of `active`.
    generation: AtomicU64,
    /// Taken and not in use yet: at most one that is released and one that is not, for each source.
    waiting: Mutex<Vec<ReclaimView>>,
    /// The sequences that long reads began at, and how many at each.
    holds: Mutex<BTreeMap<u64, usize>>,
    floors: Floors,
    reclaimed: ArcSwap<Reclaimed>,
    /// What had expired by then may be gone: nothing that expires by then is live.
    horizon_ms: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

/// While it lives, no view that is taken after it was made is used. For a snapshot that is read for
/// long: make it before the snapshot.
#[derive(Debug)]
#[must_use = "dropping it lets later views be used"]
pub struct Hold {
    reclaim: Arc<Reclaim>,
    at: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = lock(&self.reclaim.holds);
        if let Some(count) = holds.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.at);
            }
        }
    }
}

impl Reclaim {
    /// Of a database whose node-local state says this.
    pub(super) fn restore(&self, reclaimed: Reclaimed) {
        self.raise_horizon(reclaimed.horizon_ms);
        self.reclaimed.store(Arc::new(reclaimed));
    }

    /// Up to where space was reclaimed here.
    pub fn reclaimed(&self) -> Arc<Reclaimed> {
        self.reclaimed.load_full()
    }

    /// Nothing that expires by this Unix millisecond is live.
    pub fn horizon_ms(&self) -> u64 {
        self.horizon_ms.load(Ordering::Relaxed)
    }

    pub(super) fn raise_horizon(&self, horizon_ms: u64) {
        self.horizon_ms.fetch_max(horizon_ms, Ordering::Relaxed);
    }

    /// What filters have dropped.
    pub fn dropped(&self) -> Dropped {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Dropped { records: read(&self.records), bytes: read(&self.bytes) }
    }

    fn count(&self, dropped: Dropped) {
        self.records.fetch_add(dropped.records, Ordering::Relaxed);
        self.bytes.fetch_add(dropped.bytes, Ordering::Relaxed);
    }

    /// A worker begins to run what it took; `last` is the last stamp given.
    pub fn enter(&self, worker: u16, last: Hlc) {
        self.floors.enter(worker, last);
    }

    /// A worker has committed what it ran, and keeps no cursor.
    pub fn leave(&self, worker: u16) {
        self.floors.leave(worker);
    }

    /// No worker has in hand a version below this; `stamp` was given just before.
    pub(super) fn bound(&self, stamp: Hlc) -> Hlc {
        self.floors.lowest(stamp)
    }

    /// Holds up views that are taken from here on.
    pub fn hold(self: &Arc<Self>, at: Sequence) -> Hold {
        *lock(&self.holds).entry(at.0).or_default() += 1;
        Hold { reclaim: self.clone(), at: at.0 }
    }

    fn is_on(&self) -> bool {
        self.active.read().is_ok_and(|active| !active.is_empty())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What the view in use for a slot says; `None` without one.
    fn view_of<T>(&self, slot: Slot, ask: impl FnOnce(&ReclaimView) -> T) -> Option<T> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.iter().find(|view| view.slots.contains(slot)).map(ask)
    }

    pub(super) fn wait_with(&self, view: ReclaimView) {
        let mut waiting = lock(&self.waiting);
        // One that is released is about to be used, whatever comes after it.
        waiting.retain(|other| other.source != view.source || other.released);
        waiting.push(view);
    }

    /// The log says that this view of a source may be used.
    pub fn release(&self, source: Option<&ShardName>, at: Sequence) {
        let mut waiting = lock(&self.waiting);
        let of = |view: &ReclaimView| view.source.as_ref() == source;
        if let Some(view) = waiting.iter_mut().find(|view| of(view) && view.at.sequence == at) {
            view.released = true;
            waiting.retain(|view| !of(view) || view.at.sequence >= at);
        }
    }

    /// The view of this node's own log that waits to be released: where, and since when.
    pub fn unreleased(&self) -> Option<(Position, Sequence, Instant)> {
        let waiting = lock(&self.waiting);
        let own = waiting.iter().find(|view| view.source.is_none() && !view.released)?;
        Some((own.at, own.local, own.taken))
    }

    /// Whether a view waits, of whatever log.
    pub fn is_waiting(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// Whether a view of this node's own log waits.
    pub fn is_own_waiting(&self) -> bool {
        lock(&self.waiting).iter().any(|view| view.source.is_none())
    }

    /// In words, why a released view is not used yet; `None`: nothing is in its way here.
    pub fn held_by(&self) -> Option<String> {
        let waiting = lock(&self.waiting);
        let released: Vec<_> = waiting.iter().filter(|view| view.released).collect();
        let oldest_read = lock(&self.holds).keys().next().copied();
        let lowest = self.floors.lowest(Hlc(u64::MAX));
        released.iter().find_map(|view| {
            if oldest_read.is_some_and(|read| read < view.local.0) {
                return Some("a digest or an export is older than the view".to_owned());
            }
            (lowest < view.after).then(|| "a command is older than the view".to_owned())
        })
    }

    /// The released views that nothing here is in the way of, and what is reclaimed once they are
    /// used. The caller writes that, synced, and then calls [`Reclaim::activate`].
    pub(super) fn ready(&self) -> Option<Reclaimed> {
        if self.held_by().is_some() {
            return None;
        }
        let waiting = lock(&self.waiting);
        let mut reclaimed = (*self.reclaimed()).clone();
        let mut any = false;
        for view in waiting.iter().filter(|view| view.released) {
            any = true;
            reclaimed.horizon_ms = reclaimed.horizon_ms.max(view.mark.horizon_ms);
            match &view.source {
                None => reclaimed.own = Some(view.at),
                Some(source) => drop(reclaimed.sources.insert(source.clone(), view.at)),
            }
        }
        any.then_some(reclaimed)
    }

    /// Uses the views that [`Reclaim::ready`] spoke of, instead of older ones.
    pub(super) fn activate(&self, reclaimed: Reclaimed) {
        let is_ready = |view: &ReclaimView| match &view.source {
            None => reclaimed.own == Some(view.at),
            Some(source) => reclaimed.sources.get(source) == Some(&view.at),
        };
        let mut waiting = lock(&self.waiting);
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.drain(..).partition(|view| view.released && is_ready(view));
        *waiting = rest;
        drop(waiting);
        self.reclaimed.store(Arc::new(reclaimed));
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *active);
        let replaced = |old: &ReclaimView| {
            ready.iter().any(|view| !view.slots.intersection(&old.slots).is_empty())
        };
        let (old, kept): (Vec<_>, Vec<_>) = before.into_iter().partition(replaced);
        active.extend(kept);
        active.extend(ready);
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(active);
        drop(old);
    }

    /// How long ago the oldest view in use was taken.
    pub fn age(&self) -> Option<Duration> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.iter().map(|view| view.taken.elapsed()).max()
    }

    /// Lets go of views older than this: their snapshots keep what was overwritten since.
    pub fn drop_older(&self, age: Duration) {
        lock(&self.waiting).retain(|view| view.taken.elapsed() < age);
        if self.age().is_none_or(|oldest| oldest < age) {
            return;
        }
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *active);
        let (kept, old): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|view| view.taken.elapsed() < age);
        *active = kept;
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(active);
        drop(old);
    }

    /// Views that wait for a release that cannot come any more, or must not: this node is another
    /// one's primary or standby now.
    pub fn forget_waiting(&self) {
        let old = std::mem::take(&mut *lock(&self.waiting));
        drop(old);
    }

    /// Nothing is dropped until there is a new view. For what brings records under versions that were
    /// given elsewhere and long ago (a rewind, an ingest): call it before the first of them.
    pub fn forget(&self) {
        self.forget_waiting();
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *active);
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(active);
        drop(old);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
