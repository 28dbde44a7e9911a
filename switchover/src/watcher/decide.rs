//! What of a look at the service is a reason to act. Nothing here talks to anybody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use ops::units::Span;
use topology::operator::Auto;
use topology::record::UnixMs;
use topology::verdict::{self, Verdict};
use topology::{Record, ServiceView, ShardName};

use super::accepted;
use crate::args::Accept;
use crate::guards::Past;

/// A proxy that was seen within this is one that should be there.
const REMEMBER: Duration = Duration::from_secs(600);

/// What this watcher has seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Since when, on this watcher's own clock, each primary has been down in every look.
    down: BTreeMap<ShardName, Instant>,
    /// Proxies by id: the cluster that they stand in, and when they were there last.
    proxies: BTreeMap<String, (String, Instant)>,
}

/// That a verdict has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) shard: ShardName,
    pub(super) down: bool,
    pub(super) says: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Act {
    /// Who takes over.
    pub(super) to: String,
    /// The primaries that are down.
    pub(super) shards: Vec<ShardName>,
    /// Whether only they move.
    pub(super) only_failed: bool,
    /// Which loss is accepted.
    pub(super) accept: Accept,
    /// How long a verdict had to hold.
    pub(super) wait: Duration,
    /// How long ago the last switch must be.
    pub(super) min_interval: Duration,
    /// In a sentence.
    pub(super) why: String,
}

fn says(verdict: &Verdict) -> String {
    format!(
        "{} of {} observers call {} {}{}",
        verdict.against(),
        verdict.voices.len(),
        verdict.shard,
        if verdict.is_down() { "down" } else { "down, so it is up" },
        verdict.reason().map(|why| format!(": {why}")).unwrap_or_default()
    )
}

impl Seen {
    /// Nothing is known to be down.
    pub(super) fn forget(&mut self) {
        self.down.clear();
    }

