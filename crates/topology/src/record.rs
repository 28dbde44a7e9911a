//! The one record of a service: who may write, under which epoch, and what is being changed.

mod names;
mod parts;
mod rest;

use std::collections::BTreeMap;

use keyspace::{Slot, SlotSet};
use serde::{Deserialize, Serialize};

pub use names::{Epoch, FreezeId, ParseShardError, ShardName, UnixMs, is_name};
pub use parts::{Cause, Cluster, Fork, Freeze, Phase, Reads, Shard};
pub use rest::Rest;

/// The record. Every change of it is one compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The format of this record: 1.
    pub format: u32,
    /// What a reader must know to go by it: none below this level does, and each says so. Whoever
    /// raises it makes sure that all members are of a version that knows it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub level: u32,
    /// The service's name.
    pub service: String,
    /// The current epoch.
    pub epoch: Epoch,
    /// Every shard that is primary for its slots; together they hold every slot once.
    pub primaries: Vec<ShardName>,
    /// What is being changed.
    pub phase: Phase,
    /// How long a primary may write after it asked for its lease.
    pub lease_ms: u64,
    /// The clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// The last switches, newest last: all forks of the last one, and of those before it up to
    /// [`Record::FORKS`] in all.
    pub forks: Vec<Fork>,
    /// Where the reads of each zone go: proxies are told their zone. Beside [`Record::EVERYWHERE`], which
    /// is for proxies whose zone is not named here, or that have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, Reads>,
    /// What a later version says beside that.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What comes first of a record: whether the rest of it can be understood.
#[derive(Deserialize)]
struct Head {
    format: u32,
    #[serde(default)]
    level: u32,
    service: String,
}

