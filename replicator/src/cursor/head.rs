//! The first batch of each log file, and which file holds a position.

use wal::batch::{BatchRef, Record};
use wal::{History, Kind, Position, Sequence, TimelineId};

use super::CursorError;
use super::reader::FileReader;
use crate::spool::LogFile;

/// What the first batch of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence.
    pub first: Sequence,
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
            return Ok(Some(Self { first: batch.sequence(), timeline }));
        }
    }
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

/// The file that holds the batch which ends at `at`, or else the one that begins after it.
///
/// Files of one open belong together: their sequences rise. Another open may have the same
/// sequences again, so the timeline decides which of them is meant.
pub(super) fn locate(
    files: &[LogFile],
    history: &History,
    at: Position,
) -> Result<LogFile, CursorError> {
    let index = |timeline| history.starts().iter().position(|s| s.timeline == timeline);
    let not_here = || CursorError::NotHere(at);
    let wanted = index(at.timeline).ok_or_else(not_here)?;
    // Of each file: the index of the timeline that it begins on, as far as that is known.
    let mut heads = Vec::new();
    let mut on = None;
    for file in files {
        let Some(head) = Head::read(file)? else { continue };
        let opens = head.timeline.and_then(index);
        on = opens.or(on);
        heads.push((file, head, on, opens.is_some()));
    }
    // The open that the timeline belongs to: the last one that begins on it or before.
    let open = heads.iter().filter(|h| h.3).filter_map(|h| h.2).filter(|i| *i <= wanted).max();
    let of_open = |i: &Option<usize>| *i == open;
    let mut best = None;
    for (file, head, on, _) in heads.iter().filter(|h| of_open(&h.2)) {
        let before = head.first <= at.sequence;
        if before || (best.is_none() && head.first == at.sequence.next()) {
            best = Some(*file);
        }
        let _ = on;
    }
    // Its own files are gone, but it ended where the next open began.
    let next = history.starts().get(wanted + 1);
    let after = || {
        let next = next.filter(|start| start.first == at.sequence.next())?;
        heads.iter().find(|h| h.1.timeline == Some(next.timeline)).map(|h| h.0)
    };
    let found = best.or_else(after).ok_or(CursorError::Gap {
        after: at.sequence,
        found: heads.iter().find(|h| h.1.first > at.sequence).map(|h| h.1.first),
    })?;
    Ok(found.clone())
}
