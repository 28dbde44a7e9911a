//! What a source does about where its follower stands.

use stream::message::{Of, Point, Standing};
use topology::ShardName;
use wal::{Chain, Continuation, History, Position, Sequence};

use crate::cursor::{Cursor, CursorError, read_facts};
use crate::node::Known;
use crate::spool::Spool;

/// The decision.
#[derive(Debug)]
pub(super) enum Plan {
    /// Stream from here.
    Follow(Box<Cursor>, Point),
    /// The follower rewinds, then follows.
    Rewind {
        /// The last common position, on the follower's timeline.
        fork: Position,
        /// The cursor at the resume point.
        cursor: Box<Cursor>,
        /// The resume point.
        resume: Point,
    },
    /// The follower must be seeded; why.
    Seed(String),
}

/// The timelines and the end of this log, as the log itself says.
pub(crate) fn account(
    spool: &Spool,
    known: &Known,
) -> Result<(History, Option<Position>), CursorError> {
    spool.scan()?;
    let facts = read_facts(spool, &known.database)?;
    let history = facts.history.clone().unwrap_or_else(|| known.history.clone());
    let end = facts.position(&history);
    Ok((history, end))
}

/// Decides. Of what the follower offers the first is best. `former` are the primaries of other
/// clusters that had some of the slots that both have.
pub(super) fn decide(
    spool: &Spool,
    known: &Known,
    standings: &[Standing],
    former: &[ShardName],
) -> Result<Plan, CursorError> {
    let (history, end) = account(spool, known)?;
    let Some(end) = end else { return Ok(Plan::Seed("the log has no end yet".to_owned())) };
    let mut why = "it has nothing of this log".to_owned();
    for standing in standings {
        let at = standing.position;
        // For what was received it says up to where records were fetched, see [`fetched_past`].
        let local = if standing.of == Of::Own { standing.local_until } else { at.sequence };
        if let Some(fork) = fetched_past(&history, standing) {
            why = format!(
                "it rewound with records as of {}, and this log was recovered to {fork}",
                standing.local_until
            );
            continue;
        }
        match history.continue_from(at, local, end.sequence) {
            Continuation::From(from) => {
                if let Some(behind) = apart(&history, standings, former, standing, from, end) {
                    why = format!(
                        "it has {at} of one former source and {behind} of another, and this log goes on from later than that"
                    );
                    continue;
                }
                let cursor = match Cursor::open(spool, &known.database, &history, from) {
                    Ok(cursor) => cursor,
                    Err(error @ (CursorError::Gap { .. } | CursorError::NotHere(_))) => {
                        why = error.to_string();
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let same = from == at;
                if same && !cursor.agrees(standing.log_chain) {
                    why = format!(
                        "its log at {at} is another one than ours (chain {:?}): what it holds cannot be trusted",
                        standing.log_chain
                    );
                    tracing::error!("a follower has diverged: {why}");
                    continue;
                }
                let stream_chain = if same { standing.stream_chain } else { Chain::START };
                let point = Point { position: from, log_chain: cursor.chain(), stream_chain };
                return Ok(Plan::Follow(Box::new(cursor), point));
            }
            Continuation::Rewind { fork, resume } if standing.of == Of::Own => {
                let cursor = match Cursor::open(spool, &known.database, &history, resume) {
                    Ok(cursor) => cursor,
                    Err(error) => {
                        why = format!("it must rewind to {fork}, and {error}");
                        continue;
                    }
                };
                let resume = Point {
                    position: resume,
                    log_chain: cursor.chain(),
                    stream_chain: Chain::START,
                };
                return Ok(Plan::Rewind { fork, cursor: Box::new(cursor), resume });
            }
            Continuation::Rewind { fork, .. } => {
                why = format!("it is past the fork at {fork} with what it received");
            }
            Continuation::Seed => why = format!("its position {at} does not lead to this log"),
        }
    }
    Ok(Plan::Seed(why))
}

/// What the follower has of another of its former sources, if that does not lead to the same place of
/// this log: what came in between would be lacking.
fn apart(
    history: &History,
    standings: &[Standing],
    former: &[ShardName],
    by: &Standing,
    from: Position,
    end: Position,
) -> Option<Position> {
    let is_former = |standing: &Standing| match &standing.of {
        Of::Applied(name) => former.iter().any(|shard| shard.to_string() == *name),
        Of::Staged(_) | Of::Own => false,
    };
    if !is_former(by) {
        return None;
    }
    let of_former = standings.iter().filter(|standing| is_former(standing));
    of_former.map(|standing| standing.position).find(|at| {
        history.continue_from(*at, at.sequence, end.sequence) != Continuation::From(from)
    })
}

/// Where the timeline that it follows ended, if it holds records of a rewind that were fetched after
/// that: the source lost power since, and those writes are in its database no more.
fn fetched_past(history: &History, standing: &Standing) -> Option<Sequence> {
    let (at, until) = (standing.position, standing.local_until);
    if standing.of == Of::Own || until <= at.sequence {
        return None;
    }
    let own = history.starts().iter().position(|start| start.timeline == at.timeline)?;
    let end = history.starts().get(own + 1)?.first.before();
    (until > end).then_some(end)
}

#[cfg(test)]
mod tests {
    use wal::{TimelineId, TimelineStart};

    use super::*;

    #[test]
    fn who_fetched_what_the_source_has_lost_does_not_follow_on() {
        let mut history = History::default();
        let start = |timeline, first| TimelineStart {
            timeline: TimelineId(timeline),
            first: Sequence(first),
            parents: Vec::new(),
            epoch: 1,
        };
        history.push(start(1, 1));
        let standing = |of, until| Standing {
            of,
            position: Position { timeline: TimelineId(1), sequence: Sequence(40) },
            local_until: Sequence(until),
            log_chain: Chain::START,
            stream_chain: Chain::START,
        };
        let applied = || Of::Applied("a/0".to_owned());
        assert_eq!(fetched_past(&history, &standing(applied(), 70)), None);
        // It lost power and was recovered to 60.
        history.push(start(2, 61));
        assert_eq!(fetched_past(&history, &standing(applied(), 60)), None);
        assert_eq!(fetched_past(&history, &standing(applied(), 70)), Some(Sequence(60)));
        assert_eq!(fetched_past(&history, &standing(Of::Own, 70)), None);
    }

    #[test]
    fn who_has_less_of_one_former_source_than_the_log_goes_on_from_does_not_follow_on() {
        let at = |timeline, sequence| Position {
            timeline: TimelineId(timeline),
            sequence: Sequence(sequence),
        };
        let mut history = History::default();
        let parents = vec![at(9, 3), at(1, 500), at(2, 70)];
        let timeline = TimelineId(10);
        history.push(TimelineStart { timeline, first: Sequence(4), parents, epoch: 2 });
        let (from, end) = (at(10, 3), at(10, 99));
        let standing = |shard: &str, position: Position| Standing {
            of: Of::Applied(shard.to_owned()),
            position,
            local_until: position.sequence,
            log_chain: Chain::START,
            stream_chain: Chain::START,
        };
        let check = |second: Position, former: &[&str], expected: Option<Position>| {
            let standings = [standing("a/0", at(1, 500)), standing("a/1", second)];
            let former: Vec<ShardName> = former.iter().map(|name| name.parse().unwrap()).collect();
            let found = apart(&history, &standings, &former, &standings[0], from, end);
            assert_eq!(found, expected, "{second} {former:?}");
        };
        check(at(2, 70), &["a/0", "a/1"], None);
        check(at(2, 69), &["a/0", "a/1"], Some(at(2, 69)));
        // It had none of the slots in question.
        check(at(2, 69), &["a/0"], None);
        check(at(3, 1), &["a/0", "a/1"], Some(at(3, 1)));
    }
}
