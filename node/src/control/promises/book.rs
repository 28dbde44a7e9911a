//! What this node has promised to primaries: that it refuses to be promoted. Decisions alone, told what the
//! time is; the argument is in `docs/fencing.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use topology::members::{Promised, Promises};
use topology::record::UnixMs;
use topology::{Epoch, Record, ShardName};

/// The format of the file.
const FORMAT: u32 = 1;

/// A moment on the boot clock, and on the wall clock for what others are told.
pub(super) type Times = (Duration, UnixMs);

/// A promise: to a primary that acts under this epoch, for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Promise {
    epoch: Epoch,
    lease_ms: u64,
}

/// What is on the disk. No time is: after a restart every promise lasts for its full time again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Held {
    format: u32,
    /// The last epoch that was seen: nobody below it is promised anything.
    epoch: Epoch,
    /// The service's lease, as the last record said; nothing else is promised.
    lease_ms: u64,
    /// By primary.
    promises: BTreeMap<ShardName, Promise>,
    /// The same as `epoch` for a primary whose freeze was seen: one more than it had then.
    none_below: BTreeMap<ShardName, Epoch>,
    /// What was promised before is not known: a lease that may have been promised to anyone.
    anyone: bool,
}

/// The book. It refuses nothing and promises nothing by itself: it says what may be.
#[derive(Debug)]
pub(super) struct Book {
    held: Held,
    /// What the disk has of it.
    synced: Held,
    /// When promises end, on the boot clock.
    ends: BTreeMap<ShardName, Duration>,
    /// When the last one to each primary ends or has ended, on the wall clock.
    until: BTreeMap<ShardName, UnixMs>,
    /// When what may have been promised to anyone ends; none until it is known how long a lease is.
    anyone_ends: Option<Duration>,
    /// The last record makes this node a primary.
    leads: bool,
}

/// Why a node is not promoted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Blocked {
    /// To whom it has promised that; `None`: that is not known.
    pub(super) primary: Option<ShardName>,
    /// For how long still.
    pub(super) left: Duration,
}

impl Book {
    /// As the disk has it, just after the start of the process; `None`: there is no file. The node has
    /// acted under `epoch`.
    pub(super) fn open(held: Option<Held>, epoch: Epoch, (now, wall): Times) -> Self {
        let known = held.is_some();
        let new = || Held { format: FORMAT, anyone: true, ..Held::default() };
        let mut held = held.unwrap_or_else(new);
        held.epoch = held.epoch.max(epoch);
        let lasts = |promise: &Promise| Duration::from_millis(promise.lease_ms);
        let all = held.promises.iter();
        let ends = all.clone().map(|(to, promise)| (to.clone(), now + lasts(promise))).collect();
        let until = all.map(|(to, promise)| (to.clone(), wall.after(lasts(promise)))).collect();
        // How long that was for is not known before a record has been seen.
        let lease = Duration::from_millis(held.lease_ms);
        let anyone_ends = (held.anyone && held.lease_ms > 0).then(|| now + lease);
        let synced = if known { held.clone() } else { Held::default() };
        Self { synced, ends, until, anyone_ends, leads: false, held }
    }

    /// What is to be written, if the disk has something else.
    pub(super) fn unsynced(&self) -> Option<Held> {
        (self.held != self.synced).then(|| self.held.clone())
    }

    /// The disk has this now.
    pub(super) fn synced(&mut self, held: Held) {
        self.synced = held;
    }

    /// Takes note of a record. Whether that must be on the disk before anybody hears of it.
    pub(super) fn hear(&mut self, record: &Record, us: &ShardName, now: Duration) -> bool {
        self.leads = record.is_primary(us);
        if record.epoch < self.held.epoch {
            return false;
        }
        let mut news = false;
        if record.epoch > self.held.epoch {
            self.until.clear();
        }
        self.held.epoch = record.epoch;
        self.held.lease_ms = record.lease_ms;
        self.held.none_below.retain(|_, epoch| *epoch > record.epoch);
        if let Some(freeze) = record.freeze() {
            for primary in freeze.shards.iter().filter(|primary| *primary != us) {
                let below = record.epoch.next();
                news |= self.held.none_below.insert(primary.clone(), below) != Some(below);
            }
        }
        if self.held.anyone && self.anyone_ends.is_none() {
            self.anyone_ends = Some(now + Duration::from_millis(record.lease_ms));
        }
        self.expire(now);
        news
    }

