//! What a source does about where its follower stands.

use stream::message::{Of, Point, Standing};
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

/// Decides. Of what the follower offers the first is best.
pub(super) fn decide(
    spool: &Spool,
    known: &Known,
    standings: &[Standing],
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
}
