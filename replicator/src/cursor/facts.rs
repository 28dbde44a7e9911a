//! What a log says of itself: its end and its timelines. Needed when the node is dead, and to tell
//! who is ahead of it.

use wal::{History, Position, Sequence};

use super::{CursorError, head};
use crate::identity::DatabaseId;
use crate::spool::Spool;

/// A log's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The end of its last batch.
    pub end: Option<Sequence>,
    /// The timelines, as the last one that started in the files read says.
    pub history: Option<History>,
    /// The highest stamp in the files read.
    pub stamp: keyspace::Hlc,
}

impl Facts {
    /// The end as a position, by these timelines or else by those.
    pub fn position(&self, known: &History) -> Option<Position> {
        let history = self.history.as_ref().unwrap_or(known);
        history
            .current()
            .map(|start| start.timeline)
            .zip(self.end)
            .map(|(timeline, sequence)| Position { timeline, sequence })
    }
}

/// Reads the newest files, as far back as needed to find the end and the last start of a timeline.
/// What was read once is remembered: a follower that connects again costs what was written since.
pub fn read_facts(spool: &Spool, database: &DatabaseId) -> Result<Facts, CursorError> {
    let mut facts = Facts::default();
    for (file, _) in head::in_order(spool, database)?.iter().rev() {
        // Nothing is written to a file any more once a later one has a batch.
        let read = spool.index().account(database, file, facts.end.is_some())?;
        facts.end = facts.end.or(read.end);
        facts.history = facts.history.or(read.history);
        facts.stamp = facts.stamp.max(read.stamp);
        if facts.end.is_some() && facts.history.is_some() {
            break;
        }
    }
    Ok(facts)
}
