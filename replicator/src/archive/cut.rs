//! From the log to segments, on a thread of its own: frames of whole batches, gathered until there are
//! enough of them or the first has waited long enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyspace::{Hlc, SlotSet};
use tokio::sync::{mpsc, watch};
use wal::frame::{Codec, FrameBuilder, FrameHeader, PushError};
use wal::segment::SegmentHeader;
use wal::{Chain, Position, Sequence};

use crate::cursor::{Cursor, CursorError, Growth};

/// A frame is finished at this size; in a segment large frames compress better than small ones.
const FRAME_BYTES: usize = 1 << 20;
/// Segments that wait to be shipped: with the one that is gathered and the one that is shipped, three
/// are in memory.
const QUEUE: usize = 1;
/// How often the distance to the end of the log is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(500);

/// When a segment ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So long after its first batch.
    pub every: Duration,
    /// Or with so many bytes.
    pub bytes: u64,
    /// The last one ends before the first batch with a stamp above this one; `None`: there is no last.
    pub until: Option<Hlc>,
}

/// Where a stream of segments begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The position.
    pub position: Position,
    /// The stream's chain there.
    pub chain: Chain,
}

/// A segment, ready to be shipped.
#[derive(Debug)]
pub struct Cut {
    /// The whole segment.
    pub bytes: Vec<u8>,
    /// What its header says.
    pub header: SegmentHeader,
    /// What its last frame says.
    pub last: FrameHeader,
    /// The number of the log file that its last batch is in.
    pub file: u64,
}

/// Why there are no more segments.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The log cannot be read on.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// All that was asked for was cut; the last batch of it is in the log file of that number.
    #[error("the log was read up to the cut")]
    Reached {
        /// The file's number.
        file: u64,
    },
    /// A load was taken in, which is not in the log.
    #[error("load {0} was taken in, which a log alone does not hold")]
    Load(String),
}

/// A thread that makes segments. Dropping it ends the thread.
#[derive(Debug)]
pub struct Cutter {
    /// The segments, each following on the one before.
    pub cuts: mpsc::Receiver<Result<Cut, CutError>>,
    /// Bytes of the log that were not read yet.
    pub behind: Arc<AtomicU64>,
    /// How soon segments are wanted.
    pub haste: watch::Sender<Haste>,
}

/// How soon segments are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// As the limits say.
    None,
    /// As soon as the log has nothing more: a switch waits for its end.
    Frozen,
    /// The same, and nothing behind this position, where others have left the log.
    UpTo(Position),
}

impl Cutter {
    /// Segments of what follows the cursor; `service` and `source` say whose log it is.
    pub fn start(
        cursor: Cursor,
        start: Start,
        keep: SlotSet,
        (service, source): (u64, String),
        limits: Limits,
    ) -> std::io::Result<Self> {
        let (sender, cuts) = mpsc::channel(QUEUE);
        let behind = Arc::new(AtomicU64::new(0));
        let (haste, wanted) = watch::channel(Haste::None);
        let (epoch, stamp) = cursor.highest();
        let work = Work {
            growth: Growth::default(),
            builder: FrameBuilder::new(start.position, start.chain, epoch, stamp),
            gathered: Gathered::at(service, source, start),
            file: cursor.file().number,
            log_chain: cursor.chain(),
            cursor,
            keep,
            limits,
            sender: sender.clone(),
            behind: behind.clone(),
            wanted,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    end = work.run() => if let Err(error) = end {
                        // Archiving has ended if nobody listens.
                        let _ = sender.send(Err(error)).await;
                    },
                    () = sender.closed() => {}
                }
            });
        })?;
        Ok(Self { cuts, behind, haste })
    }
}

/// Frames of a segment that is not cut yet.
struct Gathered {
    header: SegmentHeader,
    bytes: Vec<u8>,
    last: Option<FrameHeader>,
}

impl Gathered {
    fn at(service: u64, source: String, start: Start) -> Self {
        let header = SegmentHeader { service, source, start: start.position, chain: start.chain };
        Self { header, bytes: Vec::new(), last: None }
    }
}

struct Work {
    cursor: Cursor,
    growth: Growth,
    builder: FrameBuilder,
    gathered: Gathered,
    keep: SlotSet,
    limits: Limits,
    /// The log's chain at the end of what is in the builder, and the file that it is in.
    log_chain: Chain,
    file: u64,
    sender: mpsc::Sender<Result<Cut, CutError>>,
    behind: Arc<AtomicU64>,
    wanted: watch::Receiver<Haste>,
}

