//! A primary's side: whom it must ask for promises, and what it wants of them. Decisions alone.

use std::collections::BTreeSet;
use std::time::Duration;

use admin::PromiseWish;
use topology::{Epoch, Revision, ShardName};

/// Promises are asked for once less than this part of a lease is left: the registry renews long before.
const ASK_BELOW: u32 = 2;

/// What a primary knows of those whom it asks.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Whom the registry names, by a write that it has answered, and the epoch that this was under.
    named: Option<(Epoch, BTreeSet<ShardName>)>,
    /// Whom it may name besides: by writes without an answer.
    perhaps: BTreeSet<ShardName>,
    /// The registry may have forgotten whom it names.
    again: bool,
    /// The registry has said that the record has another revision than this one.
    outdated: Option<Revision>,
    wish: Option<Asked>,
    last_id: u64,
}

#[derive(Debug)]
struct Asked {
    wish: PromiseWish,
    /// On the boot clock, before anybody was asked.
    at: Duration,
}

impl Wishes {
    /// Whether the next renewal has to say that these are asked.
    pub(super) fn is_news(&self, epoch: Epoch, of: &BTreeSet<ShardName>) -> bool {
        self.again || self.named.as_ref() != Some(&(epoch, of.clone())) || self.perhaps != *of
    }

    /// A renewal that names these is about to be sent.
    pub(super) fn sending(&mut self, of: &BTreeSet<ShardName>) {
        self.perhaps.extend(of.iter().cloned());
    }

    /// The registry has taken it.
    pub(super) fn taken(&mut self, epoch: Epoch, of: BTreeSet<ShardName>) {
        self.perhaps.clone_from(&of);
        (self.named, self.again) = (Some((epoch, of)), false);
    }

    /// The registry has renewed the lease.
    pub(super) fn renewed(&mut self) {
        (self.outdated, self.wish) = (None, None);
    }

    /// The registry has another record: nothing is wanted under this one.
    pub(super) fn outdated(&mut self, revision: Revision) {
        (self.outdated, self.wish) = (Some(revision), None);
    }

    /// The registry has not answered: it may be another one when it does, and is told again.
    pub(super) fn unanswered(&mut self) {
        self.again = true;
    }

    /// What is wanted, `left` before the lease ends; `None` while the registry renews it, or where nobody can be
    /// asked: before the registry has taken whom.
    pub(super) fn want(
        &mut self,
        (epoch, revision): (Epoch, Revision),
        lease: Duration,
        left: Duration,
        now: Duration,
    ) -> Option<PromiseWish> {
        // Of an epoch under which the registry has not renewed it once, it is not known to be silent.
        let (_, named) = self.named.as_ref().filter(|(under, _)| *under == epoch)?;
        if left >= lease / ASK_BELOW || self.outdated == Some(revision) {
            return None;
        }
        // Whoever fails over from one that names nobody waits for nobody.
        if named.is_empty() {
            return None;
        }
        let of: BTreeSet<_> = named.union(&self.perhaps).cloned().collect();
        self.last_id += 1;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let wish = PromiseWish { id: self.last_id, epoch, lease_ms, of };
        self.wish = Some(Asked { wish: wish.clone(), at: now });
        Some(wish)
    }

    /// When all that was wanted was asked for, if these have promised it and nothing has changed since.
    pub(super) fn have(
        &mut self,
        id: u64,
        of: &BTreeSet<ShardName>,
        (epoch, revision): (Epoch, Revision),
    ) -> Option<Duration> {
        let asked = self.wish.as_ref()?;
        let same = asked.wish.id == id && asked.wish.epoch == epoch;
        let all = asked.wish.of.is_subset(of) && self.perhaps.is_subset(of);
        (same && all && self.outdated != Some(revision)).then_some(asked.at)
    }
}
