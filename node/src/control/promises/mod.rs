//! Promises: while the registry is silent, the nodes that could take a primary's slots together renew its
//! right to write, by refusing to be promoted. Why that is safe is in `docs/fencing.md`.
//!
//! [`Book`] decides what this node promises and what that forbids it, [`Wishes`] what it asks of others as a
//! primary. The sidecars carry questions and answers: its own asks with `GODWIT.PROMISE WANTED` and brings
//! `HAVE`, that of a primary's follower has its node `GIVE`.

mod book;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use admin::{Code, PromiseStatus, PromiseWish};
use topology::members::{Promisers, Promises};
use topology::record::UnixMs;
use topology::{Epoch, Record, Revision, ServiceView, ShardName};

use super::{Control, Fault, Mode, lock};
use crate::store::{DirError, NodeDir};
use book::{Blocked, Book, Held, Times};
use wishes::Wishes;

/// The part of a lease that clocks of two machines may drift apart by, and a bit for the reply.
pub(super) const DRIFT_PART: u32 = 50;

/// What control keeps of promises. Its locks are taken after the turn, or without it, and held for a sync of
/// a small file at most.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Whether this node asks for promises and gives any.
    on: bool,
    book: Mutex<Book>,
    wishes: Mutex<Wishes>,
}

impl Keeper {
    /// Reads the directory's file; a node that has acted under `epoch`.
    pub(super) fn open(dir: &NodeDir, on: bool, epoch: Epoch) -> Result<Self, DirError> {
        let damaged = |why| DirError::Damaged {
            path: dir.path().join("PROMISES").display().to_string(),
            why,
        };
        let held = dir.promises()?.map(|bytes| Held::parse(&bytes)).transpose().map_err(damaged)?;
        let book = Book::open(held, epoch, times());
        Ok(Self { on, book: Mutex::new(book), wishes: Mutex::default() })
    }

    /// Takes note of a record before anything is done by it.
    pub(super) fn hear(&self, dir: &NodeDir, record: &Record, us: &ShardName) {
        let mut book = lock(&self.book);
        if book.hear(record, us, ops::clock::boot_now())
            && let Err(why) = sync(&mut book, dir)
        {
            tracing::error!(
                "{why}; a failover that waits for this node's word has to wait until it can be written"
            );
        }
    }

    /// Why this node may not be promoted by this record now.
    pub(super) fn blocks(&self, record: &Record, us: &ShardName) -> Option<Blocked> {
        lock(&self.book).blocks(record, us, ops::clock::boot_now())
    }

    /// What the node's key says.
    pub(super) fn says(&self) -> Promises {
        lock(&self.book).says(times())
    }

    /// Whom the next renewal has to name, if that is news.
    pub(super) fn naming(&self, record: &Record, us: &ShardName) -> Option<Promisers> {
        if !self.on {
            return None;
        }
        let of: BTreeSet<_> = record.followers_of(us).into_iter().collect();
        let mut wishes = lock(&self.wishes);
        if !wishes.is_news(record.epoch, &of) {
            return None;
        }
        wishes.sending(&of);
        Some(Promisers { shard: us.clone(), of, at: UnixMs::now() })
    }

    /// The registry has renewed the lease, and named these.
    pub(super) fn renewed(&self, epoch: Epoch, named: Option<Promisers>) {
        let mut wishes = lock(&self.wishes);
        wishes.renewed();
        if let Some(named) = named {
            wishes.taken(epoch, named.of);
        }
    }

    /// The registry has another record than this.
    pub(super) fn outdated(&self, revision: Revision) {
        lock(&self.wishes).outdated(revision);
    }

    /// The registry has not answered.
    pub(super) fn unanswered(&self) {
        lock(&self.wishes).unanswered();
    }
}

impl Blocked {
    pub(super) fn sentence(&self) -> String {
        let to = match &self.primary {
            Some(primary) => format!("it has promised {primary}"),
            None => {
                "what it had promised is not known (its directory is new here), so it may have been"
                    .to_owned()
            }
        };
        format!("{to} not to be promoted, and waits until that ends")
    }
}

fn times() -> Times {
    (ops::clock::boot_now(), UnixMs::now())
}

/// Writes the book to the disk where that has something else.
fn sync(book: &mut Book, dir: &NodeDir) -> Result<(), DirError> {
    if let Some(held) = book.unsynced() {
        dir.write_promises(&held.to_bytes())?;
        book.synced(held);
    }
    Ok(())
}

