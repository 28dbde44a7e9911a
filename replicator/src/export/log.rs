//! The log since the last snapshot, or since the checkpoint of this one, up to the cut.

use std::time::Duration;

use keyspace::{Hlc, SlotSet};
use stream::Writer;
use stream::export::{After, SegmentHead, pinging, send_segment};
use tokio::io::AsyncWrite;
use wal::frame::{Codec, FrameBuilder};
use wal::segment::SegmentHeader;
use wal::{Chain, Continuation, History, Position, Sequence};

use super::ExportError;
use crate::archive::{Cut, CutError, Cutter, Limit, Limits, Start};
use crate::cursor::{Cursor, CursorError};
use crate::identity::DatabaseId;
use crate::spool::Spool;

/// The plain bytes of a segment.
const SEGMENT_BYTES: u64 = 8 << 20;
/// So much of a log is packed to guess what all of it takes.
const SAMPLE_BYTES: usize = 4 << 20;
/// How long the log may take to pass the cut: an idle primary writes a heartbeat each fifth of a second.
const CUT_WITHIN: Duration = Duration::from_secs(30);

/// A log and where it goes on.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) cursor: Cursor,
    pub(super) start: Start,
}

/// Opens the log where the last snapshot ends; in words, why it cannot be. Blocks.
pub(super) fn open(
    spool: &Spool,
    database: &DatabaseId,
    history: &History,
    end: Sequence,
    after: &After,
) -> Result<Log, String> {
    if ![After::ANY_DATABASE, database.as_str()].contains(&&*after.database) {
        return Err("the node's database is another one since the last snapshot".to_owned());
    }
    let at = after.position;
    if history.continue_from(at, at.sequence, end) != Continuation::From(at) {
        return Err(format!("{at}, where the last snapshot ends, does not lead to this log"));
    }
    let gone = |error: CursorError| format!("the log since the last snapshot is gone: {error}");
    spool.scan().map_err(|why| why.to_string())?;
    let cursor = Cursor::open(spool, database, history, at).map_err(gone)?;
    if !cursor.agrees(after.log_chain) {
        return Err(format!("the log at {at} is another one than what the last snapshot holds"));
    }
    Ok(Log { cursor, start: Start { position: at, chain: after.chain } })
}

/// Opens the log where a checkpoint stands. Blocks.
pub(super) fn behind_checkpoint(
    spool: &Spool,
    database: &DatabaseId,
    history: &History,
    at: Position,
) -> Result<Log, ExportError> {
    let refuse = |why: String| ExportError::Refused(why);
    spool.scan().map_err(|why| refuse(why.to_string()))?;
    let cursor =
        Cursor::open(spool, database, history, at).map_err(|why| refuse(why.to_string()))?;
    Ok(Log { cursor, start: Start { position: at, chain: Chain::START } })
}

/// About how many bytes the log takes when it is packed; why it cannot be followed, if it cannot. Reads
/// all of it, and blocks.
pub(super) fn measure(mut log: Log, keep: &SlotSet, end: Sequence) -> Result<u64, String> {
    let gone = |error: CursorError| format!("the log since the last snapshot is gone: {error}");
    let (mut bytes, mut sample) = (0_u64, None::<(u64, u64)>);
    let Start { position, chain } = log.start;
    let mut builder = FrameBuilder::new(position, chain, 0, Hlc::default());
    while log.cursor.position().sequence < end && log.cursor.advance().map_err(gone)? {
        if let Some(load) = log.cursor.load() {
            return Err(format!("load {} was taken in, which the log does not hold", load.id));
        }
        let batch = log.cursor.batch().map_err(gone)?;
        bytes += batch.bytes().len() as u64;
        let timeline = log.cursor.started().and_then(History::current).map(|s| s.timeline);
        // A sample need not be whole: it ends where a frame would.
        let ends = builder.raw_len() > SAMPLE_BYTES || timeline.is_some();
        if sample.is_none() && (ends || builder.push(&batch, keep).is_err()) {
            sample = Some(pack(&mut builder));
        }
    }
    let (plain, packed) = sample.unwrap_or_else(|| pack(&mut builder));
    Ok(match plain {
        0 => bytes,
        plain => bytes.saturating_mul(packed) / plain,
    })
}

fn pack(builder: &mut FrameBuilder) -> (u64, u64) {
    let plain = builder.raw_len() as u64;
    let packed = builder.finish(Codec::Zstd, Chain::START).map_or(0, |frame| frame.len() as u64);
    (plain, packed)
}

/// Where a log was cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) position: Position,
    /// The number of the log file that the last batch is in.
    pub(super) file: u64,
}

/// Sends the log up to the last batch whose stamp is not above `until`.
pub(super) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    log: Log,
    keep: SlotSet,
    whose: (u64, String),
    until: Hlc,
    limit: &Limit,
) -> Result<(Reached, u64), ExportError> {
    let limits = Limits { every: Duration::MAX, bytes: SEGMENT_BYTES, until: Some(until) };
    let mut at = Reached { position: log.start.position, file: log.cursor.file().number };
    let started = Cutter::start(log.cursor, log.start, keep, whose, limits);
    let mut cutter =
        started.map_err(|why| ExportError::Refused(format!("cannot start a thread: {why}")))?;
    let mut sent = 0;
    loop {
        let next = tokio::time::timeout(CUT_WITHIN, cutter.cuts.recv());
        let cut = match pinging(writer, next).await? {
            Ok(Some(Ok(cut))) => cut,
            Ok(Some(Err(CutError::Reached { file }))) => {
                return Ok((Reached { file, ..at }, sent));
            }
            Ok(Some(Err(CutError::Load(load)))) => {
                return Err(ExportError::Refused(format!(
                    "load {load} was taken in just now, which the log does not hold: push again"
                )));
            }
            Ok(Some(Err(error))) => return Err(ExportError::Refused(error.to_string())),
            Ok(None) => {
                return Err(ExportError::Refused("the thread that reads the log ended".to_owned()));
            }
            Err(_) => {
                return Err(ExportError::Refused(format!(
                    "the log did not pass the cut within {CUT_WITHIN:?}: is the node frozen or dead, or do \
                     the clocks of the nodes differ by more? Push again when it writes"
                )));
            }
        };
        at.position = cut.last.end;
        pinging(writer, limit.take(cut.bytes.len())).await?;
        send_segment(writer, head(&cut), &cut.bytes).await?;
        sent += cut.bytes.len() as u64;
    }
}

fn head(cut: &Cut) -> SegmentHead {
    let SegmentHeader { start, chain, .. } = cut.header;
    SegmentHead {
        start,
        end: cut.last.end,
        chain_before: chain,
        chain: cut.last.chain,
        log_chain: cut.last.log_chain,
        stamp: cut.last.stamp,
        epoch: cut.last.epoch,
    }
}

/// The timelines up to a position.
pub(super) fn history_until(history: &History, position: Position) -> History {
    let mut until = History::default();
    for start in history.starts() {
        until.push(start.clone());
        if start.timeline == position.timeline {
            break;
        }
    }
    until
}
