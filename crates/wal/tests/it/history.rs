//! Two logs that switch, lose power and are opened again: whatever a follower is told, it ends up
//! with what its source has.

use proptest::collection::vec;
use proptest::prelude::*;
use wal::{Continuation, History, Position, Sequence, TimelineId, TimelineStart};

/// What happens to the pair.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The primary writes data.
    Write,
    /// The primary writes node-local state.
    Local,
    /// The follower connects, or takes one batch.
    Ship,
    /// The primary is opened again, without its last batches.
    PrimaryOpened(usize),
    /// The follower is opened again, without its last batches.
    FollowerOpened(usize),
    /// The follower has everything, and takes over.
    Planned,
    /// The follower takes over with what it has.
    Unplanned,
}

/// One batch of a log, and what the database holds after it.
#[derive(Clone, Debug)]
struct Batch {
    local: bool,
    data: Vec<u32>,
    applied: Option<Position>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    log: Vec<Batch>,
    history: History,
    /// It was primary until it had this much data; set until it follows.
    old_primary: bool,
    /// A power cut takes nothing before this: the start of a timeline, and a stream's, are synced.
    synced: usize,
}

impl Node {
    fn end(&self) -> Sequence {
        Sequence(self.log.len() as u64)
    }

    fn data_at(&self, sequence: Sequence) -> Vec<u32> {
        match sequence.0 {
            0 => Vec::new(),
            n => self.log[n as usize - 1].data.clone(),
        }
    }

    fn applied(&self) -> Option<Position> {
        self.log.last()?.applied
    }

    fn append(&mut self, local: bool, data: Vec<u32>, applied: Option<Position>) {
        self.log.push(Batch { local, data, applied });
    }

    fn start(&mut self, timeline: TimelineId, applied: Option<Position>, promoted: bool) {
        let end = self.end();
        let own = self.history.position_of(end);
        let parents = own.into_iter().chain(applied.filter(|_| promoted)).collect();
        self.history.push(TimelineStart { timeline, first: end.next(), parents, epoch: 0 });
        let applied = applied.filter(|_| !promoted);
        self.append(true, self.data_at(end), applied);
        self.synced = self.log.len();
    }

    /// The end of its last batch with data.
    fn data_until(&self) -> Sequence {
        let last = self.log.iter().rposition(|batch| !batch.local);
        Sequence(last.map_or(0, |index| index as u64 + 1))
    }
}

struct Pair {
    nodes: [Node; 2],
    primary: usize,
    linked: bool,
    names: u128,
    written: u32,
    power_cuts: bool,
}

impl Pair {
    fn new() -> Self {
        let nodes = [Node::default(), Node::default()];
        let mut pair =
            Self { nodes, primary: 0, linked: false, names: 0, written: 0, power_cuts: false };
        let [first, second] = [pair.name(), pair.name()];
        pair.nodes[0].start(first, None, false);
        // Seeded while empty.
        let position = pair.nodes[0].history.position_of(Sequence(1));
        pair.nodes[1].append(true, Vec::new(), position);
        pair.nodes[1].start(second, position, false);
        pair
    }

    fn name(&mut self) -> TimelineId {
        self.names += 1;
        TimelineId(self.names)
    }

    fn happen(&mut self, event: Event) {
        let (primary, follower) = (self.primary, 1 - self.primary);
        match event {
            Event::Write => {
                self.written += 1;
                let mut data = self.nodes[primary].data_at(self.nodes[primary].end());
                data.push(self.written);
                self.nodes[primary].append(false, data, None);
            }
            Event::Local => {
                let data = self.nodes[primary].data_at(self.nodes[primary].end());
                self.nodes[primary].append(true, data, None);
            }
            Event::Ship if !self.linked => self.connect(),
            Event::Ship => self.ship(),
            Event::PrimaryOpened(lost) => self.open(primary, lost),
            Event::FollowerOpened(lost) => self.open(follower, lost),
            Event::Planned => {
                self.level();
                self.promote();
            }
            // Nobody may take over who does not follow.
            Event::Unplanned if self.linked => self.promote(),
            Event::Unplanned => {}
        }
    }