impl Control {
    /// Answer of `GODWIT.PROMISE WANTED`.
    pub(super) fn promise_wanted(&self) -> Option<PromiseWish> {
        let (record, revision) = self.leads_unfrozen()?;
        let left = self.0.authority.lease_left()?;
        let lease = Duration::from_millis(record.lease_ms);
        let now = ops::clock::boot_now();
        lock(&self.0.promises.wishes).want((record.epoch, revision), lease, left, now)
    }

    /// These have promised what was wanted: if they are all, the lease goes on from when it was asked for.
    pub(super) fn promise_have(&self, id: u64, of: &BTreeSet<ShardName>) -> Result<(), Fault> {
        let over = || {
            Fault::role(
                "nothing changed: that is not what this node wants now, or of too few nodes",
            )
        };
        let (record, revision) = self.leads_unfrozen().ok_or_else(over)?;
        let lease = Duration::from_millis(record.lease_ms);
        let asked = lock(&self.0.promises.wishes).have(id, of, (record.epoch, revision));
        let end = asked.ok_or_else(over)? + lease - lease / DRIFT_PART;
        if self.0.authority.lease_by(of, end) {
            let of: Vec<_> = of.iter().map(ToString::to_string).collect();
            tracing::warn!(
                "the registry is silent: this node writes on by the promises of {}",
                of.join(", ")
            );
        }
        Ok(())
    }

    /// The record, where it makes this node a primary that is not frozen.
    fn leads_unfrozen(&self) -> Option<(Record, Revision)> {
        use std::sync::atomic::Ordering;
        let leads = self.0.authority.mode() == Mode::Primary;
        if !leads || !self.0.promises.on || self.0.closing.load(Ordering::Acquire) {
            return None;
        }
        let (record, revision) = self.record()?;
        let frozen = record.freeze_of(self.shard()?).is_some();
        (!frozen).then_some((record, revision))
    }

    /// Carries out `GODWIT.PROMISE GIVE`: on the disk before it returns.
    pub(super) fn promise_give(
        &self,
        primary: &ShardName,
        epoch: Epoch,
        lease_ms: u64,
    ) -> Result<(), Fault> {
        let us = self.shard().ok_or_else(|| Fault::role("this node has no service"))?;
        if !self.0.promises.on {
            return Err(Fault::role(format!("{us} gives no promises (peer-promises = false)")));
        }
        let mut book = lock(&self.0.promises.book);
        book.give((us, primary), epoch, lease_ms, times()).map_err(Fault::role)?;
        sync(&mut book, &self.0.dir).map_err(|why| Fault::new(Code::Io, why.to_string()))?;
        let (now, wall) = times();
        book.given(primary, (now, wall));
        let first = self.0.authority.promise_until(now + book.longest(now), now);
        drop(book);
        if first {
            tracing::warn!(%primary, %epoch, "the registry is silent to it: this node has promised not to be promoted while it writes");
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// Forgets promises that have ended, and writes what is not written yet.
    pub(super) fn look_at_promises(&self) {
        if !self.has_service() {
            return;
        }
        let mut book = lock(&self.0.promises.book);
        book.expire(ops::clock::boot_now());
        if let Err(why) = sync(&mut book, &self.0.dir) {
            tracing::debug!("the promises are not on the disk yet: {why}");
        }
    }

    /// How long a promotion that the record asks for has to wait for what this node has promised.
    pub(super) fn promotion_waits(&self) -> Option<Duration> {
        let (record, _) = self.record()?;
        let us = self.shard()?;
        let waits = record.is_primary(us) && self.0.authority.mode() != Mode::Primary;
        self.0.promises.blocks(&record, us).filter(|_| waits).map(|blocked| blocked.left)
    }

    pub(super) fn promise_status(&self) -> PromiseStatus {
        let says = self.0.promises.says();
        let given = says.given.into_iter().filter(|(_, given)| given.left_ms > 0);
        PromiseStatus {
            wanted: self.0.promises.on,
            held_by: self.0.authority.held_by(),
            given: given.map(|(to, given)| (to, given.left_ms)).collect(),
            none_below: says.none_below,
        }
    }
}

/// Whether somebody has promised this shard not to be promoted: a process of it may write on by that.
pub(super) fn is_promised(view: &ServiceView, shard: &ShardName) -> Option<ShardName> {
    let gave = |node: &&topology::members::NodeMember| {
        node.promises.as_ref().and_then(|p| p.given.get(shard)).is_some_and(|g| g.left_ms > 0)
    };
    view.nodes.values().find(gave).map(|node| node.shard.clone())
}
