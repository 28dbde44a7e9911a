//! The first batch of each log file: which file holds a position, and which goes on from it.
//!
//! Two files may have one number: a power cut can take a file's name from the database's directory
//! and leave our link to it, and the next open gives its number again. The one that an open began
//! with comes after the one that it did not find.

use wal::batch::{BatchRef, Record};
use wal::{Consumed, History, Kind, Position, Sequence, TimelineId};

use super::CursorError;
use super::reader::FileReader;
use crate::identity::DatabaseId;
use crate::spool::{LogFile, Spool};

/// What the first batch of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence.
    pub first: Sequence,
    /// The sequence after the batch that it follows on: lower than `first` where a load consumed
    /// some between the two.
    pub continues: Sequence,
    /// The timeline that it starts: the file is the first one of an open.
    pub timeline: Option<TimelineId>,
}

impl Head {
    /// Reads it; `None` for a file that has no batch (yet).
    pub fn read(file: &LogFile) -> Result<Option<Self>, CursorError> {
        let mut reader = match FileReader::open(file) {
            Ok(reader) => reader,
            // Dropped by the budget since it was listed.
            Err(_) if !file.path.exists() => return Ok(None),
            Err(error) => return Err(error),
        };
        loop {
            let Ok(true) = reader.advance() else { return Ok(None) };
            let batch = reader.batch()?;
            // RocksDB writes an empty batch by itself after it recovered from a damaged tail: the
            // timeline's is the next one.
            if batch.count() == 0 && batch.tags().next().is_none() {
                continue;
            }
            let timeline = history_in(&batch).and_then(|h| h.current().map(|s| s.timeline));
            let first = batch.sequence();
            let continues = Consumed::before(&batch).map_or(first, |consumed| consumed.first);
            return Ok(Some(Self { first, continues, timeline }));
        }
    }

    /// The timeline that it starts, if the log was recovered to before this sequence for it.
    pub(super) fn recovered_before(&self, expected: Sequence) -> Option<(TimelineId, Sequence)> {
        self.timeline.filter(|_| self.continues < expected).map(|timeline| (timeline, self.first))
    }
}

/// A file that has a batch, with its head.
pub(super) type Begun = (LogFile, Head);

/// The files of a database that have a batch, in the order of its log.
pub(super) fn in_order(spool: &Spool, database: &DatabaseId) -> Result<Vec<Begun>, CursorError> {
    let mut all = Vec::new();
    for file in spool.files(database) {
        if let Some(head) = spool.index().head(database, &file)? {
            all.push((file, head));
        }
    }
    all.sort_by_key(|(file, head)| (file.number, head.timeline.is_some(), head.first, file.inode));
    Ok(all)
}

/// Those after this one. Of its own number only one that an open began with.
pub(super) fn after<'a>(this: &LogFile, files: &'a [Begun]) -> Vec<&'a Begun> {
    let here =
        files.iter().position(|(file, _)| file.inode == this.inode && file.number == this.number);
    let later = files.iter().skip(here.map_or(0, |here| here + 1));
    later
        .filter(|(file, head)| {
            file.number > this.number || (file.number == this.number && head.timeline.is_some())
        })
        .collect()
}

/// The one that goes on at `expected`: rather one that an open began with, which says that the log
/// was recovered to there, than one that only has the right sequence.
pub(super) fn going_on<'a>(later: &[&'a Begun], expected: Sequence) -> Option<&'a LogFile> {
    let fit = || later.iter().filter(|(_, head)| head.continues == expected);
    let opened = fit().rfind(|(_, head)| head.timeline.is_some());
    opened.or_else(|| fit().next()).map(|(file, _)| file)
}

/// The list of timelines in a batch that starts one.
pub fn history_in(batch: &BatchRef<'_>) -> Option<History> {
    if !batch.tags().any(|tag| tag.is_ok_and(|tag| tag.kind == Kind::Timeline)) {
        return None;
    }
    batch.records().find_map(|record| match record {
        Record::Put { cf: keyspace::Cf::System, key, value }
            if key == keyspace::system::TIMELINES =>
        {
            serde_json::from_slice(value).ok()
        }
        _ => None,
    })
}

/// The load that a batch announces.
pub(super) fn intent_in(batch: &BatchRef<'_>) -> Option<admin::Intent> {
    batch.records().find_map(|record| match record {
        Record::Put { cf: keyspace::Cf::System, key: keyspace::system::LOAD, value } => {
            serde_json::from_slice(value).ok()
        }
        _ => None,
    })
}

/// The file that holds the batch which ends at `at`, or else the one that begins after it.
///
/// Files of one open belong together: their sequences rise. Another open may have the same
/// sequences again, so the timeline decides which of them is meant.
pub(super) fn locate(
    files: &[Begun],
    history: &History,
    at: Position,
) -> Result<LogFile, CursorError> {
    let index = |timeline| history.starts().iter().position(|s| s.timeline == timeline);
    let wanted = index(at.timeline).ok_or(CursorError::NotHere(at))?;
    // Of each file: the index of the timeline that it begins on, as far as that is known.
    let mut on = None;
    let heads: Vec<_> = files
        .iter()
        .map(|(file, head)| {
            let opens = head.timeline.and_then(index);
            on = opens.or(on);
            (file, head, on, opens.is_some())
        })
        .collect();
    // The open that the timeline belongs to: the last one that begins on it or before.
    let open = heads.iter().filter(|h| h.3).filter_map(|h| h.2).filter(|i| *i <= wanted).max();
    let mut best = None;
    for (file, head, ..) in heads.iter().filter(|h| h.2 == open) {
        let before = head.first <= at.sequence;
        if before || (best.is_none() && head.continues == at.sequence.next()) {
            best = Some(*file);
        }
    }
    // Its own files are gone, but it ended where the next open began.
    let next = history.starts().get(wanted + 1);
    let after = || {
        let next = next?;
        let opened = heads.iter().find(|h| h.1.timeline == Some(next.timeline));
        opened.filter(|h| h.1.continues == at.sequence.next()).map(|h| h.0)
    };
    let found = best.or_else(after).ok_or(CursorError::Gap {
        after: at.sequence,
        found: heads.iter().find(|h| h.1.first > at.sequence).map(|h| h.1.first),
    })?;
    Ok(found.clone())
}
