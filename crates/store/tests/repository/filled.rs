//! Repositories with something in them, and short names for what is looked for.

use std::path::Path;
use std::time::Duration;

use keyspace::{Cf, Hlc, SlotSet};
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::{
    Archive, ArchiveName, FileEntry, Keys, Manifest, Missing, Plan, Repository, Segment, Target,
};
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder, FrameHeader};
use wal::segment::SegmentHeader;
use wal::{Chain as StreamChain, History, Kind, Position, Sequence, Tag, TimelineId};

pub(crate) fn directory(path: &Path) -> Bucket {
    let address = BucketAddress::Directory(path.to_owned());
    Bucket::open(&address, &S3Options::default()).unwrap()
}

pub(crate) async fn create(bucket: Bucket, keys: &Keys) -> Repository {
    Repository::create(bucket, keys.clone(), Duration::ZERO).await.unwrap()
}

pub(crate) fn name() -> ArchiveName {
    ArchiveName::new("demo", "a", 0).unwrap()
}

pub(crate) fn at(timeline: u128, sequence: u64) -> Position {
    Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
}

/// Writes a log: a batch of one record at each sequence, stamped a second later than the one before.
pub(crate) struct Log {
    pub(crate) source: &'static str,
    pub(crate) end: Position,
    pub(crate) chain: StreamChain,
    pub(crate) stream: u64,
}

pub(crate) fn stamp(sequence: u64) -> Hlc {
    Hlc::new(1_000_000 + sequence * 1000, 0)
}

impl Log {
    pub(crate) fn at(end: Position, stream: u64) -> Self {
        Self { source: "a/0", end, chain: StreamChain::START, stream }
    }

    /// The next segment, up to this position.
    pub(crate) fn segment(&mut self, repository: &Repository, to: Position) -> (Segment, Vec<u8>) {
        let mut builder = FrameBuilder::new(self.end, self.chain, 1, Hlc(0));
        if to.timeline != self.end.timeline {
            builder.begin_timeline(to.timeline).unwrap();
        }
        for sequence in self.end.sequence.0 + 1..=to.sequence.0 {
            let mut batch = BatchBuilder::new(Sequence(sequence));
            batch.put(Cf::Meta, &[0, 1, b'k'], &sequence.to_le_bytes());
            let tag =
                Tag { kind: Kind::Data, origin: 1, epoch: 1, stamp: stamp(sequence), marker: 0 };
            batch.log_data(&tag.encode());
            let bytes = batch.finish();
            builder.push(&BatchRef::parse(&bytes).unwrap(), &SlotSet::all()).unwrap();
        }
        let frame = builder.finish(Codec::Zstd, StreamChain(7)).unwrap();
        let last = FrameHeader::parse(&frame).unwrap().unwrap();
        let header = SegmentHeader {
            service: SegmentHeader::service_of("demo"),
            source: self.source.to_owned(),
            start: self.end,
            chain: self.chain,
        };
        let mut bytes = header.encode().unwrap();
        bytes.extend_from_slice(&frame);
        let segment = Segment {
            start: self.end,
            end: last.end,
            chain_before: self.chain,
            chain: last.chain,
            log_chain: last.log_chain,
            stamp: last.stamp,
            epoch: 1,
            bytes: bytes.len() as u64,
            blake3: repository.id_of(&bytes),
            stream: self.stream,
            taken_at: last.stamp.ms(),
        };
        (self.end, self.chain) = (last.end, last.chain);
        (segment, bytes)
    }

    pub(crate) async fn archive(&mut self, archive: &mut Archive, to: Position) {
        let (segment, bytes) = self.segment(&archive.repository().clone(), to);
        archive.add_segment(segment, bytes).await.unwrap();
    }
}

/// A manifest of two files, one of which every checkpoint has.
pub(crate) async fn manifest(repository: &Repository, position: Position) -> Manifest {
    let known = repository.known().await.unwrap();
    let mut files = Vec::new();
    let own = format!("MANIFEST of {position}");
    for (name, bytes) in [("000012.sst", "godwit ".repeat(10_000)), ("MANIFEST-000001", own)] {
        let bytes = bytes.into_bytes();
        let size = bytes.len() as u64;
        let piece = match repository.find_piece(&known, &bytes).await.unwrap() {
            Some(piece) => piece,
            None => repository.put_piece(&known, bytes).await.unwrap().0,
        };
        files.push(FileEntry { name: name.parse().unwrap(), size, pieces: vec![piece] });
    }
    Manifest {
        format: Manifest::FORMAT,
        service: "demo".to_owned(),
        shard: "a/0".to_owned(),
        slots: SlotSet::all(),
        database: "0123456789abcdef0123456789abcdef".to_owned(),
        position,
        history: History::default(),
        stamp: stamp(position.sequence.0),
        epoch: 1,
        taken_at: stamp(position.sequence.0).ms(),
        files,
        log: Vec::new(),
        cut: None,
        digest: None,
    }
}

pub(crate) async fn base(archive: &mut Archive, position: Position, stream: u64) {
    let manifest = manifest(&archive.repository().clone(), position).await;
    archive.add_base(&manifest, stream).await.unwrap();
}

/// A checkpoint at 10, segments to 20, 30 and 40, a checkpoint at 25; a power cut to 35 and another
/// timeline to 50; then a hole, a checkpoint at 70 and a segment to 80.
pub(crate) async fn fill(archive: &mut Archive) {
    let mut log = Log::at(at(1, 10), 0);
    base(archive, at(1, 10), 0).await;
    log.archive(archive, at(1, 20)).await;
    log.archive(archive, at(1, 30)).await;
    base(archive, at(1, 25), 0).await;
    log.archive(archive, at(1, 40)).await;
    let mut forked = Log::at(at(1, 35), 1);
    forked.archive(archive, at(2, 50)).await;
    let mut later = Log::at(at(2, 70), 2);
    base(archive, at(2, 70), 2).await;
    later.archive(archive, at(2, 80)).await;
}

/// Which base a plan takes, which segments' ends, and where it ends.
pub(crate) fn way(plan: &Plan) -> (u64, Vec<u64>, Position) {
    let steps = plan.steps.iter().map(|step| step.until.0).collect();
    (plan.base.position.sequence.0, steps, plan.end())
}

pub(crate) async fn settled(
    archive: &Archive,
    target: Target,
) -> Result<(u64, Vec<u64>, Position), Missing> {
    let mut plan = Plan::of(archive, target)?;
    while let Some(segment) = plan.unsettled() {
        let bytes = archive.segment(segment).await.unwrap();
        let name = archive.name_of(segment).clone();
        plan.settle(&name, &bytes)?;
    }
    Ok(way(&plan))
}

/// Every file below a directory.
pub(crate) fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