    /// Takes in a look; what has changed.
    pub(super) fn look(&mut self, view: &ServiceView, now: Instant) -> Vec<Change> {
        for proxy in view.proxies.values() {
            self.proxies.insert(proxy.id.clone(), (proxy.cluster.clone(), now));
        }
        self.proxies.retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBER);
        let verdicts = verdict::of(view);
        let mut changes = Vec::new();
        let is_down = |shard: &ShardName| verdicts.iter().any(|v| v.shard == *shard && v.is_down());
        let over: Vec<_> = self.down.keys().filter(|shard| !is_down(shard)).cloned().collect();
        for shard in over {
            self.down.remove(&shard);
            let verdict = verdicts.iter().find(|verdict| verdict.shard == shard);
            let says = verdict.map_or_else(|| format!("{shard} is no primary any more"), says);
            changes.push(Change { shard, down: false, says });
        }
        for verdict in verdicts.iter().filter(|verdict| verdict.is_down()) {
            if !self.down.contains_key(&verdict.shard) {
                self.down.insert(verdict.shard.clone(), now);
                let (shard, says) = (verdict.shard.clone(), says(verdict));
                changes.push(Change { shard, down: true, says });
            }
        }
        changes
    }

    /// What is to be done now; an error says what is down and why nothing is done about it.
    pub(super) fn decide(&self, view: &ServiceView, now: Instant) -> Result<Option<Act>, String> {
        let Some(record) = view.record() else { return Ok(None) };
        if self.down.is_empty() {
            return Ok(None);
        }
        let all: Vec<_> = self.down.keys().map(ToString::to_string).collect();
        let what = format!("down: {}", all.join(", "));
        let Some(auto) = &view.auto else {
            return Err(format!("{what}; `auto` is off: an operator decides"));
        };
        let wait = Duration::from_millis(auto.wait_ms);
        let held = |since: &Instant| now.saturating_duration_since(*since) >= wait;
        let shards: Vec<_> =
            self.down.iter().filter(|(_, since)| held(since)).map(|(s, _)| s.clone()).collect();
        if shards.is_empty() {
            return Err(format!("{what}; it must hold for {}", Span(wait)));
        }
        if let Some(quiet) = &view.maintenance {
            return Err(format!("{what}; maintenance is on, by {}", quiet.by));
        }
        if let Some(claim) = &view.claim {
            return Err(format!("{what}; {} is at a {}", claim.by, claim.operation));
        }
        if record.freeze().is_some() {
            return Err(format!("{what}; a switch is under way"));
        }
        self.reaches_others(view, record, &shards).map_err(|why| format!("{what}; {why}"))?;
        let Some(to) = target(auto, record, &shards) else {
            let all = auto.to.join(", ");
            return Err(format!("{what}; none of the clusters that may take over ({all}) can"));
        };
        Ok(Some(Act {
            to,
            shards,
            only_failed: auto.only_failed,
            accept: accepted(&auto.max_loss)?,
            wait,
            min_interval: Duration::from_millis(auto.min_interval_ms),
            why: what,
        }))
    }

    /// Whether most observers that stand elsewhere are there: where they are not, the silence may be
    /// this side's own.
    fn reaches_others(
        &self,
        view: &ServiceView,
        record: &Record,
        shards: &[ShardName],
    ) -> Result<(), String> {
        let elsewhere = |cluster: &str| shards.iter().all(|shard| shard.cluster != cluster);
        let sidecars = record.shards().map(|(name, _)| name).filter(|n| elsewhere(&n.cluster));
        let sidecars = sidecars.map(|name| view.sidecars.contains_key(&name));
        let proxies = self.proxies.iter().filter(|(_, (cluster, _))| elsewhere(cluster));
        let proxies = proxies.map(|(id, _)| view.proxies.contains_key(id));
        let there: Vec<bool> = sidecars.chain(proxies).collect();
        let count = there.iter().filter(|there| **there).count();
        if count * 2 > there.len() {
            return Ok(());
        }
        Err(format!(
            "only {count} of {} observers of other clusters are in the registry: the silence may be theirs, or ours",
            there.len()
        ))
    }
}

/// The first cluster that may take over and is not the one that is down.
fn target(auto: &Auto, record: &Record, shards: &[ShardName]) -> Option<String> {
    let fits = |to: &&String| {
        let there = record.clusters.contains_key(*to);
        there && shards.iter().all(|shard| shard.cluster != **to)
    };
    auto.to.iter().find(fits).cloned()
}

