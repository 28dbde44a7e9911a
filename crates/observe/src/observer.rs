//! One task for each node that is watched, and what all of them have seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyspace::SlotSet;
use ops::metrics::{Counter, Family, Gauge, Labels, Metrics};
use ops::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use topology::members::Sight;
use topology::record::UnixMs;
use topology::{ServiceView, ShardName};

use crate::ask::{Link, Probed};
use crate::damped::Damped;
use crate::times::Times;

/// What a held connection may take at the least to answer, however long its node has been silent.
const ANSWER_WITHIN_MIN: Duration = Duration::from_millis(100);
/// Of the interval, the part after which a failed probe is made again.
const AGAIN: u32 = 4;

/// Standbys that are asked too, for the reads that go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// The shards.
    pub shards: Vec<ShardName>,
    /// How often.
    pub every: Duration,
}

/// Watches the primaries of a service until shutdown. Clones are the same observer.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    times: Times,
    seen: Mutex<Seen>,
    changed: Notify,
    meters: Meters,
}

#[derive(Debug, Default)]
struct Seen {
    primaries: BTreeMap<ShardName, Damped>,
    /// How far each standby was behind, and when it said so.
    lags: BTreeMap<ShardName, (Duration, Instant)>,
}

#[derive(Debug)]
struct Meters {
    up: Family<Labels, Gauge>,
    probes: Family<Labels, Counter>,
}

/// A node to be watched, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    shard: ShardName,
    address: String,
    slots: SlotSet,
    /// For a standby: how often.
    reads: Option<Duration>,
}

impl Observer {
    /// Starts to watch; `readers` says which standbys are asked too.
    pub fn start(
        view: watch::Receiver<Arc<ServiceView>>,
        times: Times,
        readers: impl Fn(&ServiceView) -> Option<Readers> + Send + 'static,
        metrics: &Metrics,
        shutdown: Shutdown,
    ) -> Self {
        let meters = Meters {
            up: metrics.gauges(
                "primary_up",
                "Whether this observer sees a primary serve: 1, or 0 once it has called it down",
            ),
            probes: metrics.counters("probes", "Probes of nodes, by what came of them"),
        };
        let shared = Shared { times, seen: Mutex::default(), changed: Notify::new(), meters };
        let observer = Self(Arc::new(shared));
        tokio::spawn(supervise(observer.clone(), view, readers, shutdown));
        observer
    }

    /// What it sees of each primary that it has a say of, by shard.
    pub fn sights(&self) -> BTreeMap<String, Sight> {
        self.seen(|seen| {
            let sights = seen.primaries.iter();
            sights.filter_map(|(s, d)| Some((s.to_string(), d.sight()?.clone()))).collect()
        })
    }

    /// How far a standby may be behind by now: what it said last, and the time since.
    pub fn behind(&self, shard: &ShardName) -> Option<Duration> {
        self.seen(|seen| seen.lags.get(shard).map(|(lag, at)| *lag + at.elapsed()))
    }

