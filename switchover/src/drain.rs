//! Between freeze and commit: every shard of the target has applied each log to its end.
//!
//! Planned, each source node says where its log ends (its end batch). Unplanned, a dead node's end
//! comes from its sidecar, which fenced and read the log; where neither can speak, one full lease
//! passes, what was archived by then is read by whoever can, and what is missing is bounded by the age
//! of what was applied last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use topology::members::{AppliedStatus, BucketStatus, ReceiveStatus};
use topology::record::Fork;
use topology::{FreezeId, ServiceView, ShardName};
use wal::Position;

use crate::operation::Operation;
use crate::plan::pairs;
use crate::report::{Lost, ms};
use crate::silence::{MARGIN, Promised, unknown};
use crate::wait::{Look, Waited, all, until};

/// How long a commit waits for proxies that have not said that they hold; nodes refuse anyway.
const HOLD_WAIT: Duration = Duration::from_millis(100);
/// Where a source's log ends; `None` if that cannot be known now.
pub(crate) type Ends = BTreeMap<ShardName, Option<Position>>;

/// How often each target had read its source's archive when the ends were known.
type Looks = BTreeMap<(ShardName, ShardName), u64>;

/// A look that had begun by then may have missed something; the one after it has not.
const LOOKS: u64 = 2;

/// What a target's sidecar receives of a source.
pub(crate) fn receiving<'v>(
    view: &'v ServiceView,
    source: &ShardName,
    target: &ShardName,
) -> Option<&'v ReceiveStatus> {
    view.sidecars.get(target)?.receiving.get(&source.to_string())
}

fn over() -> Stop {
    Stop::new(Exit::RolledBack, "the freeze was ended by someone else, or its deadline passed")
}

/// What a target has applied of a source.
pub(crate) fn applied<'v>(
    view: &'v ServiceView,
    source: &ShardName,
    target: &ShardName,
) -> Option<&'v AppliedStatus> {
    view.nodes.get(target)?.applied.get(&source.to_string())
}

/// Whether who has applied this has all of a log that ends at `end`.
pub(crate) fn is_level(freeze: FreezeId, at: &AppliedStatus, end: Position) -> bool {
    let reached = at.position.timeline == end.timeline && at.position.sequence >= end.sequence;
    at.ended == Some(freeze) || reached
}