    /// Puts down a promise, for the caller to sync; it counts once [`Book::given`] says so, and blocks
    /// from here on.
    ///
    /// # Errors
    /// Why it is not promised, in a sentence.
    pub(super) fn give(
        &mut self,
        (us, primary): (&ShardName, &ShardName),
        epoch: Epoch,
        lease_ms: u64,
        times: Times,
    ) -> Result<(), String> {
        if self.leads || us.cluster == primary.cluster {
            return Err(format!("{us} is a primary itself, or no follower of {primary}"));
        }
        if self.held.lease_ms == 0 {
            return Err(format!("{us} has never seen the record of its service"));
        }
        if lease_ms != self.held.lease_ms {
            return Err(format!(
                "{primary} wants a lease of {lease_ms} ms, and the service's is {} ms",
                self.held.lease_ms
            ));
        }
        if epoch < self.held.epoch {
            return Err(format!(
                "{primary} acts under epoch {epoch}, and {us} has seen epoch {}",
                self.held.epoch
            ));
        }
        if self.held.none_below.get(primary).is_some_and(|below| epoch < *below) {
            return Err(format!("{us} has seen that {primary} is frozen at epoch {epoch}"));
        }
        let promise = Promise { epoch, lease_ms };
        self.held.promises.insert(primary.clone(), promise);
        self.given(primary, times);
        Ok(())
    }

    /// The promise that was put down lasts from now on.
    pub(super) fn given(&mut self, primary: &ShardName, (now, wall): Times) {
        if let Some(promise) = self.held.promises.get(primary) {
            let lasts = Duration::from_millis(promise.lease_ms);
            let end = now + lasts;
            self.until.insert(primary.clone(), wall.after(lasts));
            let known = self.ends.entry(primary.clone()).or_insert(end);
            *known = (*known).max(end);
        }
    }

    /// Forgets what has ended.
    pub(super) fn expire(&mut self, now: Duration) {
        self.ends.retain(|_, end| *end > now);
        let ends = &self.ends;
        self.held.promises.retain(|to, _| ends.contains_key(to));
        if self.anyone_ends.is_some_and(|end| end <= now) {
            self.anyone_ends = None;
            self.held.anyone = false;
        }
    }

    /// Why this node may not be promoted by this record now, if it may not. A promise is over where the
    /// end of that primary's log is proven: the record's fork says so.
    pub(super) fn blocks(&self, record: &Record, us: &ShardName, now: Duration) -> Option<Blocked> {
        let proven = |primary: &ShardName, promise: &Promise| {
            record.forks.iter().any(|fork| {
                fork.source == *primary && fork.epoch > promise.epoch && fork.end.is_some()
            })
        };
        let lasting = self.held.promises.iter().filter(|(to, promise)| !proven(to, promise));
        let lasting = lasting.filter_map(|(to, _)| {
            let left = self.ends.get(to)?.checked_sub(now).filter(|left| !left.is_zero())?;
            Some(Blocked { primary: Some(to.clone()), left })
        });
        let forks = record.made_primary(us);
        let unproven = forks.iter().any(|fork| fork.end.is_none());
        let anyone = self.anyone_left(now).filter(|_| unproven);
        let anyone = anyone.map(|left| Blocked { primary: None, left });
        lasting.chain(anyone).max_by_key(|blocked| blocked.left)
    }

    fn anyone_left(&self, now: Duration) -> Option<Duration> {
        if !self.held.anyone {
            return None;
        }
        // Where no record has been seen yet, nobody can be promoted either.
        let end = self.anyone_ends?;
        end.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// The longest that it refuses to be promoted still.
    pub(super) fn longest(&self, now: Duration) -> Duration {
        let ends = self.ends.values().copied().chain(self.anyone_ends);
        ends.map(|end| end.saturating_sub(now)).max().unwrap_or_default()
    }

    /// What others may know: of refusals only what is on the disk.
    pub(super) fn says(&self, (now, wall): Times) -> Promises {
        let left = |to: &ShardName| {
            let of = self.ends.get(to).map_or(Duration::ZERO, |end| end.saturating_sub(now));
            of.max(self.anyone_left(now).unwrap_or_default())
        };
        let to = self.until.keys().chain(self.synced.none_below.keys());
        let given = to.filter_map(|to| {
            let left = left(to);
            // Rounded up: nobody takes it for over before it is.
            let left_ms = u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            let known = self.until.get(to).copied();
            let until = known.or((left_ms > 0).then(|| wall.after(left)))?;
            Some((to.clone(), Promised { left_ms, until }))
        });
        Promises { given: given.collect(), none_below: self.synced.none_below.clone() }
    }
}

impl Held {
    /// From the bytes of the file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let held: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        match held.format {
            FORMAT => Ok(held),
            format => Err(format!("it has format {format}, and this version knows {FORMAT}")),
        }
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and numbers have a JSON form")
    }
}

#[cfg(test)]
impl Held {
    /// As of a node that has promised nothing, whatever it had.
    pub(super) fn blank(lease_ms: u64) -> Self {
        Self { format: FORMAT, lease_ms, ..Self::default() }
    }
}
