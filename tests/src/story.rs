//! How a story of two clouds is told: both up and level, traffic on, something happens, and in the
//! end nothing is lost and both hold the same.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Result, ensure};
use keyspace::SlotSet;

use crate::check::digest::{self, Comparison};
use crate::check::{self, Survivors, Verdict};
use crate::clouds::control::{Run, replicator, switchover};
use crate::clouds::{Clouds, Observer, Plan};
use crate::load::{Ledger, Traffic, TrafficPlan, fill, packages};
use crate::wait;

/// How long anything in a story may take before it counts as stuck.
pub const STUCK: Duration = Duration::from_secs(60);
/// Packages that a story begins with.
const PACKAGES: usize = 300;

/// Two clouds, level.
pub struct Story {
    /// The clouds.
    pub clouds: Clouds,
    /// What the registry shows.
    pub observer: Observer,
}

impl Story {
    /// Brings two clouds up and waits until b follows a.
    pub fn begin() -> Self {
        Self::begin_with(|plan| plan)
    }

    /// The same with a changed plan.
    pub fn begin_with(change: impl FnOnce(Plan) -> Plan) -> Self {
        let clouds = Clouds::for_test_with(change);
        let observer = Observer::of(&clouds.layout).unwrap_or_else(|e| panic!("{e:#}"));
        let story = Self { clouds, observer };
        story.followed("a", "b");
        story
    }

    /// Loads some packages, so that there is data of every type.
    pub fn load(&self) {
        let load = || -> Result<()> {
            let (packages, _) = packages::read()?;
            let some = packages.get(..PACKAGES.min(packages.len())).unwrap_or_default();
            let proxies = self.clouds.proxies();
            fill::fill(proxies.first().map_or("", String::as_str), some, 0, &AtomicU64::new(0))?;
            Ok(())
        };
        load().unwrap_or_else(|e| panic!("loading failed: {e:#}"));
    }

    /// Starts traffic through the proxies of all clouds.
    pub fn traffic(&self) -> Traffic {
        Traffic::start(TrafficPlan::small("story", self.clouds.proxies()))
    }

    /// Waits for this many more acknowledged writes.
    pub fn more(&self, traffic: &Traffic, writes: u64) {
        let enough = traffic.acknowledged() + writes;
        let more = wait::until("writes to be acknowledged", STUCK, || {
            ensure!(
                traffic.acknowledged() >= enough,
                "{} of {enough}; {:?}",
                traffic.acknowledged(),
                traffic.ledger().errors
            );
            Ok(())
        });
        more.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Waits until every shard of a cloud follows the active one.
    pub fn followed(&self, active: &str, standby: &str) {
        let streams = self.streams(active, standby);
        let what = format!("{standby} to follow {active}");
        wait::until(&what, STUCK, || self.observer.is_followed(active, streams))
            .unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// How many streams lead from one cloud to another: from each shard to each that has some of
    /// its slots.
    fn streams(&self, active: &str, standby: &str) -> usize {
        let slots = |cloud: &str| -> Vec<SlotSet> {
            let shards = &self.clouds.cloud(cloud).shards;
            shards.iter().map(|s| s.slots.parse().unwrap_or_default()).collect()
        };
        let targets = slots(standby);
        let of = |source: &SlotSet| {
            targets.iter().filter(|target| !source.intersection(target).is_empty()).count()
        };
        slots(active).iter().map(of).sum()
    }

    /// Runs `godwit-switchover`.
    pub fn switchover(&self, args: &[&str]) -> Run {
        switchover(&self.clouds.layout, args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Runs `godwit-switchover`, which must succeed.
    pub fn switch(&self, args: &[&str]) -> Run {
        let run = self.switchover(args);
        assert_eq!(run.code, 0, "{args:?} was answered: {}", run.said);
        run
    }

    /// Runs `godwit-replicator` with a verb, which must succeed.
    pub fn replicator(&self, args: &[&str]) -> Run {
        let run = replicator(args).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(run.code, 0, "{args:?} was answered: {}", run.said);
        run
    }

    /// Cuts the link from a to b, lets `strand` write to a, loses a's machines, and fails over to b.
    /// The story must have toxic proxies.
    pub fn strand(&mut self, strand: impl FnOnce(&mut Self)) {
        self.link("b", false);
        strand(self);
        let shards = self.clouds.cloud("a").shards.len();
        for number in 0..shards {
            let shard = self.clouds.shard(&format!("a/{number}"));
            let killed = shard.sidecar.process.kill9().and_then(|()| shard.node.process.kill9());
            killed.unwrap_or_else(|e| panic!("{e:#}"));
        }
        let failover = ["failover", "--to", "b", "--yes", "--drain-wait", "2s", "--accept-loss"];
        self.switch(&[&failover[..], &["--no-wait-reverse"]].concat());
    }

    /// The link to the sidecars of a cloud, cut or well.
    pub fn link(&self, cloud: &str, well: bool) {
        let toxics = self.clouds.toxics.as_ref().expect("the plan has toxic proxies");
        for number in 0..self.clouds.cloud(cloud).shards.len() {
            let name = format!("{cloud}-{number}-stream");
            toxics.enable(&name, well).unwrap_or_else(|e| panic!("{e:#}"));
        }
    }

    /// Waits until both clouds compare as equal, and says what that covers. A stream that comes
    /// back after a fault needs a moment, so one failure to compare is not the end.
    pub fn equal(&self, active: &str, standby: &str) -> Comparison {
        self.followed(active, standby);
        let (active, standby) = (self.clouds.cloud(active), self.clouds.cloud(standby));
        let found =
            wait::until("both clouds to be compared", STUCK, || digest::compare(active, standby));
        let found = found.unwrap_or_else(|e| panic!("{e:#}"));
        assert!(found.equal(), "{} and {} differ: {found:?}", active.name, standby.name);
        assert!(found.keys > 0, "the comparison covered nothing: {found:?}");
        found
    }

    /// Ends the traffic, stops the other cloud, and checks the survivor's nodes.
    pub fn judge(&mut self, traffic: Traffic, survivor: &str) -> (Ledger, Verdict) {
        let ledger = traffic.stop();
        let others = self.clouds.layout.clouds.iter().map(|c| c.name.clone());
        for other in others.filter(|name| name != survivor).collect::<Vec<_>>() {
            self.clouds.stop_cloud(&other).unwrap_or_else(|e| panic!("{e:#}"));
        }
        let verdict = Survivors::of(self.clouds.cloud(survivor))
            .and_then(|mut survivors| check::check(&ledger, &mut survivors));
        let verdict = verdict.unwrap_or_else(|e| panic!("the checker cannot read: {e:#}"));
        assert_eq!(
            verdict.unknown_applied + verdict.unknown_not_applied,
            ledger.unknown(),
            "every unknown outcome is resolved"
        );
        (ledger, verdict)
    }
}
