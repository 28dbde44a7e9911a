//! A node: what it keeps of a record, its lease, and the code under test.

use std::collections::BTreeSet;
use std::time::Duration;

use topology::record::UnixMs;
use topology::{Epoch, Record, Revision, ShardName};

use super::super::DRIFT_PART;
use super::super::book::{Book, Held, Times};
use super::super::wishes::Wishes;
use super::world::{Call, Event, Flaw, LEASE_MS, MS, NODES, Us, World, name, number};

const LEASE: Duration = Duration::from_millis(LEASE_MS);

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Renewed,
    Conflict(Revision),
    Record(Box<Record>, Revision),
    Silent,
}

/// What a node of the model is on its disk, and while it lives.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    /// Millionths of a true second that its clock takes a second for.
    rate: u64,
    offset: Us,
    /// Counts its processes; even: there is none.
    pub(super) life: u64,
    // On its disk.
    disk: Option<Held>,
    /// The epoch that it acted under last, and whether as primary.
    stood: (Epoch, bool),
    pub(super) fence: Epoch,
    // Of its process.
    book: Book,
    wishes: Wishes,
    record: Option<(Record, Revision)>,
    leads: bool,
    lease_end: Duration,
    /// The renewal under way: by its number, when it was asked for, and what it names.
    renewal: Option<(u64, Duration, Epoch, Option<BTreeSet<ShardName>>)>,
    /// The wish under way, and who has promised.
    given: (u64, BTreeSet<ShardName>),
    ended: Option<Epoch>,
}

impl Node {
    pub(super) fn new(number: usize, rate: u64, offset: Us) -> Self {
        Self {
            number,
            rate,
            offset,
            life: 0,
            disk: None,
            stood: (Epoch(0), false),
            fence: Epoch(0),
            book: Book::open(None, Epoch(0), (Duration::ZERO, UnixMs(0))),
            wishes: Wishes::default(),
            record: None,
            leads: false,
            lease_end: Duration::ZERO,
            renewal: None,
            given: Default::default(),
            ended: None,
        }
    }

    pub(super) fn lives(&self) -> bool {
        self.life % 2 == 1
    }

    pub(super) fn kill(&mut self) {
        if self.lives() {
            self.life += 1;
        }
    }

    fn clock(&self, now: Us) -> Duration {
        Duration::from_micros(self.offset + now * self.rate / 1_000_000)
    }

    fn times(&self, now: Us) -> Times {
        (self.clock(now), UnixMs(now / MS))
    }

    pub(super) fn writes(&self, now: Us) -> bool {
        self.lives() && self.leads && self.clock(now) < self.lease_end
    }

    fn sync(&mut self) {
        if let Some(held) = self.book.unsynced() {
            self.book.synced(held.clone());
            self.disk = Some(held);
        }
    }

    /// As `Control::obey`.
    fn obey(&mut self, record: &Record, revision: Revision, now: Us) {
        let (us, clock) = (name(self.number), self.clock(now));
        if self.record.as_ref().is_some_and(|(_, held)| *held > revision) {
            return;
        }
        let must = self.book.hear(record, &us, clock);
        if must {
            self.sync();
        }
        self.record = Some((record.clone(), revision));
        self.leads = false;
        if record.epoch < self.stood.0 || record.slots_of(&us).is_none() {
            return;
        }
        if !record.is_primary(&us) {
            self.stood = (record.epoch, false);
            return;
        }
        let others = |epoch| record.forks.iter().any(|f| f.source == us && f.epoch > epoch);
        if self.stood.1 && others(self.stood.0) {
            self.stood = (record.epoch, false);
            return;
        }
        if !self.stood.1 && record.epoch > Epoch(1) {
            let blocked = self.book.blocks(record, &us, clock).is_some();
            if blocked {
                return;
            }
        }
        self.stood = (record.epoch, true);
        if record.freeze_of(&us).is_some() {
            self.ended = Some(record.epoch);
            return;
        }
        self.leads = self.fence <= record.epoch;
    }
}

impl World {
    pub(super) fn start(&mut self, node: usize) {
        let (now, flaw) = (self.now, self.flaw);
        let held = &mut self.nodes[node];
        if held.lives() {
            return;
        }
        held.life += 1;
        let disk = if flaw == Flaw::ForgetsAtRestart {
            Some(Held::blank(LEASE_MS))
        } else {
            held.disk.clone()
        };
        let clock = held.times(now);
        held.book = Book::open(disk, held.stood.0, clock);
        held.wishes = Wishes::default();
        (held.record, held.renewal, held.ended, held.leads) = (None, None, None, false);
        held.lease_end = Duration::ZERO;
        let life = held.life;
        self.schedule(now, Event::Tick { node, life });
    }

