//! What was received and is not yet applied for good: segment files on this side's disk.
//!
//! `<spool>/stage/<cluster>-<shard>/<number>.seg`. The receiver appends, a task of its own syncs in
//! groups, the applier reads behind, files go once the node has synced their positions.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stream::message::Point;
use topology::ShardName;
use wal::frame::{FrameHeader, FrameRef};
use wal::segment::{SegmentHeader, Tail, scan};
use wal::{Position, Sequence};

/// Files are closed, and the next ones begun, beyond this, where the budget has room for several.
const SEGMENT_BYTES: u64 = 32 << 20;
/// Bytes of frames that are kept in memory too.
const RECENT_BYTES: usize = 1 << 20;

/// Why a stage cannot be used. What it held is still at the source.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The disk.
    #[error(
        "cannot {what} the stage file {path}: {why}; nothing that was acknowledged as staged is lost"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        why: io::Error,
    },
    /// A frame that is no frame, or does not go on.
    #[error("a frame was refused: {0}; the stream is made again from the last good one")]
    Frame(String),
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |why| StageError::Io { what, path, why }
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    /// Where its first frame starts.
    header_len: u64,
    len: u64,
    start: Point,
    end: Point,
}

/// Where a frame is in the stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub segment: u64,
    /// Bytes from its start.
    pub offset: u64,
}

/// The stage of one source.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    service: u64,
    source: ShardName,
    segments: VecDeque<Segment>,
    active: Option<File>,
    /// A file is closed, and the next one begun, beyond this.
    segment_bytes: u64,
    next: u64,
    recent: Recent,
    /// The file that was read last.
    reading: Option<(u64, File)>,
}

