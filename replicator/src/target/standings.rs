//! Where this side stands, told to a source: best first, and nothing that is not so any more.

use admin::{Applied, Status};
use stream::message::{Of, Point, Standing};
use topology::ShardName;
use topology::members::Role;
use wal::{Continuation, History, Position};

/// What to offer to `source`, whose log has these timelines. `tip` is the end of what is staged of
/// it and goes on from what the node has applied.
pub(super) fn standings(
    status: &Status,
    source: &ShardName,
    theirs: &History,
    tip: Option<Point>,
) -> Vec<Standing> {
    let own = own(status, theirs);
    // A rewind that was interrupted begins again from the fork.
    if status.role == Role::Rewinding && status.until.is_none() {
        return own.into_iter().collect();
    }
    let fresh: Vec<_> =
        status.applied.iter().filter(|(_, applied)| !is_past(status, applied)).collect();
    let applied_of =
        |source: &ShardName| fresh.iter().find(|(name, _)| *name == source).map(|(_, a)| *a);
    let mut all = Vec::new();
    if let Some(applied) = applied_of(source) {
        let tip = tip.filter(|tip| tip.position.sequence > applied.position.sequence);
        all.extend(tip.map(|tip| standing(Of::Staged(source.to_string()), tip)));
        all.push(standing(Of::Applied(source.to_string()), point_of(applied)));
    }
    all.extend(own.filter(|_| !moved_on(status, source)));
    for (name, applied) in fresh.iter().filter(|(name, _)| *name != source) {
        all.push(standing(Of::Applied(name.to_string()), point_of(applied)));
    }
    all
}

/// Whether it follows someone who took over from it: then the end of what it wrote itself is not
/// where it stands any more.
fn moved_on(status: &Status, source: &ShardName) -> bool {
    let mut fresh = status.applied.iter().filter(|(_, applied)| !is_past(status, applied));
    fresh.any(|(name, _)| name == source || name.cluster != source.cluster)
}

/// The end of what this node wrote as a primary, if it has followed nobody since: a seed would
/// throw away what it alone acknowledged.
pub(super) fn unfollowed(status: &Status, source: &ShardName) -> Option<Position> {
    let interrupted = status.role == Role::Rewinding && status.until.is_none();
    status.own_end.filter(|_| interrupted || !moved_on(status, source))
}

/// Where this node's own log stands to a source that took over from it.
///
/// The fork may lie on another timeline than the end: the node may have been opened again before it
/// or since. So what is offered is said in the source's words: where to go on in its log, or the
/// first sequence past the fork, which it answers with a rewind.
fn own(status: &Status, theirs: &History) -> Option<Standing> {
    let end = status.own_end?;
    let (position, local_until) =
        match theirs.rejoin(&status.history, end.sequence, status.position.sequence) {
            Continuation::From(resume) => (resume, resume.sequence),
            Continuation::Rewind { fork, .. } => {
                let past = fork.sequence.next();
                (Position { sequence: past, ..fork }, past)
            }
            Continuation::Seed => (end, status.local_until.unwrap_or(end.sequence)),
        };
    let point = Point { position, log_chain: wal::Chain::START, stream_chain: wal::Chain::START };
    Some(Standing { local_until, ..standing(Of::Own, point) })
}

/// Whether it was applied before this node was last a primary: its own log went on from there.
fn is_past(status: &Status, applied: &Applied) -> bool {
    status.history.starts().iter().flat_map(|start| &start.parents).any(|parent| {
        parent.timeline == applied.position.timeline && parent.sequence >= applied.position.sequence
    })
}

fn point_of(applied: &Applied) -> Point {
    Point {
        position: applied.position,
        log_chain: applied.log_chain,
        stream_chain: applied.stream_chain,
    }
}