    /// Reads, renews, publishes and asks, at random moments.
    pub(super) fn tick(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let now = self.now;
        let clock = self.nodes[node].clock(now);
        self.nodes[node].book.expire(clock);
        if self.chance(30) {
            self.nodes[node].sync();
        }
        self.call(node, Call::Read);
        let held = &self.nodes[node];
        let publish =
            Call::Publish { promises: held.book.says(held.times(now)), ended: held.ended };
        self.call(node, publish);
        // What was promised may have ended by now.
        if let Some((record, revision)) = self.nodes[node].record.clone() {
            self.nodes[node].obey(&record, revision, now);
            if self.nodes[node].leads {
                self.renew(node, &record, revision);
                self.wish(node, &record, revision);
            }
        }
        let again = now + 30 * MS + self.upto(90 * MS);
        self.schedule(again, Event::Tick { node, life });
    }

    fn renew(&mut self, node: usize, record: &Record, revision: Revision) {
        let (now, us) = (self.now, name(node));
        let held = &mut self.nodes[node];
        let left = held.lease_end.saturating_sub(held.clock(now));
        if held.renewal.is_some() || left > LEASE * 13 / 20 {
            return;
        }
        let of: BTreeSet<_> = record.followers_of(&us).into_iter().collect();
        let named = held.wishes.is_news(record.epoch, &of).then_some(of);
        if let Some(of) = &named {
            held.wishes.sending(of);
        }
        let asked = held.clock(now);
        let call = self.call(node, Call::Renew { revision, named: named.clone() });
        self.nodes[node].renewal = Some((call, asked, record.epoch, named));
    }

    fn wish(&mut self, node: usize, record: &Record, revision: Revision) {
        let now = self.now;
        let held = &mut self.nodes[node];
        let left = held.lease_end.saturating_sub(held.clock(now));
        let clock = held.clock(now);
        let wish = held.wishes.want((record.epoch, revision), LEASE, left, clock);
        let Some(wish) = wish else { return };
        held.given = (wish.id, BTreeSet::new());
        let life = held.life;
        let of: Vec<_> = wish.of.iter().map(number).collect();
        for to in of {
            self.send(
                node,
                to,
                Event::Ask { from: node, life, to, wish: wish.id, epoch: wish.epoch },
            );
        }
    }

    pub(super) fn asked(&mut self, (from, life): (usize, u64), to: usize, wish: u64, epoch: Epoch) {
        let now = self.now;
        let held = &mut self.nodes[to];
        if !held.lives() {
            return;
        }
        let (us, primary, times) = (name(to), name(from), held.times(now));
        let given = held.book.give((&us, &primary), epoch, LEASE_MS, times);
        if given.is_ok() {
            held.sync();
            held.book.given(&primary, times);
        }
        let given = given.is_ok();
        self.send(to, from, Event::Answer { from, life, to, wish, given });
    }

    pub(super) fn answered(
        &mut self,
        (node, life): (usize, u64),
        by: usize,
        wish: u64,
        given: bool,
    ) {
        let held = &mut self.nodes[node];
        if held.life != life || !given || held.given.0 != wish {
            return;
        }
        held.given.1.insert(name(by));
        let Some((record, revision)) = held.record.clone().filter(|_| held.leads) else { return };
        let asked = held.wishes.have(wish, &held.given.1, (record.epoch, revision));
        if let Some(asked) = asked {
            held.lease_end = held.lease_end.max(asked + LEASE - LEASE / DRIFT_PART);
            self.promised += 1;
        }
    }

    pub(super) fn heard(&mut self, node: usize, life: u64, call: u64, what: Reply) {
        let now = self.now;
        let held = &mut self.nodes[node];
        if held.life != life {
            return;
        }
        if let Reply::Record(record, revision) = what {
            return held.obey(&record, revision, now);
        }
        let Some((_, asked, epoch, named)) = held.renewal.take_if(|(id, ..)| *id == call) else {
            return;
        };
        match what {
            Reply::Renewed => {
                held.lease_end = held.lease_end.max(asked + LEASE - LEASE / DRIFT_PART);
                held.wishes.renewed();
                if let Some(of) = named {
                    held.wishes.taken(epoch, of);
                }
            }
            Reply::Conflict(revision) => held.wishes.outdated(revision),
            Reply::Silent | Reply::Record(..) => held.wishes.unanswered(),
        }
        debug_assert!(node < NODES);
    }
}