impl Stage {
    /// Opens what is there: a torn tail is cut off, and what does not go on from what is before it
    /// is removed, to be fetched again.
    pub fn open(root: &Path, service: &str, source: &ShardName) -> Result<Self, StageError> {
        let dir = root.join("stage").join(format!("{}-{}", source.cluster, source.shard));
        fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        let mut stage = Self {
            dir,
            service: SegmentHeader::service_of(service),
            source: source.clone(),
            segments: VecDeque::new(),
            active: None,
            segment_bytes: SEGMENT_BYTES,
            next: 1,
            recent: Recent::default(),
            reading: None,
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&stage.dir).map_err(failed("list", &stage.dir))? {
            let path = entry.map_err(failed("list", &stage.dir))?.path();
            let stem =
                path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".seg"));
            numbers.extend(stem.and_then(|n| n.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let mut whole = true;
        for number in numbers {
            stage.next = number + 1;
            let path = stage.path(number);
            let segment = if whole { stage.recover(number, &path)? } else { None };
            match segment {
                Some((segment, clean)) => {
                    whole = clean;
                    stage.segments.push_back(segment);
                }
                None => {
                    whole = false;
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(stage)
    }

    /// The good part of a file, cut to it; `None` if nothing of it can be used. The flag: nothing
    /// was cut, so the next file may go on from it.
    fn recover(&self, number: u64, path: &Path) -> Result<Option<(Segment, bool)>, StageError> {
        let bytes = fs::read(path).map_err(failed("read", path))?;
        let scan = match scan(&bytes) {
            Ok(scan) => scan,
            Err(error) => {
                tracing::warn!("{}: {error}; it is fetched again", path.display());
                return Ok(None);
            }
        };
        if scan.header.service != self.service || scan.header.source != self.source.to_string() {
            tracing::warn!("{} is of another stream; it is removed", path.display());
            return Ok(None);
        }
        let start = Point {
            position: scan.header.start,
            log_chain: wal::Chain::START,
            stream_chain: scan.header.chain,
        };
        if self.segments.back().is_some_and(|before| {
            before.end.position != start.position || before.end.stream_chain != start.stream_chain
        }) {
            tracing::warn!(
                "{} does not go on from the file before it; it is fetched again",
                path.display()
            );
            return Ok(None);
        }
        let clean = scan.tail == Tail::Clean;
        if !clean {
            tracing::warn!(
                "{}: {} of {} bytes are good ({:?}); the rest is cut off and fetched again, nothing that was acknowledged as staged is lost but by damage of the disk",
                path.display(),
                scan.valid,
                bytes.len(),
                scan.tail
            );
            let file = File::options().write(true).open(path).map_err(failed("open", path))?;
            file.set_len(scan.valid as u64).map_err(failed("cut", path))?;
            file.sync_all().map_err(failed("sync", path))?;
        }
        let segment = Segment {
            number,
            path: path.to_owned(),
            header_len: scan.header.encoded_len() as u64,
            len: scan.valid as u64,
            start,
            end: scan.last.as_ref().map_or(start, end_of),
        };
        Ok(Some((segment, clean)))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.seg"))
    }

    /// Sizes files for this budget: the newest one always stays, so it must be a small part of it, or a
    /// stage that is full would never have room again.
    pub fn fit(&mut self, budget: u64) {
        self.segment_bytes = SEGMENT_BYTES.min(budget / 4);
    }

    /// Where the last frame ends; `None` for an empty stage.
    pub fn tip(&self) -> Option<Point> {
        self.segments.back().map(|segment| segment.end)
    }

    /// Where the first frame starts.
    pub fn start(&self) -> Option<Position> {
        self.segments.front().map(|segment| segment.start.position)
    }

    /// Whether a node at this sequence can go on from here: no hole between.
    pub fn reaches(&self, applied: Sequence) -> bool {
        self.segments.front().is_some_and(|s| s.start.position.sequence <= applied)
            && self.tip().is_some_and(|tip| tip.position.sequence >= applied)
    }

    /// Whether there are files that nothing is appended to any more.
    pub fn has_old_files(&self) -> bool {
        self.segments.len() > 1
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Forgets everything and goes on from this point.
    pub fn reset(&mut self, point: Point) -> Result<(), StageError> {
        self.forget_files();
        while let Some(segment) = self.segments.pop_front() {
            fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
        }
        self.begin(point)
    }

    /// Moves everything into this directory and goes on from this point.
    pub fn set_aside(&mut self, dir: &Path, point: Point) -> Result<(), StageError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        self.forget_files();
        while let Some(segment) = self.segments.pop_front() {
            let to = dir.join(segment.path.file_name().unwrap_or_default());
            fs::rename(&segment.path, &to).map_err(failed("move", &segment.path))?;
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))?;
        self.begin(point)
    }

    fn forget_files(&mut self) {
        (self.active, self.reading) = (None, None);
        self.recent = Recent::default();
    }

    fn begin(&mut self, point: Point) -> Result<(), StageError> {
        let path = self.path(self.next);
        let header = SegmentHeader {
            service: self.service,
            source: self.source.to_string(),
            start: point.position,
            chain: point.stream_chain,
        };
        let bytes = header.encode().map_err(|error| StageError::Frame(error.to_string()))?;
        if let Some(active) = &self.active {
            active.sync_data().map_err(failed("sync", &path))?;
        }
        let mut file = File::options()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(failed("create", &path))?;
        file.write_all(&bytes).map_err(failed("write", &path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))?;
        let len = bytes.len() as u64;
        let segment =
            Segment { number: self.next, path, header_len: len, len, start: point, end: point };
        self.segments.push_back(segment);
        self.active = Some(file);
        self.next += 1;
        Ok(())
    }

    /// Appends a frame that goes on where the last one ended. Not synced yet.
    pub fn append(&mut self, bytes: &[u8]) -> Result<FrameHeader, StageError> {
        let refuse = |why: String| StageError::Frame(why);
        let parsed = FrameRef::parse(bytes).map_err(|error| refuse(error.to_string()))?;
        let (frame, len) = parsed.ok_or_else(|| refuse("it is cut off".to_owned()))?;
        if len != bytes.len() {
            return Err(refuse(format!("{} bytes follow it", bytes.len() - len)));
        }
        let header = *frame.header();
        let tip = self.tip().ok_or_else(|| refuse("no position to go on from".to_owned()))?;
        if header.start != tip.position || header.chain_before != tip.stream_chain {
            return Err(refuse(format!(
                "it starts at {}, the last one ended at {} (chains {:?} and {:?})",
                header.start, tip.position, header.chain_before, tip.stream_chain
            )));
        }
        if self.active.is_none()
            || self.segments.back().is_some_and(|s| s.len >= self.segment_bytes)
        {
            self.begin(tip)?;
        }
        let segment = self.segments.back_mut().expect("one was begun");
        let file = self.active.as_mut().expect("one was begun");
        if let Err(why) = file.write_all(bytes) {
            // Half a frame must not stay in the middle of the file.
            let _ = file.set_len(segment.len);
            return Err(failed("write", &segment.path)(why));
        }
        let place = Place { segment: segment.number, offset: segment.len };
        segment.len += bytes.len() as u64;
        segment.end = end_of(&header);
        self.recent.push(place, &header, bytes);
        Ok(header)
    }

    /// The file that is being appended to, for a sync outside of the lock.
    pub fn active(&self) -> Option<io::Result<File>> {
        self.active.as_ref().map(File::try_clone)
    }

    /// Removes files that end at or below what the node has synced, but for the newest.
    pub fn forget(&mut self, synced: Sequence) -> Result<(), StageError> {
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|s| s.end.position.sequence <= synced)
        {
            let Some(segment) = self.segments.pop_front() else { break };
            fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
        }
        Ok(())
    }

    /// A place at or after `place` before which every frame ends at or below `at`: whole files are
    /// passed without a look at their frames.
    pub fn skip_to(&self, place: Place, at: Sequence) -> Place {
        let below = |s: &&Segment| s.end.position.sequence <= at;
        let next = self.segments.iter().filter(|s| s.number >= place.segment).find(|s| !below(s));
        match next {
            Some(segment) if segment.number > place.segment => {
                Place { segment: segment.number, offset: 0 }
            }
            _ => place,
        }
    }

    /// The first frame at or after `place`, with the place after it; `None` at the end.
    pub fn frame_at(
        &mut self,
        place: Place,
    ) -> Result<Option<(Vec<u8>, FrameHeader, Place)>, StageError> {
        for segment in self.segments.iter().filter(|s| s.number >= place.segment) {
            let offset = if segment.number == place.segment {
                place.offset.max(segment.header_len)
            } else {
                segment.header_len
            };
            if offset >= segment.len {
                continue;
            }
            let here = Place { segment: segment.number, offset };
            if let Some((header, bytes)) = self.recent.take(here) {
                let after = Place { offset: offset + bytes.len() as u64, ..here };
                return Ok(Some((bytes, header, after)));
            }
            let file = match &mut self.reading {
                Some((number, file)) if *number == segment.number => &*file,
                held => {
                    let file = File::open(&segment.path).map_err(failed("open", &segment.path))?;
                    &held.insert((segment.number, file)).1
                }
            };
            let mut head = [0; FrameHeader::LEN];
            file.read_exact_at(&mut head, offset).map_err(failed("read", &segment.path))?;
            let header = FrameHeader::parse(&head)
                .map_err(|error| StageError::Frame(format!("{}: {error}", segment.path.display())))?
                .ok_or_else(|| StageError::Frame("cut off".to_owned()))?;
            let mut bytes = vec![0; header.frame_len()];
            file.read_exact_at(&mut bytes, offset).map_err(failed("read", &segment.path))?;
            let after = Place { segment: segment.number, offset: offset + bytes.len() as u64 };
            return Ok(Some((bytes, header, after)));
        }
        Ok(None)
    }
}

/// The last frames that were appended, so that an applier that keeps up need not read them.
#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<(Place, FrameHeader, Vec<u8>)>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, place: Place, header: &FrameHeader, bytes: &[u8]) {
        if bytes.len() > RECENT_BYTES {
            return;
        }
        self.bytes += bytes.len();
        self.frames.push_back((place, *header, bytes.to_vec()));
        while self.bytes > RECENT_BYTES {
            let Some((_, _, old)) = self.frames.pop_front() else { break };
            self.bytes -= old.len();
        }
    }

    /// The frame at this place; what is before it is not asked for any more.
    fn take(&mut self, place: Place) -> Option<(FrameHeader, Vec<u8>)> {
        while let Some((at, ..)) = self.frames.front().filter(|(at, ..)| *at <= place) {
            let found = *at == place;
            let (_, header, bytes) = self.frames.pop_front()?;
            self.bytes -= bytes.len();
            if found {
                return Some((header, bytes));
            }
        }
        None
    }
}

fn end_of(header: &FrameHeader) -> Point {
    Point { position: header.end, log_chain: header.log_chain, stream_chain: header.chain }
}