impl Head {
    fn check(&self) -> Result<(), String> {
        let Self { format, level, service } = self;
        if *format != Record::FORMAT {
            return Err(format!(
                "the record of service `{service}` has format {format}; this version knows format {}: upgrade this program. Nothing was changed",
                Record::FORMAT
            ));
        }
        if *level > Record::LEVEL {
            return Err(format!(
                "the record of service `{service}` asks for level {level} of whoever goes by it, and this version knows level {}: a newer version has put there what must not be passed over. Upgrade this program. Nothing was changed",
                Record::LEVEL
            ));
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(level: &u32) -> bool {
    *level == 0
}

impl Record {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;
    /// The level up to which this version knows what a record may ask for.
    pub const LEVEL: u32 = 0;
    /// Beyond so many, forks of earlier switches are forgotten.
    pub const FORKS: usize = 64;
    /// The name, in [`Record::reads`], of all zones that are not named. No zone can be called so.
    pub const EVERYWHERE: &str = "*";
    /// The least [`Reads::max_lag_ms`]: an idle primary writes a heartbeat five times a second, and a
    /// bound that heartbeats pass at times would send reads to and fro.
    pub const MAX_LAG_MIN_MS: u64 = 1_000;

    /// A record from its bytes, checked. What this version does not know of it is kept.
    ///
    /// # Errors
    /// It cannot be read, asks for what this version does not know, or cannot be right: a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let unread = |why: serde_json::Error| {
            format!(
                "it cannot be read ({why}): was it written by a newer version? Nothing was changed"
            )
        };
        serde_json::from_slice::<Head>(bytes).map_err(unread)?.check()?;
        let record: Self = serde_json::from_slice(bytes).map_err(unread)?;
        record.validate()?;
        Ok(record)
    }

    /// Why this record cannot be right; every reader checks before it believes.
    pub fn validate(&self) -> Result<(), String> {
        Head { format: self.format, level: self.level, service: self.service.clone() }.check()?;
        for (name, cluster) in &self.clusters {
            if !is_name(name) {
                return Err(format!("`{name}` is no name for a cluster: letters, digits, - and _"));
            }
            covers_once(cluster.shards.iter().map(|s| &s.slots))
                .map_err(|why| format!("the shards of cluster `{name}` {why}"))?;
        }
        let slots: Option<Vec<_>> = self.primaries.iter().map(|p| self.slots_of(p)).collect();
        let Some(slots) = slots else {
            return Err("a primary is named that is in no cluster".to_owned());
        };
        covers_once(slots.into_iter()).map_err(|why| format!("the primaries {why}"))?;
        for (zone, reads) in &self.reads {
            if zone != Self::EVERYWHERE && !is_name(zone) {
                return Err(format!("`{zone}` is no name for a zone: letters, digits, - and _"));
            }
            if !self.clusters.contains_key(&reads.cluster) {
                return Err(format!(
                    "the reads of zone `{zone}` go to cluster `{}`, which is not in the service",
                    reads.cluster
                ));
            }
            if reads.max_lag_ms < Self::MAX_LAG_MIN_MS {
                return Err(format!(
                    "the reads of zone `{zone}` may be stale by {} ms; the least is {} ms",
                    reads.max_lag_ms,
                    Self::MAX_LAG_MIN_MS
                ));
            }
        }
        Ok(())
    }

    /// Where the reads of a zone go, if not to the primaries.
    pub fn reads_of(&self, zone: Option<&str>) -> Option<&Reads> {
        zone.and_then(|zone| self.reads.get(zone)).or_else(|| self.reads.get(Self::EVERYWHERE))
    }

    /// The forks of the switch that made this shard primary: one for each source whose log it left.
    /// Empty if it has been primary since the service began, or is none.
    pub fn made_primary(&self, name: &ShardName) -> Vec<&Fork> {
        let to_it = || self.forks.iter().filter(|fork| fork.target == *name);
        let last = to_it().map(|fork| fork.epoch).max();
        to_it().filter(|fork| self.is_primary(name) && Some(fork.epoch) == last).collect()
    }

    /// The slots of a shard of the plan.
    pub fn slots_of(&self, name: &ShardName) -> Option<&SlotSet> {
        let cluster = self.clusters.get(&name.cluster)?;
        cluster.shards.get(usize::try_from(name.shard).ok()?).map(|shard| &shard.slots)
    }

    /// Whether this shard is the primary of its slots.
    pub fn is_primary(&self, name: &ShardName) -> bool {
        self.primaries.contains(name)
    }

    /// The primary of a slot.
    pub fn primary_of(&self, slot: Slot) -> Option<&ShardName> {
        self.primaries.iter().find(|p| self.slots_of(p).is_some_and(|s| s.contains(slot)))
    }

    /// The cluster that all primaries are in; `None` where they are in several.
    pub fn active(&self) -> Option<&str> {
        let first = &self.primaries.first()?.cluster;
        self.primaries.iter().all(|p| p.cluster == *first).then_some(first)
    }

    /// The freeze under way, if it concerns this shard.
    pub fn freeze_of(&self, name: &ShardName) -> Option<&Freeze> {
        self.freeze().filter(|freeze| freeze.shards.contains(name))
    }

    /// The freeze under way.
    pub fn freeze(&self) -> Option<&Freeze> {
        match &self.phase {
            Phase::Frozen(freeze) => Some(freeze),
            Phase::Steady => None,
        }
    }

    /// The shards by name with their slots.
    pub fn shards(&self) -> impl Iterator<Item = (ShardName, &SlotSet)> {
        self.clusters.iter().flat_map(|(cluster, plan)| {
            (0..)
                .zip(&plan.shards)
                .map(|(shard, s)| (ShardName { cluster: cluster.clone(), shard }, &s.slots))
        })
    }

    /// The shards that follow this primary: of other clusters, with some of its slots.
    pub fn followers_of(&self, primary: &ShardName) -> Vec<ShardName> {
        let Some(own) = self.slots_of(primary) else { return Vec::new() };
        self.shards()
            .filter(|(name, slots)| {
                name.cluster != primary.cluster && !slots.intersection(own).is_empty()
            })
            .map(|(name, _)| name)
            .collect()
    }

    /// The shards of cluster `to` that hold some of the slots of these.
    pub fn takers(&self, of: &[ShardName], to: &str) -> Vec<ShardName> {
        let held: Vec<_> = of.iter().filter_map(|shard| self.slots_of(shard)).collect();
        let takes = |slots: &SlotSet| held.iter().any(|h| !h.intersection(slots).is_empty());
        let shards = self.shards().filter(|(name, slots)| name.cluster == to && takes(slots));
        shards.map(|(name, _)| name).collect()
    }

    /// The primaries that this shard follows: of other clusters, with some of its slots.
    pub fn sources_of(&self, follower: &ShardName) -> Vec<ShardName> {
        let Some(own) = self.slots_of(follower) else { return Vec::new() };
        let shares = |primary: &&ShardName| {
            let theirs = self.slots_of(primary);
            primary.cluster != follower.cluster
                && theirs.is_some_and(|theirs| !theirs.intersection(own).is_empty())
        };
        self.primaries.iter().filter(shares).cloned().collect()
    }

    /// This record with its freeze ended without a commit. It takes an epoch, because a sidecar
    /// may have fenced its node with the next one already.
    #[must_use]
    pub fn cancelled(&self) -> Self {
        Self { epoch: self.epoch.next(), phase: Phase::Steady, ..self.clone() }
    }

    /// This record with cluster `to` primary of all that is frozen (of everything, if nothing is): the
    /// commit of a switch. Other primaries stay, under the new epoch. `forks` has one fork for each pair
    /// of a frozen source and a target with some of its slots: without them no target knows what it must
    /// have, and none lets itself be promoted.
    #[must_use]
    pub fn committed(&self, to: &str, forks: Vec<Fork>) -> Self {
        let moves = self.freeze().map_or(&self.primaries, |freeze| &freeze.shards);
        let stays = self.primaries.iter().filter(|shard| !moves.contains(shard));
        let takes = self.takers(moves, to);
        let mut primaries: Vec<_> = stays.cloned().chain(takes).collect();
        primaries.sort_by_key(|shard| {
            self.slots_of(shard).and_then(|s| s.ranges().first()).map(|range| range.first.number())
        });
        let keep = Self::FORKS.saturating_sub(forks.len()).min(self.forks.len());
        let mut all = self.forks[self.forks.len() - keep..].to_vec();
        all.extend(forks);
        Self {
            epoch: self.epoch.next(),
            primaries,
            phase: Phase::Steady,
            forks: all,
            ..self.clone()
        }
    }
}

fn covers_once<'a>(sets: impl Iterator<Item = &'a SlotSet>) -> Result<(), String> {
    let mut ranges: Vec<_> = sets.flat_map(|set| set.ranges().iter().copied()).collect();
    ranges.sort_unstable();
    let mut next = 0;
    for range in ranges {
        if range.first.number() != next {
            return Err(format!(
                "do not hold each slot once: look at slot {}",
                range.first.number().min(next)
            ));
        }
        next = range.last.number() + 1;
    }
    if next == keyspace::SLOTS { Ok(()) } else { Err(format!("do not hold slot {next}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::Position;

    fn record() -> Record {
        let shards = |texts: &[&str]| Cluster::of(texts.iter().map(|t| t.parse().unwrap()));
        Record {
            format: 1,
            service: "demo".to_owned(),
            epoch: Epoch(3),
            primaries: vec!["a/0".parse().unwrap(), "a/1".parse().unwrap()],
            phase: Phase::Steady,
            lease_ms: 3_000,
            clusters: BTreeMap::from([
                ("a".to_owned(), shards(&["0-8191", "8192-16383"])),
                ("b".to_owned(), shards(&["0-99,200-16383", "100-199"])),
            ]),
            forks: Vec::new(),
            reads: BTreeMap::new(),
            level: 0,
            rest: Rest::default(),
        }
    }

    #[test]
    fn a_record_reads_back_and_knows_its_followers() {
        let record = record();
        assert_eq!(record.validate(), Ok(()));
        assert_eq!(record.active(), Some("a"));
        let names = |shard: &str| {
            let followers = record.followers_of(&shard.parse().unwrap());
            followers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("a/0"), ["b/0", "b/1"]);
        assert_eq!(names("a/1"), ["b/0"]);
        let sources = |shard: &str| {
            let sources = record.sources_of(&shard.parse().unwrap());
            sources.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sources("b/0"), ["a/0", "a/1"]);
        assert_eq!(sources("b/1"), ["a/0"]);
        assert!(sources("a/0").is_empty() && sources("c/0").is_empty());
        let text = serde_json::to_string_pretty(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn reads_of_a_zone_go_where_the_record_says() {
        let mut record = record();
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains("reads"), "versions before it know no such field: {text}");
        let to = |cluster: &str| Reads::to(cluster, 5_000);
        record.reads.insert("west".to_owned(), to("b"));
        assert_eq!(record.validate(), Ok(()));
        assert_eq!(record.reads_of(Some("west")), Some(&to("b")));
        assert_eq!((record.reads_of(Some("east")), record.reads_of(None)), (None, None));
        record.reads.insert(Record::EVERYWHERE.to_owned(), to("a"));
        assert_eq!(record.reads_of(Some("east")), Some(&to("a")));
        assert_eq!(record.reads_of(None), Some(&to("a")));
        assert_eq!(record.reads_of(Some("west")), Some(&to("b")), "the zone's own comes first");
        let after = record.committed("b", Vec::new());
        assert_eq!(after.reads, record.reads, "a switch leaves routing as it is");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        record.reads.insert("west".to_owned(), to("c"));
        assert!(record.validate().unwrap_err().contains("not in the service"));
        record.reads.insert("west".to_owned(), Reads { max_lag_ms: 10, ..to("b") });
        assert!(record.validate().unwrap_err().contains("the least is 1000 ms"));
    }

    #[test]
    fn a_commit_moves_every_slot_and_takes_an_epoch() {
        let after = record().committed("b", Vec::new());
        assert_eq!((after.epoch, after.active()), (Epoch(4), Some("b")));
        assert_eq!(after.validate(), Ok(()));
        assert_eq!(record().cancelled().epoch, Epoch(4));
    }

    #[test]
    fn what_is_not_frozen_stays_where_it_is() {
        let mut record = record();
        record.clusters.insert("b".to_owned(), record.clusters["a"].clone());
        let shards: Vec<ShardName> = vec!["a/1".parse().unwrap()];
        record.phase = Phase::Frozen(Freeze {
            id: FreezeId(1),
            cause: Cause::Switchover,
            shards: shards.clone(),
            to: "b".to_owned(),
            deadline: UnixMs(2),
            since: UnixMs(1),
            rest: Rest::default(),
        });
        let after = record.committed("b", Vec::new());
        let names: Vec<_> = after.primaries.iter().map(ToString::to_string).collect();
        assert_eq!((names, after.active()), (vec!["a/0".to_owned(), "b/1".to_owned()], None));
        assert_eq!((after.validate(), after.epoch), (Ok(()), Epoch(4)));
        assert_eq!(record.takers(&shards, "b"), ["b/1".parse().unwrap()]);
    }

    #[test]
    fn the_forks_of_the_last_switch_are_never_forgotten() {
        let timeline = wal::TimelineId(1);
        let fork = |epoch, source: &str, target: &str, sequence| Fork {
            epoch: Epoch(epoch),
            freeze: FreezeId(1),
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            at: Position { timeline, sequence: wal::Sequence(sequence) },
            end: None,
            rest: Rest::default(),
        };
        let many: Vec<_> = (0..100).map(|n| fork(4, "a/0", &format!("b/{n}"), n)).collect();
        let once = record().committed("b", many);
        assert_eq!(once.forks.len(), 100);
        assert_eq!(once.made_primary(&"b/1".parse().unwrap()).len(), 1);
        // Two cancels later they still say what the primary had to have.
        let later = once.cancelled().cancelled();
        assert_eq!(later.made_primary(&"b/0".parse().unwrap())[0].epoch, Epoch(4));
        let back = later.committed("a", vec![fork(7, "b/0", "a/0", 9), fork(7, "b/1", "a/0", 9)]);
        assert_eq!(back.forks.len(), Record::FORKS);
        assert_eq!(back.made_primary(&"a/0".parse().unwrap()).len(), 2);
        assert!(back.made_primary(&"b/0".parse().unwrap()).is_empty(), "it is no primary now");
    }

    #[test]
    fn a_plan_with_a_hole_or_an_overlap_is_refused() {
        let mut hole = record();
        hole.clusters.get_mut("b").unwrap().shards[1].slots = "100-198".parse().unwrap();
        assert!(hole.validate().unwrap_err().contains("slot 199"));
        let mut overlap = record();
        overlap.clusters.get_mut("a").unwrap().shards[1].slots = "8000-16383".parse().unwrap();
        assert!(overlap.validate().unwrap_err().contains("slot 8000"));
    }
}
