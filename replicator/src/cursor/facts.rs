//! What a log says of itself: its end and its timelines. Needed when the node is dead, and to tell
//! who is ahead of it.

use wal::{History, Position, Sequence};

use super::reader::FileReader;
use super::{CursorError, history_in};
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
pub fn read_facts(spool: &Spool, database: &DatabaseId) -> Result<Facts, CursorError> {
    let mut facts = Facts::default();
    for file in spool.files(database).iter().rev() {
        let mut reader = FileReader::open(file)?;
        let (mut end, mut history) = (None, None);
        // Damage at the end is where the log ends for now; who follows it finds out more.
        while let Ok(true) = reader.advance() {
            let batch = reader.batch()?;
            end = Some(batch.end());
            for tag in batch.tags().flatten() {
                facts.stamp = facts.stamp.max(tag.stamp);
            }
            history = history_in(&batch).or(history);
        }
        facts.end = facts.end.or(end);
        facts.history = facts.history.or(history);
        if facts.end.is_some() && facts.history.is_some() {
            break;
        }
    }
    Ok(facts)
}
