//! Where this side stands, told to a source: best first, and nothing that is not so any more.

use admin::{Applied, Status};
use stream::message::{Of, Point, Standing};
use topology::ShardName;
use topology::members::Role;

/// What to offer to `source`. `tip` is the end of what is staged of it and goes on from what the
/// node has applied.
pub(super) fn standings(status: &Status, source: &ShardName, tip: Option<Point>) -> Vec<Standing> {
    let own = own(status);
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
    // Once it follows someone, the end of what it wrote itself is not where it stands any more.
    let moved_on = fresh.iter().any(|(name, _)| *name == source || name.cluster != source.cluster);
    all.extend(own.filter(|_| !moved_on));
    for (name, applied) in fresh.iter().filter(|(name, _)| *name != source) {
        all.push(standing(Of::Applied(name.to_string()), point_of(applied)));
    }
    all
}

fn own(status: &Status) -> Option<Standing> {
    let position = status.own_end?;
    let local_until = status.local_until.unwrap_or(position.sequence);
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
    use wal::{Chain, History, Position, Sequence, TimelineId, TimelineStart};

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
        }
    }

    fn offered(status: &Status, tip: Option<Position>) -> Vec<String> {
        let point = |position| Point { position, log_chain: Chain(1), stream_chain: Chain(2) };
        let all = standings(status, &"a/0".parse().unwrap(), tip.map(point));
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
    fn an_interrupted_rewind_begins_again() {
        let mut node = status(Some(at(0xb2, 700)), &[("a/0", at(0xa2, 800))], &[]);
        node.role = Role::Rewinding;
        assert_eq!(offered(&node, None), ["Own 700"]);
        node.until = Some(Sequence(900));
        assert_eq!(offered(&node, None), ["Applied(\"a/0\") 800"]);
    }
}