fn standing(of: Of, point: Point) -> Standing {
    Standing {
        of,
        position: point.position,
        local_until: point.position.sequence,
        log_chain: point.log_chain,
        stream_chain: point.stream_chain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyspace::Hlc;
    use topology::Epoch;
    use wal::{Chain, Sequence, TimelineId, TimelineStart};

    fn at(timeline: u128, sequence: u64) -> Position {
        Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
    }

    fn applied(position: Position) -> Applied {
        Applied {
            position,
            log_chain: Chain(1),
            stream_chain: Chain(2),
            stamp: Hlc(3),
            epoch: Epoch(1),
            ended: None,
        }
    }

    fn status(
        own_end: Option<Position>,
        sources: &[(&str, Position)],
        parents: &[Position],
    ) -> Status {
        let mut history = History::default();
        let timeline = own_end.map_or(TimelineId(0xb), |end| end.timeline);
        history.push(TimelineStart {
            timeline,
            first: Sequence(1),
            parents: parents.to_vec(),
            epoch: 1,
        });
        Status {
            control: Status::CONTROL,
            database: "0".repeat(32),
            format: 1,
            service: None,
            shard: None,
            slots: keyspace::SlotSet::all(),
            role: Role::Standby,
            epoch: Epoch(1),
            fence: Epoch(0),
            writable: false,
            lease_left_ms: None,
            position: at(0xb, 9),
            own_end,
            local_until: None,
            history,
            applied: sources.iter().map(|(s, p)| (s.parse().unwrap(), applied(*p))).collect(),
            synced: Default::default(),
            freeze: None,
            ended: None,
            until: None,
            lacks: keyspace::SlotSet::default(),
            reclaim: Default::default(),
            clock_ahead_ms: None,
            p99_us: None,
            promises: Default::default(),
        }
    }

    fn offered(status: &Status, tip: Option<Position>) -> Vec<String> {
        let point = |position| Point { position, log_chain: Chain(1), stream_chain: Chain(2) };
        let all = standings(status, &"a/0".parse().unwrap(), &History::default(), tip.map(point));
        all.iter().map(|s| format!("{:?} {}", s.of, s.position.sequence)).collect()
    }

    #[test]
    fn a_standby_offers_what_it_staged_then_what_it_applied() {
        let standby = status(None, &[("a/0", at(0xa, 5))], &[]);
        assert_eq!(
            offered(&standby, Some(at(0xa, 9))),
            ["Staged(\"a/0\") 9", "Applied(\"a/0\") 5"]
        );
        assert_eq!(offered(&status(None, &[], &[]), None), [""; 0]);
    }

    #[test]
    fn a_former_primary_offers_its_own_end_and_not_what_it_applied_before() {
        let parents = [at(0xa, 500)];
        let before = status(Some(at(0xb2, 700)), &[("a/0", at(0xa, 500))], &parents);
        assert_eq!(offered(&before, None), ["Own 700"]);
        let after = status(Some(at(0xb2, 700)), &[("a/0", at(0xa2, 800))], &parents);
        assert_eq!(offered(&after, None), ["Applied(\"a/0\") 800"]);
    }

    #[test]
    fn a_fork_on_another_timeline_than_the_end_is_found() {
        let start = |timeline, first, parents: &[Position]| TimelineStart {
            timeline: TimelineId(timeline),
            first: Sequence(first),
            parents: parents.to_vec(),
            epoch: 1,
        };
        let source = "a/0".parse().unwrap();
        let offer = |status: &Status, fork: Position| {
            let mut theirs = History::default();
            theirs.push(start(0xa1, 1, &[]));
            theirs.push(start(0xa2, 91, &[at(0xa1, 90), fork]));
            let offered = standings(status, &source, &theirs, None).remove(0);
            theirs.continue_from(offered.position, offered.local_until, Sequence(99))
        };
        // Primary on 0xb, opened again as 0xb2, and primary there too until it ended at 700.
        let mut old = status(Some(at(0xb2, 700)), &[], &[]);
        old.history = History::default();
        old.history.push(start(0xb, 1, &[]));
        old.history.push(start(0xb2, 601, &[at(0xb, 600)]));
        old.position = at(0xb2, 705);
        let resume = at(0xa2, 90);
        let rewind = |fork| Continuation::Rewind { fork, resume };
        assert_eq!(offer(&old, at(0xb, 550)), rewind(at(0xb, 550)));
        assert_eq!(offer(&old, at(0xb2, 650)), rewind(at(0xb2, 650)));
        assert_eq!(offer(&old, at(0xb2, 702)), Continuation::From(resume));
        // It ended on 0xb, and the follower had what it wrote of itself when it was opened again.
        old.own_end = Some(at(0xb, 600));
        assert_eq!(offer(&old, at(0xb2, 702)), Continuation::From(resume));
        assert_eq!(offer(&old, at(0xb, 550)), rewind(at(0xb, 550)));
        // A power cut took what the follower had.
        assert_eq!(offer(&old, at(0xb, 640)), Continuation::Seed);
    }

    #[test]
    fn an_interrupted_rewind_begins_again() {
        let mut node = status(Some(at(0xb2, 700)), &[("a/0", at(0xa2, 800))], &[]);
        node.role = Role::Rewinding;
        assert_eq!(offered(&node, None), ["Own 700"]);
        node.until = Some(Sequence(900));
        assert_eq!(offered(&node, None), ["Applied(\"a/0\") 800"]);
    }
}