impl Operation<'_> {
    fn pairs(&self) -> Vec<(ShardName, ShardName)> {
        pairs(&self.record, &self.freeze.shards, &self.freeze.to)
    }

    /// Waits for every end batch, and until it is applied everywhere.
    pub(crate) async fn drain_planned(&mut self) -> Result<Vec<Fork>, Stop> {
        let mut view = self.view.clone();
        let ended = until(self.tool, &mut view, self.deadline, |view| {
            if self.is_over(view) {
                return Look::Over;
            }
            let end = |shard: &ShardName| Some((shard.clone(), Some(self.end_batch(view, shard)?)));
            let ends: Ends = self.freeze.shards.iter().filter_map(end).collect();
            ends.keys().for_each(|shard| self.mark(shard, "end"));
            let late = self.freeze.shards.iter().filter(|s| !ends.contains_key(*s));
            all(ends.clone(), late.map(|s| format!("{s} has not ended its log")).collect())
        });
        let ends = self.settled(ended.await)?;
        self.done("end", false).await;
        let drained = until(self.tool, &mut view, self.deadline, |view| {
            if self.is_over(view) { Look::Over } else { self.look_level(view, &ends) }
        });
        let forks = self.settled(drained.await)?;
        self.report.lost = Some(Lost::Known(0));
        let hold = Instant::now().max(self.frozen + HOLD_WAIT).min(self.deadline);
        self.wait_holding(hold).await;
        self.done("drain", false).await;
        Ok(forks)
    }

    fn settled<T>(&self, waited: Waited<T>) -> Result<T, Stop> {
        match waited {
            Waited::Done(found) => Ok(found),
            Waited::Over => Err(over()),
            Waited::TimedOut(missing) => {
                Err(Stop::new(Exit::RolledBack, format!("the freeze's time is up: {missing}")))
            }
        }
    }

    fn end_batch(&self, view: &ServiceView, shard: &ShardName) -> Option<Position> {
        let (freeze, end) = view.nodes.get(shard)?.ended?;
        (freeze == self.freeze.id).then_some(end)
    }

    /// The forks, once every target has everything whose end is known.
    fn look_level(&self, view: &ServiceView, ends: &Ends) -> Look<Vec<Fork>> {
        let mut missing = Vec::new();
        let mut forks = Vec::new();
        for (source, target) in self.pairs() {
            let end = ends.get(&source).copied().flatten();
            match applied(view, &source, &target) {
                None => missing.push(format!("{target} says nothing of {source}")),
                Some(at) => {
                    match end {
                        Some(end) if !is_level(self.freeze.id, at, end) => {
                            missing.push(format!("{target} has not applied all of {source}"));
                        }
                        Some(_) => self.mark(&target, "level"),
                        None => {}
                    }
                    forks.push(self.fork(&source, &target, at.position, end));
                }
            }
        }
        all(forks, missing)
    }

    fn fork(
        &self,
        source: &ShardName,
        target: &ShardName,
        at: Position,
        end: Option<Position>,
    ) -> Fork {
        Fork {
            epoch: self.record.epoch.next(),
            freeze: self.freeze.id,
            source: source.clone(),
            target: target.clone(),
            at,
            end,
            rest: Default::default(),
        }
    }

    /// Gives proxies a moment to say that they hold, and names those that have not.
    async fn wait_holding(&mut self, deadline: Instant) {
        let mut view = self.view.clone();
        let id = self.freeze.id;
        let not_holding = |view: &ServiceView| {
            let late = view.proxies.values().filter(|p| p.holding != Some(id));
            late.map(|p| p.id.clone()).collect::<Vec<_>>()
        };
        let _ = until(self.tool, &mut view, deadline, |view| all((), not_holding(view))).await;
        self.report.proxies_not_holding = not_holding(&view.borrow());
    }

    /// Finds the end of each log or gives it up, and waits until what there is is applied.
    pub(crate) async fn drain_failover(&mut self) -> Result<Vec<Fork>, Stop> {
        let mut view = self.view.clone();
        let lease = Duration::from_millis(self.record.lease_ms) + MARGIN;
        let (lease_ends, drain_ends) =
            (self.leases_from + lease, self.frozen + self.limits.drain_wait);
        self.tool.progress(format!(
            "waiting for the end of each log: from its node, from its sidecar, or one lease ({} ms) for what cannot be reached",
            lease.as_millis()
        ));
        let mut promised = Promised::default();
        let ended = until(self.tool, &mut view, self.deadline, |view| {
            if self.is_over(view) {
                return Look::Over;
            }
            let now = Instant::now();
            // Whom a primary asks for promises does not change once the freeze is there.
            let current = view.record.as_ref().is_some_and(|(_, seen)| *seen >= self.revision);
            let (mut ends, mut missing) = (Ends::new(), Vec::new());
            for shard in &self.freeze.shards {
                let silent = !view.nodes.contains_key(shard) && !view.sidecars.contains_key(shard);
                let end = self.end_batch(view, shard).or_else(|| self.drained_end(view, shard));
                let by_promise = current.then(|| promised.ends(view, shard, self.record.epoch));
                let (closed, why) = match by_promise {
                    None => (false, "the freeze is not seen yet".to_owned()),
                    Some(Ok(end)) => {
                        let closed = now >= lease_ends && end.is_none_or(|end| now >= end);
                        (closed, format!("the end of {shard} is not known"))
                    }
                    Some(Err(of)) => (false, unknown(shard, &of)),
                };
                let given_up = closed && (silent || now >= drain_ends);
                if end.is_some() || given_up {
                    self.mark(shard, if end.is_some() { "end" } else { "given up" });
                    ends.insert(shard.clone(), end);
                } else {
                    missing.push(why);
                }
            }
            all(ends, missing)
        });
        let ends = self.settled(ended.await)?;
        if ends.values().any(Option::is_none) {
            self.report.lease_wait_ms = Some(ms(self.leases_from.elapsed()));
        }
        self.done("end", false).await;
        let looks = self.looks(&view.borrow());
        let patience = self.deadline.min(Instant::now() + self.limits.drain_wait);
        let drained = until(self.tool, &mut view, patience, |view| {
            if self.is_over(view) {
                return Look::Over;
            }
            let level = self.look_level(view, &ends);
            let waiting = || {
                let archived = self.look_archived(view, &ends, &looks);
                archived.or_else(|| self.look_staged(view, &ends))
            };
            match level {
                Look::Done(forks) => waiting().map_or(Look::Done(forks), Look::Missing),
                level => level,
            }
        });
        let (waited, last) = (drained.await, view.borrow().clone());
        let forks = match waited {
            Waited::Done(forks) => forks,
            Waited::Over => return Err(over()),
            Waited::TimedOut(missing) => {
                self.tool.progress(format!("not everything arrived: {missing}"));
                self.forks_as_they_are(&last, &ends)?
            }
        };
        self.say_archived(&last, &ends);
        self.weigh_loss(&last, &ends, &forks)?;
        self.done("drain", false).await;
        Ok(forks)
    }

    /// The end that a sidecar proved for this freeze. The proof serves only the commit that takes
    /// the fence's epoch.
    fn drained_end(&self, view: &ServiceView, shard: &ShardName) -> Option<Position> {
        let drained = view.sidecars.get(shard)?.drained.as_ref()?;
        let for_this =
            drained.freeze == self.freeze.id && drained.fence <= self.record.epoch.next();
        for_this.then_some(drained.end)
    }

    /// How often each target has read its source's archive.
    fn looks(&self, view: &ServiceView) -> Looks {
        let pairs = self.pairs().into_iter();
        pairs
            .filter_map(|(source, target)| {
                let looks = receiving(view, &source, &target)?.bucket.as_ref()?.looks;
                Some(((source, target), looks))
            })
            .collect()
    }

    /// The pairs of which a source is gone without having said where its log ends, and whose target reads
    /// archives: what the source has archived may be more than what it has sent.
    fn by_archive<'v>(
        &self,
        view: &'v ServiceView,
        ends: &Ends,
    ) -> Vec<(ShardName, ShardName, &'v BucketStatus)> {
        let of = |(source, target): (ShardName, ShardName)| {
            let receiving = receiving(view, &source, &target)?;
            let bucket = receiving.bucket.as_ref()?;
            let comes = receiving.connected && view.sidecars.contains_key(&source);
            let unknown = ends.get(&source).copied().flatten().is_none();
            (unknown && !comes).then_some((source, target, bucket))
        };
        self.pairs().into_iter().filter_map(of).collect()
    }

    /// A target that has not read all that a source had archived by the time that its log had ended.
    fn look_archived(&self, view: &ServiceView, ends: &Ends, looks: &Looks) -> Option<String> {
        let (source, target, _) =
            self.by_archive(view, ends).into_iter().find(|(source, target, bucket)| {
                let before = looks.get(&(source.clone(), target.clone())).copied().unwrap_or(0);
                bucket.looks < before + LOOKS
            })?;
        Some(format!("{target} has not read the archive of {source} to its end"))
    }

    /// Says what archives have brought, or why not.
    fn say_archived(&self, view: &ServiceView, ends: &Ends) {
        for (source, target, bucket) in self.by_archive(view, ends) {
            let end = bucket.end.map_or("nothing".to_owned(), |end| end.to_string());
            self.tool.progress(match &bucket.problem {
                None => {
                    format!("the archive of {source} reaches to {end}, and {target} has all of it")
                }
                Some(why) => format!("the archive of {source} is no help to {target}: {why}"),
            });
        }
    }

    /// What is staged at a target and not applied, of the sources whose end is not known.
    fn look_staged(&self, view: &ServiceView, ends: &Ends) -> Option<String> {
        let waiting = |(source, target): &(ShardName, ShardName)| {
            if ends.get(source).copied().flatten().is_some() {
                return false;
            }
            let staged = receiving(view, source, target).and_then(|receiving| receiving.staged);
            let at = applied(view, source, target).map(|a| a.position);
            staged.zip(at).is_some_and(|(staged, at)| {
                staged.timeline == at.timeline && staged.sequence > at.sequence
            })
        };
        let pairs = self.pairs();
        let (source, target) = pairs.iter().find(|pair| waiting(pair))?;
        Some(format!("{target} has not applied all that it has staged of {source}"))
    }

    fn forks_as_they_are(&self, view: &ServiceView, ends: &Ends) -> Result<Vec<Fork>, Stop> {
        let fork = |(source, target): &(ShardName, ShardName)| {
            let Some(at) = applied(view, source, target) else {
                return Err(Stop::new(
                    Exit::Refused,
                    format!(
                        "{target} is not there or has nothing of {source}, so `{}` cannot take over",
                        self.freeze.to
                    ),
                ));
            };
            Ok(self.fork(source, target, at.position, ends.get(source).copied().flatten()))
        };
        self.pairs().iter().map(fork).collect()
    }
}
