//! Time, messages, faults, and the registry.

use std::collections::{BTreeMap, BTreeSet};

use topology::members::{Promisers, Promises};
use topology::record::{Cluster, Phase, Shard, UnixMs};
use topology::{Epoch, Record, Revision, ShardName};

use super::node::{Node, Reply};
use super::tool::Tool;

/// Microseconds.
pub(super) type Us = u64;
pub(super) const MS: Us = 1000;
pub(super) const LEASE_MS: u64 = 1000;
/// Clusters a, b and c of one shard each; c is added later.
pub(super) const NODES: usize = 3;

/// A rule that is left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    ToolCountsLeasesOnly,
    ForgetsAtRestart,
}

/// What happens, and to whom; `life` tells a process from the one before it.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Tick { node: usize, life: u64 },
    ToRegistry { node: usize, life: u64, call: u64, what: Call },
    ToNode { node: usize, life: u64, call: u64, what: Reply },
    Ask { from: usize, life: u64, to: usize, wish: u64, epoch: Epoch },
    Answer { from: usize, life: u64, to: usize, wish: u64, given: bool },
    Start { node: usize },
    Fault,
    Tool,
}

#[derive(Clone, Debug)]
pub(super) enum Call {
    Renew { revision: Revision, named: Option<BTreeSet<ShardName>> },
    Read,
    Publish { promises: Promises, ended: Option<Epoch> },
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Us,
    random: u64,
    queue: BTreeMap<(Us, u64), Event>,
    queued: u64,
    pub(super) flaw: Flaw,
    calm: bool,
    pub(super) nodes: Vec<Node>,
    tool: Tool,
    // The registry.
    pub(super) record: Record,
    pub(super) revision: Revision,
    pub(super) promisers: BTreeMap<ShardName, Promisers>,
    pub(super) members: BTreeMap<usize, (Promises, Option<Epoch>)>,
    // Who does not reach whom; the registry has the number after the last node's.
    cuts: BTreeSet<(usize, usize)>,
    pub(super) switches: u64,
    pub(super) promised: u64,
    pub(super) written: u64,
    pub(super) looks: u64,
}

pub(super) fn name(node: usize) -> ShardName {
    ["a/0", "b/0", "c/0"][node].parse().unwrap()
}

pub(super) fn number(shard: &ShardName) -> usize {
    (0..NODES).find(|node| name(*node) == *shard).unwrap()
}

const REGISTRY: usize = NODES;

impl World {
    pub(super) fn new(seed: u64, flaw: Flaw) -> Self {
        let cluster = || {
            let shard = Shard { slots: "0-16383".parse().unwrap(), rest: Default::default() };
            Cluster { shards: vec![shard], rest: Default::default() }
        };
        let record = Record {
            format: 1,
            level: 0,
            service: "demo".to_owned(),
            epoch: Epoch(1),
            primaries: vec![name(0)],
            phase: Phase::Steady,
            lease_ms: LEASE_MS,
            clusters: ["a", "b"].map(|name| (name.to_owned(), cluster())).into(),
            forks: Vec::new(),
            reads: BTreeMap::new(),
            rest: Default::default(),
        };
        let mut world = Self {
            now: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed,
            queue: BTreeMap::new(),
            queued: 0,
            flaw,
            calm: false,
            nodes: Vec::new(),
            tool: Tool::default(),
            record,
            revision: Revision(1),
            promisers: BTreeMap::new(),
            members: BTreeMap::new(),
            cuts: BTreeSet::new(),
            switches: 0,
            promised: 0,
            written: 0,
            looks: 0,
        };
        for node in 0..NODES {
            // Rates differ by less than 2 %.
            let rate = 990_500 + world.upto(19_000);
            let offset = world.upto(1_000_000_000);
            world.nodes.push(Node::new(node, rate, offset));
            world.schedule(world.now, Event::Start { node });
        }
        world.schedule(500 * MS, Event::Fault);
        world.schedule(2_000 * MS, Event::Tool);
        world
    }

    /// Nothing fails by itself, and nobody fails over.
    pub(super) fn calm(seed: u64) -> Self {
        Self { calm: true, ..Self::new(seed, Flaw::None) }
    }

    /// Below `bound`.
    pub(super) fn upto(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.upto(100) < percent
    }