    /// Resolves when what it sees of a primary has changed since the last call.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn seen<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        // Each change of it is whole.
        work(&mut self.0.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn primary<T>(&self, shard: &ShardName, work: impl FnOnce(&mut Damped) -> T) -> T {
        self.seen(|seen| {
            let now = Instant::now();
            work(seen.primaries.entry(shard.clone()).or_insert_with(|| Damped::new(now)))
        })
    }

    fn note(&self, shard: &ShardName, outcome: Result<(), Option<String>>) {
        let (now, wall) = (Instant::now(), UnixMs::now());
        let times = &self.0.times;
        let (changed, sight) = self.primary(shard, |damped| {
            let changed = match outcome {
                Ok(()) => damped.heard(now, wall, times),
                Err(reason) => damped.missed(now, wall, times, reason),
            };
            (changed, damped.sight().cloned())
        });
        let Some(sight) = sight.filter(|_| changed) else { return };
        let label = vec![("primary".to_owned(), shard.to_string())];
        self.0.meters.up.get_or_create(&label).set(i64::from(sight.up));
        match &sight.reason {
            Some(reason) => {
                tracing::warn!(primary = %shard, flaps = sight.flaps, "the primary is called down: {reason}")
            }
            None => tracing::info!(primary = %shard, flaps = sight.flaps, "the primary serves"),
        }
        self.0.changed.notify_one();
    }

    fn count(&self, outcome: &str) {
        let label = vec![("outcome".to_owned(), outcome.to_owned())];
        self.0.meters.probes.get_or_create(&label).inc();
    }
}

/// Keeps a task for each node that is to be watched. Where a node was last seen is remembered: a key
/// that ended with its node is no reason to look away.
async fn supervise(
    observer: Observer,
    mut view: watch::Receiver<Arc<ServiceView>>,
    readers: impl Fn(&ServiceView) -> Option<Readers> + Send + 'static,
    shutdown: Shutdown,
) {
    let mut addresses: BTreeMap<ShardName, String> = BTreeMap::new();
    let mut running: Vec<(Target, AbortHandle)> = Vec::new();
    loop {
        let now = view.borrow_and_update().clone();
        let targets = targets(&now, &mut addresses, readers(&now));
        running.retain(|(target, task)| {
            let stays = targets.contains(target);
            if !stays {
                task.abort();
            }
            stays
        });
        observer.forget(&targets);
        for target in targets {
            if running.iter().all(|(held, _)| *held != target) {
                let task = tokio::spawn(keep_asking(observer.clone(), target.clone()));
                running.push((target, task.abort_handle()));
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { break },
            () = shutdown.cancelled() => break,
        }
    }
    running.iter().for_each(|(_, task)| task.abort());
}

fn targets(
    view: &ServiceView,
    addresses: &mut BTreeMap<ShardName, String>,
    readers: Option<Readers>,
) -> Vec<Target> {
    let Some(record) = view.record() else { return Vec::new() };
    addresses.extend(view.nodes.values().map(|node| (node.shard.clone(), node.client.clone())));
    addresses.retain(|shard, _| record.slots_of(shard).is_some());
    let target = |shard: &ShardName, reads| {
        let (slots, address) = (record.slots_of(shard)?, addresses.get(shard)?);
        Some(Target { shard: shard.clone(), address: address.clone(), slots: slots.clone(), reads })
    };
    let mut targets: Vec<_> = record.primaries.iter().filter_map(|p| target(p, None)).collect();
    if let Some(readers) = readers {
        let shards = readers.shards.iter().filter(|shard| !record.is_primary(shard));
        targets.extend(shards.filter_map(|shard| target(shard, Some(readers.every))));
    }
    targets
}

impl Observer {
    /// What nobody watches any more is nothing to have a say of.
    fn forget(&self, targets: &[Target]) {
        let is = |shard: &ShardName, reads: bool| {
            targets.iter().any(|t| t.shard == *shard && t.reads.is_some() == reads)
        };
        self.seen(|seen| {
            seen.primaries.retain(|shard, _| {
                let stays = is(shard, false);
                if !stays {
                    let label = vec![("primary".to_owned(), shard.to_string())];
                    self.0.meters.up.remove(&label);
                }
                stays
            });
            seen.lags.retain(|shard, _| is(shard, true));
        });
    }

    /// Waits for `work`, and calls the primary down when that is due meanwhile.
    async fn beside<T>(&self, target: &Target, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let due = match target.reads {
                Some(_) => None,
                None => self.primary(&target.shard, |d| d.due(Instant::now(), &self.0.times)),
            };
            let Some(due) = due else { return work.await };
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(due.into()) => self.note(&target.shard, Err(None)),
            }
        }
    }
}

/// Asks one node, until it is told to stop.
async fn keep_asking(observer: Observer, target: Target) {
    let times = observer.0.times;
    let every = target.reads.unwrap_or(times.interval);
    let mut link = None;
    loop {
        let began = Instant::now();
        let held = link.take();
        let was_held = held.is_some();
        let within = match was_held {
            true => {
                let silence = observer.primary_silence(&target);
                times.after.saturating_sub(silence).max(ANSWER_WITHIN_MIN)
            }
            false => times.timeout,
        };
        let asked = tokio::time::timeout(within, ask(held, &target));
        let asked = observer.beside(&target, asked).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(format!("{} has not answered within {} ms", target.address, within.as_millis()))
        });
        let answered = match asked {
            Ok((kept, probed)) => {
                link = Some(kept);
                observer.judge(&target, probed)
            }
            Err(why) => Err(why),
        };
        observer.count(if answered.is_ok() { "answered" } else { "failed" });
        let failed = answered.is_err();
        if target.reads.is_none() {
            observer.note(&target.shard, answered.map_err(Some));
        }
        // A connection that died silently says nothing of its node: a new one is tried at once.
        if link.is_none() && was_held {
            continue;
        }
        let next = began + if failed { every / AGAIN } else { every };
        let wait = next.saturating_duration_since(Instant::now());
        observer.beside(&target, tokio::time::sleep(wait.max(every / AGAIN))).await;
    }
}

async fn ask(held: Option<Link>, target: &Target) -> Result<(Link, Probed), String> {
    if ops::failpoint::hit("probe-cut") {
        return Err("the way to it is cut (a fault that was asked for)".to_owned());
    }
    let mut link = match held {
        Some(link) => link,
        None => Link::connect(&target.address).await?,
    };
    let probed = link.ask(&target.slots, target.reads.is_some()).await?;
    Ok((link, probed))
}

impl Observer {
    fn primary_silence(&self, target: &Target) -> Duration {
        match target.reads {
            Some(_) => Duration::ZERO,
            None => self.primary(&target.shard, |damped| damped.silence(Instant::now())),
        }
    }

    /// What the answers come to; for a standby, keeps how far it is behind.
    fn judge(&self, target: &Target, probed: Probed) -> Result<(), String> {
        let answer = probed.answer()?;
        if target.reads.is_none() {
            return answer.map_or(Ok(()), |answer| answer.serves(self.0.times.timeout));
        }
        let lag = answer.filter(|answer| answer.mode == "standby").and_then(|answer| answer.lag);
        let lag = lag.ok_or("it does not say how far it is behind")?;
        self.seen(|seen| seen.lags.insert(target.shard.clone(), (lag, Instant::now())));
        Ok(())
    }
}
