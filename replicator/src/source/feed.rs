//! From the log to frames, on a thread of its own: reading and compressing never hold up the
//! sockets, and a slow follower holds up nobody but this thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use admin::Intent;
use keyspace::SlotSet;
use stream::message::Point;
use tokio::sync::mpsc;
use wal::frame::{FrameBuilder, PushError};
use wal::{Chain, Position};

use super::codec::Adaptive;
use crate::cursor::{Cursor, CursorError, Growth};
use crate::identity::DatabaseId;

/// A frame is finished at this size, or as soon as the log has nothing more.
const FRAME_BYTES: usize = 256 << 10;
/// Frames that wait for the socket.
const QUEUE: usize = 4;
/// How often the distance to the end of the log is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// How long a log that does not read on is looked at again, before the stream is made again.
const DAMAGE_PATIENCE: Duration = Duration::from_secs(1);

/// What comes next on the wire.
#[derive(Debug)]
pub(super) enum Fed {
    /// A frame.
    Frame(Framed),
    /// The files of a load, before the frame with the batch that takes it in.
    Load(Box<Intent>),
}

/// A frame for the wire.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) bytes: Vec<u8>,
    pub(super) end: Position,
    /// The number of the log file that its last batch is in.
    pub(super) file: u64,
}

/// A thread that makes frames. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) frames: mpsc::Receiver<Result<Fed, CursorError>>,
    pub(super) behind: Arc<AtomicU64>,
    pub(super) database: DatabaseId,
}

impl Feed {
    /// Frames of what follows the cursor, for a target with these slots.
    pub(super) fn start(cursor: Cursor, point: Point, keep: SlotSet) -> std::io::Result<Self> {
        let (sender, frames) = mpsc::channel(QUEUE);
        let behind = Arc::new(AtomicU64::new(0));
        let (database, measured) = (cursor.database().clone(), behind.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            runtime.block_on(async {
                let end = make_frames(cursor, point, &keep, &sender, &measured);
                tokio::select! {
                    end = end => if let Err(error) = end {
                        // The stream has ended if nobody listens.
                        let _ = sender.send(Err(error)).await;
                    },
                    () = sender.closed() => {}
                }
            });
        })?;
        Ok(Self { frames, behind, database })
    }
}

async fn make_frames(
    mut cursor: Cursor,
    point: Point,
    keep: &SlotSet,
    sender: &mpsc::Sender<Result<Fed, CursorError>>,
    behind: &AtomicU64,
) -> Result<(), CursorError> {
    let (epoch, stamp) = cursor.highest();
    let mut builder = FrameBuilder::new(point.position, point.stream_chain, epoch, stamp);
    let (mut codec, mut growth) = (Adaptive::default(), Growth::default());
    // The log's chain at the end of what is in the builder, and the file that it is in.
    let (mut chain, mut file) = (cursor.chain(), cursor.file().number);
    let mut measured = Instant::now();
    let mut damaged_since = None;
    loop {
        let more = match cursor.advance() {
            Ok(more) => more,
            // The last piece of a file may be looked at while it is being written.
            Err(CursorError::Damaged { path, damage }) => {
                if damaged_since.get_or_insert_with(Instant::now).elapsed() > DAMAGE_PATIENCE {
                    return Err(CursorError::Damaged { path, damage });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                cursor.look_again()?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if more {
            damaged_since = None;
            growth.flowed();
            if let Some(timeline) = cursor.started().and_then(|h| h.current()).map(|s| s.timeline) {
                flush(&mut builder, &mut codec, chain, file, sender, true).await;
                builder.begin_timeline(timeline).map_err(|error| push_failed(&cursor, &error))?;
            }
            if let Some(intent) = cursor.load() {
                let fed = Fed::Load(Box::new(intent.clone()));
                flush(&mut builder, &mut codec, chain, file, sender, true).await;
                // Nobody listens any more: the caller is about to be dropped.
                let _ = sender.send(Ok(fed)).await;
            }
            let pushed = builder.push(&cursor.batch()?, keep);
            if let Err(PushError::Full { .. }) = pushed {
                flush(&mut builder, &mut codec, chain, file, sender, true).await;
                let again = builder.push(&cursor.batch()?, keep);
                again.map_err(|error| push_failed(&cursor, &error))?;
            } else {
                pushed.map_err(|error| push_failed(&cursor, &error))?;
            }
            (chain, file) = (cursor.chain(), cursor.file().number);
        }
        if !more || builder.raw_len() >= FRAME_BYTES {
            flush(&mut builder, &mut codec, chain, file, sender, more).await;
        }
        if measured.elapsed() > MEASURE_EVERY {
            behind.store(cursor.behind(), Ordering::Relaxed);
            measured = Instant::now();
        }
        if !more {
            growth.wait(&cursor).await;
        }
    }
}

async fn flush(
    builder: &mut FrameBuilder,
    codec: &mut Adaptive,
    log_chain: Chain,
    file: u64,
    sender: &mpsc::Sender<Result<Fed, CursorError>>,
    behind: bool,
) {
    let end = builder.end();
    let Some(bytes) = builder.finish(codec.codec(), log_chain) else { return };
    codec.sent(sender.capacity() == 0, behind);
    // Nobody listens any more: the caller is about to be dropped.
    let _ = sender.send(Ok(Fed::Frame(Framed { bytes, end, file }))).await;
}

fn push_failed(cursor: &Cursor, error: &PushError) -> CursorError {
    CursorError::Foreign { path: cursor.file().path.clone(), why: error.to_string() }
}