impl Work {
    async fn run(mut self) -> Result<(), CutError> {
        let (mut measured, mut since) = (Instant::now(), None::<Instant>);
        loop {
            let more = match self.cursor.advance_live().await {
                Ok(more) => more,
                Err(error) => {
                    // What was read is good, whatever comes next.
                    self.cut().await;
                    return Err(error.into());
                }
            };
            let next = if more { Some(self.cursor.batch()?.end()) } else { None };
            if self.is_over(next) {
                self.cut().await;
                return Err(CutError::Reached { file: self.file });
            }
            if more {
                self.growth.flowed();
                self.take().await?;
                since.get_or_insert_with(Instant::now);
            }
            let hasty = !more && *self.wanted.borrow() != Haste::None;
            let due = since.is_some_and(|s| hasty || s.elapsed() >= self.limits.every);
            let size = self.gathered.bytes.len() + self.builder.raw_len();
            if due || size as u64 >= self.limits.bytes {
                self.frame();
                // What was not packed yet may have become small.
                if due || self.gathered.bytes.len() as u64 >= self.limits.bytes {
                    self.cut().await;
                    since = None;
                }
            } else if self.builder.raw_len() >= FRAME_BYTES {
                self.frame();
            }
            if measured.elapsed() > MEASURE_EVERY {
                self.behind.store(self.cursor.behind() + size as u64, Ordering::Relaxed);
                measured = Instant::now();
            }
            if !more {
                // It returns soon in any case, so the clock is looked at.
                let left = since.map(|since| self.limits.every.saturating_sub(since.elapsed()));
                let wait = self.growth.wait(&self.cursor);
                let news = async {
                    if self.wanted.changed().await.is_err() {
                        // Nobody changes it any more.
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = wait => {}
                    () = news => {}
                    () = tokio::time::sleep(left.unwrap_or(Duration::MAX)) => {}
                }
            }
        }
    }

    /// Whether the log is gathered up to where it was left; `next` is the end of the batch that comes.
    fn is_over(&self, next: Option<Sequence>) -> bool {
        let Haste::UpTo(end) = *self.wanted.borrow() else { return false };
        let at = self.builder.end();
        let past = |sequence: Sequence| sequence > end.sequence;
        at.timeline == end.timeline && (at.sequence >= end.sequence || next.is_some_and(past))
    }

    /// The batch that the cursor went to.
    async fn take(&mut self) -> Result<(), CutError> {
        if let Some(until) = self.limits.until
            && self.cursor.batch()?.tags().flatten().any(|tag| tag.stamp > until)
        {
            self.cut().await;
            return Err(CutError::Reached { file: self.file });
        }
        if let Some(timeline) = self.cursor.started().and_then(|h| h.current()).map(|s| s.timeline)
        {
            // All frames of a segment end on one timeline.
            self.cut().await;
            self.builder.begin_timeline(timeline).map_err(|error| self.failed(&error))?;
        }
        if let Some(load) = self.cursor.load().map(|intent| intent.id.clone()) {
            self.cut().await;
            return Err(CutError::Load(load));
        }
        let pushed = self.builder.push(&self.cursor.batch()?, &self.keep);
        if let Err(PushError::Full { .. }) = pushed {
            self.frame();
            let again = self.builder.push(&self.cursor.batch()?, &self.keep);
            again.map_err(|error| self.failed(&error))?;
        } else {
            pushed.map_err(|error| self.failed(&error))?;
        }
        (self.log_chain, self.file) = (self.cursor.chain(), self.cursor.file().number);
        Ok(())
    }

    /// Finishes the frame that is being built.
    fn frame(&mut self) {
        let Some(frame) = self.builder.finish(Codec::Zstd, self.log_chain) else { return };
        let header = FrameHeader::parse(&frame).ok().flatten();
        self.gathered.last = Some(header.expect("a frame that was just built has a header"));
        self.gathered.bytes.extend_from_slice(&frame);
    }

    /// Hands over what was gathered, and begins the next segment.
    async fn cut(&mut self) {
        self.frame();
        let Some(last) = self.gathered.last else { return };
        let header = self.gathered.header.clone();
        let start = Start { position: last.end, chain: last.chain };
        let next = Gathered::at(header.service, header.source.clone(), start);
        let frames = std::mem::replace(&mut self.gathered, next).bytes;
        let mut bytes = header.encode().expect("a shard's name is short");
        bytes.extend_from_slice(&frames);
        // Nobody listens any more: this is about to be dropped.
        let _ = self.sender.send(Ok(Cut { bytes, header, last, file: self.file })).await;
    }

    fn failed(&self, error: &PushError) -> CutError {
        let path = self.cursor.file().path.clone();
        CursorError::Foreign { path, why: error.to_string() }.into()
    }
}
