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

use super::codec::{LinkView, Packer};
use crate::cursor::{Cursor, CursorError, Growth};
use crate::identity::DatabaseId;

/// A frame is finished at this size, or as soon as the log has nothing more.
const FRAME_BYTES: usize = 256 << 10;
/// Frames that wait for the socket.
const QUEUE: usize = 4;
/// How often the distance to the end of the log is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether there is more for a frame that gathers.
const GATHER_POLL: Duration = Duration::from_millis(1);

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
    pub(super) link: Arc<LinkView>,
    pub(super) database: DatabaseId,
}

impl Feed {
    /// Frames of what follows the cursor, for a target with these slots.
    pub(super) fn start(
        cursor: Cursor,
        point: Point,
        keep: SlotSet,
        packer: Packer,
    ) -> std::io::Result<Self> {
        let (sender, frames) = mpsc::channel(QUEUE);
        let behind = Arc::new(AtomicU64::new(0));
        let (database, measured) = (cursor.database().clone(), behind.clone());
        let link = Arc::new(LinkView::default());
        let mut maker = Maker { packer, link: link.clone(), sender, gathering: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
            runtime.block_on(async {
                let sender = maker.sender.clone();
                let end = maker.make_frames(cursor, point, &keep, &measured);
                tokio::select! {
                    end = end => if let Err(error) = end {
                        // The stream has ended if nobody listens.
                        let _ = sender.send(Err(error)).await;
                    },
                    () = sender.closed() => {}
                }
            });
        })?;
        Ok(Self { frames, behind, link, database })
    }
}

/// What makes frames.
struct Maker {
    packer: Packer,
    link: Arc<LinkView>,
    sender: mpsc::Sender<Result<Fed, CursorError>>,
    /// Since when there is something in the frame that is being made.
    gathering: Option<Instant>,
}

impl Maker {
    async fn make_frames(
        &mut self,
        mut cursor: Cursor,
        point: Point,
        keep: &SlotSet,
        behind: &AtomicU64,
    ) -> Result<(), CursorError> {
        let (epoch, stamp) = cursor.highest();
        let mut builder = FrameBuilder::new(point.position, point.stream_chain, epoch, stamp);
        let mut growth = Growth::default();
        // The log's chain at the end of what is in the builder, and the file that it is in.
        let (mut chain, mut file) = (cursor.chain(), cursor.file().number);
        let mut measured = Instant::now();
        loop {
            let more = cursor.advance_live().await?;
            if more {
                growth.flowed();
                if let Some(timeline) =
                    cursor.started().and_then(|h| h.current()).map(|s| s.timeline)
                {
                    self.flush(&mut builder, chain, file, true).await;
                    builder
                        .begin_timeline(timeline)
                        .map_err(|error| push_failed(&cursor, &error))?;
                }
                if let Some(intent) = cursor.load() {
                    let fed = Fed::Load(Box::new(intent.clone()));
                    self.flush(&mut builder, chain, file, true).await;
                    // Nobody listens any more: the caller is about to be dropped.
                    let _ = self.sender.send(Ok(fed)).await;
                }
                let pushed = builder.push(&cursor.batch()?, keep);
                if let Err(PushError::Full { .. }) = pushed {
                    self.flush(&mut builder, chain, file, true).await;
                    let again = builder.push(&cursor.batch()?, keep);
                    again.map_err(|error| push_failed(&cursor, &error))?;
                } else {
                    pushed.map_err(|error| push_failed(&cursor, &error))?;
                }
                (chain, file) = (cursor.chain(), cursor.file().number);
            }
            if builder.raw_len() >= FRAME_BYTES || (!more && self.is_due(&builder)) {
                self.flush(&mut builder, chain, file, more).await;
            }
            if measured.elapsed() > MEASURE_EVERY {
                behind.store(cursor.behind(), Ordering::Relaxed);
                measured = Instant::now();
            }
            if !more && builder.is_empty() {
                growth.wait(&cursor).await;
            } else if !more {
                tokio::time::sleep(GATHER_POLL).await;
            }
        }
    }

    /// Whether what was gathered must wait no longer for more. On a link where a round trip takes
    /// long a frame waits for a small part of that, and is packed the better for it.
    fn is_due(&mut self, builder: &FrameBuilder) -> bool {
        let gather = self.link.gather();
        if builder.is_empty() || gather.is_zero() {
            return true;
        }
        self.gathering.get_or_insert_with(Instant::now).elapsed() >= gather
    }

    async fn flush(
        &mut self,
        builder: &mut FrameBuilder,
        log_chain: Chain,
        file: u64,
        behind: bool,
    ) {
        let end = builder.end();
        self.gathering = None;
        let pressed = behind || self.sender.capacity() == 0;
        let Some(bytes) = self.packer.pack(builder, log_chain, &self.link, pressed) else { return };
        // Nobody listens any more: the caller is about to be dropped.
        let _ = self.sender.send(Ok(Fed::Frame(Framed { bytes, end, file }))).await;
    }
}

fn push_failed(cursor: &Cursor, error: &PushError) -> CursorError {
    CursorError::Foreign { path: cursor.file().path.clone(), why: error.to_string() }
}
