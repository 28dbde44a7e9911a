//! What a source does about where its follower stands.

use stream::message::{Of, Point, Standing};
use wal::{Chain, Continuation, History, Position};

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
pub(super) fn account(
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
        match history.continue_from(at, standing.local_until, end.sequence) {
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