    pub(super) fn schedule(&mut self, at: Us, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    /// How long a message takes: mostly short, now and then very long.
    fn delay(&mut self) -> Us {
        if !self.calm && self.chance(4) {
            self.upto(2_500 * MS)
        } else {
            MS / 2 + self.upto(20 * MS)
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        !self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// Sends, unless there is no way now; a tenth of what goes while faults are about is lost besides.
    pub(super) fn send(&mut self, from: usize, to: usize, event: Event) {
        let lost = !self.calm && self.chance(3);
        if self.reaches(from, to) && !lost {
            let at = self.now + self.delay();
            self.schedule(at, event);
        }
    }

    /// Calls the registry: an answer, or silence after half a lease.
    pub(super) fn call(&mut self, node: usize, what: Call) -> u64 {
        let (life, call) = (self.nodes[node].life, self.queued + 1);
        let silent = self.now + LEASE_MS / 2 * MS;
        self.schedule(silent, Event::ToNode { node, life, call, what: Reply::Silent });
        self.send(node, REGISTRY, Event::ToRegistry { node, life, call, what });
        call
    }

    fn answer(&mut self, node: usize, life: u64, call: u64, what: Call) {
        let reply = match what {
            Call::Renew { revision, .. } if revision != self.revision => Reply::Conflict(revision),
            Call::Renew { named, .. } => {
                if let Some(of) = named {
                    let shard = name(node);
                    self.promisers.insert(shard.clone(), Promisers { shard, of, at: UnixMs(0) });
                }
                Reply::Renewed
            }
            Call::Read => Reply::Record(Box::new(self.record.clone()), self.revision),
            Call::Publish { promises, ended } => {
                // Also of a process that has ended, and behind what was told later.
                self.members.insert(node, (promises, ended));
                return;
            }
        };
        self.send(REGISTRY, node, Event::ToNode { node, life, call, what: reply });
    }

    /// A compare-and-swap of the tool's, which reaches the registry always.
    pub(super) fn swap(&mut self, expected: Revision, next: Record) -> bool {
        let won = expected == self.revision;
        if won {
            (self.record, self.revision) = (next, Revision(self.revision.0 + 1));
        }
        won
    }

    pub(super) fn kill_registry(&mut self) {
        self.cuts.extend((0..NODES).map(|node| (node, REGISTRY)));
    }

    pub(super) fn kill_node(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    fn fault(&mut self) {
        match self.upto(10) {
            0..=3 => {
                let (a, b) = (self.upto(4) as usize, self.upto(4) as usize);
                if a != b {
                    self.cuts.insert((a.min(b), a.max(b)));
                }
            }
            4 => self.kill_registry(),
            5 | 6 => self.cuts.clear(),
            7 | 8 => {
                let node = self.upto(NODES as u64) as usize;
                self.nodes[node].kill();
                let back = self.now + self.upto(1_500 * MS);
                self.schedule(back, Event::Start { node });
            }
            _ if !self.record.clusters.contains_key("c") && self.record.freeze().is_none() => {
                let mut next = self.record.clone();
                next.clusters.insert("c".to_owned(), next.clusters["a"].clone());
                let _ = self.swap(self.revision, next);
            }
            _ => {}
        }
        let again = self.now + 50 * MS + self.upto(1_200 * MS);
        self.schedule(again, Event::Fault);
    }

    /// Goes on for so long; what went wrong, if anything did.
    pub(super) fn run(&mut self, seconds: u64) -> Option<String> {
        let end = self.now + seconds * 1000 * MS;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
            let writers: Vec<_> =
                (0..NODES).filter(|node| self.nodes[*node].writes(self.now)).collect();
            self.looks += 1;
            self.written += writers.len() as u64;
            if writers.len() > 1 {
                let names: Vec<_> = writers.iter().map(|node| name(*node).to_string()).collect();
                let at = self.now as f64 / 1e6;
                return Some(format!(
                    "{} write at {at:.3} s, epoch {}",
                    names.join(" and "),
                    self.record.epoch
                ));
            }
        }
        self.now = end;
        None
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::ToRegistry { node, life, call, what } => self.answer(node, life, call, what),
            Event::ToNode { node, life, call, what } => self.heard(node, life, call, what),
            Event::Ask { from, life, to, wish, epoch } => self.asked((from, life), to, wish, epoch),
            Event::Answer { from, life, to, wish, given } => {
                self.answered((from, life), to, wish, given);
            }
            Event::Start { node } => self.start(node),
            Event::Fault if self.calm => {}
            Event::Fault => self.fault(),
            Event::Tool if self.calm => {}
            Event::Tool => {
                let mut tool = std::mem::take(&mut self.tool);
                tool.step(self);
                self.tool = tool;
                let again = self.now + 20 * MS;
                self.schedule(again, Event::Tool);
            }
        }
    }
}