/// Refuses where the last switch is too young.
pub(super) fn long_enough_ago(past: &Past, act: &Act) -> Result<(), Stop> {
    let Some((what, at)) = &past.last else { return Ok(()) };
    let ago = Duration::from_millis(UnixMs::now().0.saturating_sub(at.0));
    if ago >= act.min_interval {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Refused,
        format!(
            "the last switch ({what}) began {} s ago, and there must be {} before one that nobody asked for (auto on --not-within); an operator decides",
            ago.as_secs(),
            Span(act.min_interval)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::members::{ProxyMember, Sight};
    use topology::operator::{Actor, Maintenance};
    use topology::record::{Cluster, Phase};
    use topology::{Epoch, Revision};

    const WAIT_MS: u64 = 2_000;

    /// Clusters a (active), b and c of one shard; proxies of all three see a/0 so.
    fn view(up: [bool; 3], auto_to: &[&str]) -> ServiceView {
        let cluster = || Cluster::of(["0-16383".parse().unwrap()]);
        let names = ["a", "b", "c"];
        let record = Record {
            format: Record::FORMAT,
            service: "demo".to_owned(),
            epoch: Epoch(1),
            primaries: vec!["a/0".parse().unwrap()],
            phase: Phase::Steady,
            lease_ms: 3_000,
            clusters: names.map(|name| (name.to_owned(), cluster())).into(),
            forks: Vec::new(),
            reads: BTreeMap::new(),
            level: 0,
            rest: Default::default(),
        };
        let proxy = |(up, cluster): (bool, &str)| {
            let sight = Sight { up, since: UnixMs(1), reason: None, flaps: 0 };
            let member = ProxyMember {
                id: format!("{cluster}-proxy"),
                cluster: cluster.to_owned(),
                client: "127.0.0.1:1".to_owned(),
                metrics: None,
                pid: 1,
                version: "0".to_owned(),
                epoch: Epoch(1),
                holding: None,
                hold_ms: None,
                zone: None,
                reads: None,
                sees: BTreeMap::from([("a/0".to_owned(), sight)]),
                at: UnixMs::now(),
            };
            (member.id.clone(), member)
        };
        let auto = Auto {
            to: auto_to.iter().map(|&to| to.to_owned()).collect(),
            max_loss: "0 writes".to_owned(),
            wait_ms: WAIT_MS,
            min_interval_ms: 0,
            only_failed: false,
            by: Actor::default(),
            since: UnixMs(0),
            reason: None,
        };
        ServiceView {
            record: Some((record, Revision(1))),
            proxies: up.into_iter().zip(names).map(proxy).collect(),
            auto: (!auto_to.is_empty()).then_some(auto),
            ..ServiceView::default()
        }
    }

    fn after_wait(view: &ServiceView) -> (Seen, Result<Option<Act>, String>) {
        let start = Instant::now();
        let mut seen = Seen::default();
        // All were there before.
        seen.look(&self::view([true; 3], &[]), start);
        seen.look(view, start);
        let decided = seen.decide(view, start + Duration::from_millis(WAIT_MS));
        (seen, decided)
    }

    #[test]
    fn it_acts_on_a_verdict_that_holds_and_on_nothing_less() {
        let down = view([false, false, true], &["b"]);
        let mut seen = Seen::default();
        let start = Instant::now();
        let changes = seen.look(&down, start);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].down && changes[0].says.contains("2 of 3"), "{changes:?}");
        assert!(seen.decide(&down, start).unwrap_err().contains("must hold for 2s"));
        // The sidecars of b and c are not there, and of the proxies elsewhere two of two are.
        let (_, refused) = after_wait(&down);
        assert!(refused.unwrap_err().contains("2 of 4 observers"), "half is no majority");
        let mut well = view([false, false, true], &["a", "b"]);
        well.record.as_mut().unwrap().0.clusters.remove("c");
        let (_, decided) = after_wait(&well);
        let act = decided.unwrap().unwrap();
        assert_eq!((act.to.as_str(), act.shards), ("b", vec!["a/0".parse().unwrap()]));
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        let small = |auto: &[&str]| {
            let mut view = view([false; 3], auto);
            view.record.as_mut().unwrap().0.clusters.remove("c");
            view
        };
        let refuses = |view: &ServiceView| after_wait(view).1.unwrap_err();
        assert!(refuses(&small(&[])).contains("`auto` is off"));
        assert!(refuses(&small(&["a"])).contains("none of the clusters"));
        let mut quiet = small(&["b"]);
        quiet.maintenance =
            Some(Maintenance { by: Actor::default(), since: UnixMs(0), reason: None });
        assert!(refuses(&quiet).contains("maintenance is on"));
        // One of three calls it down: it is up.
        assert_eq!(after_wait(&view([false, true, true], &["b"])).1, Ok(None));
        // A look at which it was up begins the wait anew.
        let (mut seen, _) = after_wait(&small(&["b"]));
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(seen.look(&view([true; 3], &["b"]), later).len(), 1);
        seen.look(&small(&["b"]), later);
        assert!(seen.decide(&small(&["b"]), later).unwrap_err().contains("must hold"));
        // So does a registry that is silent.
        seen.forget();
        assert_eq!(seen.decide(&small(&["b"]), later + Duration::from_secs(60)), Ok(None));
    }
}