    fn open(&mut self, node: usize, lost: usize) {
        self.linked = false;
        let name = self.name();
        let node = &mut self.nodes[node];
        let keep = node.log.len().saturating_sub(lost).max(node.synced);
        self.power_cuts |= keep < node.log.len();
        node.log.truncate(keep);
        let applied = node.applied();
        node.start(name, applied, false);
    }

    fn promote(&mut self) {
        let name = self.name();
        self.nodes[self.primary].old_primary = true;
        self.primary = 1 - self.primary;
        self.linked = false;
        let node = &mut self.nodes[self.primary];
        let applied = node.applied();
        assert!(applied.is_some(), "a follower has a position");
        node.start(name, applied, true);
    }

    fn connect(&mut self) {
        let [a, b] = &mut self.nodes;
        let (source, follower) = if self.primary == 0 { (a, b) } else { (b, a) };
        let end = source.end();
        let old_primary = std::mem::take(&mut follower.old_primary);
        let answer = if old_primary {
            let (data, local) = (follower.data_until(), follower.end());
            source.history.rejoin(&follower.history, data, local)
        } else {
            let at = follower.applied().expect("a follower has a position");
            source.history.continue_from(at, at.sequence, end)
        };
        match answer {
            Continuation::From(resume) => {
                assert_eq!(follower.data_at(follower.end()), source.data_at(resume.sequence));
                follower.append(true, follower.data_at(follower.end()), Some(resume));
            }
            Continuation::Rewind { fork, resume } => {
                let there = source.data_at(resume.sequence);
                if old_primary {
                    assert_eq!(follower.data_at(fork.sequence), there, "at the fork {fork}");
                }
                follower.append(false, there, Some(resume));
            }
            Continuation::Seed => {
                assert!(self.power_cuts, "only who lost power is seeded");
                follower.log = source.log.clone();
                follower.history = History::default();
                let at = source.history.position_of(end);
                let name = TimelineId(1 << 64 | self.names);
                self.names += 1;
                follower.start(name, at, false);
            }
        }
        follower.synced = follower.log.len();
        self.linked = true;
    }

    fn ship(&mut self) {
        let [a, b] = &mut self.nodes;
        let (source, follower) = if self.primary == 0 { (a, b) } else { (b, a) };
        let at = follower.applied().expect("a follower has a position");
        let Some(batch) = source.log.get(at.sequence.0 as usize) else { return };
        assert_eq!(follower.data_at(follower.end()), source.data_at(at.sequence));
        let next = source.history.position_of(at.sequence.next());
        follower.append(batch.local, batch.data.clone(), next);
    }

    fn level(&mut self) {
        if !self.linked {
            self.connect();
        }
        let end = self.nodes[self.primary].end();
        while self.nodes[1 - self.primary].applied().is_some_and(|at| at.sequence < end) {
            self.ship();
        }
    }
}

fn events(lost: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Write),
        2 => Just(Event::Local),
        8 => Just(Event::Ship),
        1 => (0..=lost).prop_map(Event::PrimaryOpened),
        1 => (0..=lost).prop_map(Event::FollowerOpened),
        1 => Just(Event::Planned),
        1 => Just(Event::Unplanned),
    ];
    vec(event, 0..80)
}

fn play(events: &[Event]) {
    let mut pair = Pair::new();
    for event in events {
        pair.happen(*event);
    }
    pair.level();
    let [a, b] = &pair.nodes;
    assert_eq!(a.data_at(a.end()), b.data_at(b.end()));
}

proptest! {
    #[test]
    fn without_power_cuts_nobody_is_ever_seeded_again(events in events(0)) {
        play(&events);
    }

    #[test]
    fn with_power_cuts_a_follower_still_ends_up_with_what_its_source_has(events in events(4)) {
        play(&events);
    }
}
