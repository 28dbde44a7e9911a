//! A repository from outside: what was archived and sealed comes back, two who write do not hurt each
//! other, what is needed is kept, and damage is named. Held to the same in a directory, in a bucket, and
//! encrypted.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

mod moto;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyspace::{Cf, Hlc, SlotSet};
use moto::Moto;
use store::bucket::{Bucket, BucketAddress, Operation, S3Options};
use store::repository::archive::{Fork, Mark};
use store::repository::chain::Chain;
use store::repository::plan::{Frames, holes, spans};
use store::repository::{
    Archive, ArchiveName, FileEntry, Followed, Keep, Keys, Manifest, Missing, Plan, Repository,
    Segment, Snapshots, State, Target,
};
use store::{SnapshotId, StoreError};
use wal::batch::{BatchBuilder, BatchRef};
use wal::frame::{Codec, FrameBuilder, FrameHeader};
use wal::segment::SegmentHeader;
use wal::{Chain as StreamChain, History, Kind, Position, Sequence, Tag, TimelineId};

fn directory(path: &Path) -> Bucket {
    let address = BucketAddress::Directory(path.to_owned());
    Bucket::open(&address, &S3Options::default()).unwrap()
}

async fn create(bucket: Bucket, keys: &Keys) -> Repository {
    Repository::create(bucket, keys.clone(), Duration::ZERO).await.unwrap()
}

fn name() -> ArchiveName {
    ArchiveName::new("demo", "a", 0).unwrap()
}

fn at(timeline: u128, sequence: u64) -> Position {
    Position { timeline: TimelineId(timeline), sequence: Sequence(sequence) }
}

/// Writes a log: a batch of one record at each sequence, stamped a second later than the one before.
struct Log {
    source: &'static str,
    end: Position,
    chain: StreamChain,
    stream: u64,
}

fn stamp(sequence: u64) -> Hlc {
    Hlc::new(1_000_000 + sequence * 1000, 0)
}

impl Log {
    fn at(end: Position, stream: u64) -> Self {
        Self { source: "a/0", end, chain: StreamChain::START, stream }
    }

    /// The next segment, up to this position.
    fn segment(&mut self, repository: &Repository, to: Position) -> (Segment, Vec<u8>) {
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

    async fn archive(&mut self, archive: &mut Archive, to: Position) {
        let (segment, bytes) = self.segment(&archive.repository().clone(), to);
        archive.add_segment(segment, bytes).await.unwrap();
    }
}

/// A manifest of two files, one of which every checkpoint has.
async fn manifest(repository: &Repository, position: Position) -> Manifest {
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

async fn base(archive: &mut Archive, position: Position, stream: u64) {
    let manifest = manifest(&archive.repository().clone(), position).await;
    archive.add_base(&manifest, stream).await.unwrap();
}

/// A checkpoint at 10, segments to 20, 30 and 40, a checkpoint at 25; a power cut to 35 and another
/// timeline to 50; then a hole, a checkpoint at 70 and a segment to 80.
async fn fill(archive: &mut Archive) {
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
fn way(plan: &Plan) -> (u64, Vec<u64>, Position) {
    let steps = plan.steps.iter().map(|step| step.until.0).collect();
    (plan.base.position.sequence.0, steps, plan.end())
}

async fn settled(archive: &Archive, target: Target) -> Result<(u64, Vec<u64>, Position), Missing> {
    let mut plan = Plan::of(archive, target)?;
    while let Some(segment) = plan.unsettled() {
        let bytes = archive.segment(segment).await.unwrap();
        let name = archive.name_of(segment).clone();
        plan.settle(&name, &bytes)?;
    }
    Ok(way(&plan))
}

async fn moments_are_found(bucket: Bucket, keys: Keys) {
    let repository = create(bucket.clone(), &keys).await;
    fill(&mut Archive::open(&repository, &name()).await.unwrap()).await;
    let repository = Repository::open(bucket, keys).await.unwrap();
    assert_eq!(repository.archives().await.unwrap(), [name()]);
    let archive = Archive::open(&repository, &name()).await.unwrap();
    assert_eq!(archive.records().len(), 8);
    let segment = archive.segments().next().unwrap();
    let bytes = archive.segment(segment).await.unwrap();
    assert_eq!(Frames::check(&name(), segment, &bytes).unwrap().count(), 1);
    let manifest = archive.manifest(archive.bases().next().unwrap()).await.unwrap();
    let first = repository.piece(&manifest.files[0].pieces[0]).await.unwrap();
    assert_eq!(first, "godwit ".repeat(10_000).into_bytes());

    let check = async |target, expected| {
        assert_eq!(settled(&archive, target).await, Ok(expected), "{target:?}");
    };
    check(Target::Latest, (70, vec![80], at(2, 80))).await;
    check(Target::Position(at(1, 10)), (10, vec![], at(1, 10))).await;
    check(Target::Position(at(1, 22)), (10, vec![20, 22], at(1, 22))).await;
    check(Target::Position(at(1, 25)), (25, vec![], at(1, 25))).await;
    check(Target::Position(at(1, 28)), (25, vec![28], at(1, 28))).await;
    // A timeline is followed up to the fork; what was there beyond it is asked for by its own name.
    check(Target::Position(at(2, 40)), (25, vec![30, 35, 40], at(2, 40))).await;
    check(Target::Position(at(1, 40)), (25, vec![30, 40], at(1, 40))).await;
    let time = |sequence: u64| Target::At(stamp(sequence).ms());
    check(time(10), (10, vec![], at(1, 10))).await;
    check(time(22), (10, vec![20, 22], at(1, 22))).await;
    check(time(30), (25, vec![30], at(1, 30))).await;
    check(time(33), (25, vec![30, 33], at(1, 33))).await;
    check(time(35), (25, vec![30, 35], at(1, 35))).await;
    check(time(38), (25, vec![30, 35, 38], at(2, 38))).await;
    check(Target::At(stamp(38).ms() + 999), (25, vec![30, 35, 38], at(2, 38))).await;
    check(time(75), (70, vec![75], at(2, 75))).await;
    let missing = async |target| settled(&archive, target).await.unwrap_err().to_string();
    for (target, says) in [
        (time(9), "oldest checkpoint"),
        (time(60), "was not archived"),
        (time(81), "reaches to"),
        (Target::Position(at(1, 41)), "in no segment"),
        (Target::Position(at(3, 20)), "in no segment"),
        (Target::Position(at(2, 60)), "in no segment"),
    ] {
        let why = missing(target).await;
        assert!(why.contains(says), "{target:?}: {why}");
    }
    let spans: Vec<_> = spans(&archive).into_iter().map(|s| (s.from, s.to)).collect();
    assert_eq!(spans, [(at(2, 70), at(2, 80)), (at(1, 10), at(2, 50))]);
    let holes: Vec<_> = holes(&archive).into_iter().map(|h| (h.after, h.until)).collect();
    assert_eq!(holes, [(at(2, 50), at(2, 70))]);
}

#[tokio::test]
async fn a_timeline_is_followed_up_to_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    fill(&mut Archive::open(&repository, &name()).await.unwrap()).await;
    let next = async |from: Position| {
        let followed = Followed::open(&repository, &name(), from).await.unwrap();
        let next = followed.next(from)?;
        Some((next.segment.start, next.until.0))
    };
    for (from, leads) in [
        (at(1, 10), Some((at(1, 10), 20))),
        (at(1, 25), Some((at(1, 20), 30))),
        (at(1, 30), Some((at(1, 30), 35))),
        (at(1, 35), Some((at(1, 35), 50))),
        // Whoever went on beyond the fork stays there: only a connection leads it back.
        (at(1, 38), Some((at(1, 30), 40))),
        (at(1, 40), None),
        (at(2, 44), Some((at(1, 35), 50))),
        (at(2, 50), None),
        (at(2, 70), Some((at(2, 70), 80))),
        (at(3, 5), None),
    ] {
        assert_eq!(next(from).await, leads, "from {from}");
    }
}

/// The archive of `b/0`, which took over from `a/0` at 35, where its own log stood at 135 on timeline 7;
/// `a/0` is archived up to `reached`.
async fn take_over(repository: &Repository, reached: u64) -> ArchiveName {
    let mut before = Archive::open(repository, &name()).await.unwrap();
    base(&mut before, at(1, 10), 0).await;
    let mut log = Log::at(at(1, 10), 0);
    log.archive(&mut before, at(1, 30)).await;
    log.archive(&mut before, at(1, reached)).await;
    let name = ArchiveName::new("demo", "b", 0).unwrap();
    let mut after = Archive::open(repository, &name).await.unwrap();
    let fork = Fork {
        position: at(7, 135),
        shard: "a/0".to_owned(),
        at: at(1, 35),
        epoch: 2,
        stream: 0,
        taken_at: 1,
    };
    after.add_fork(fork).await.unwrap();
    let mut log = Log { source: "b/0", ..Log::at(at(7, 135), 0) };
    log.archive(&mut after, at(7, 140)).await;
    base(&mut after, at(7, 145), 0).await;
    log.archive(&mut after, at(7, 150)).await;
    name
}

#[tokio::test]
async fn a_moment_after_a_switch_goes_back_into_the_archive_of_who_was_primary() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    // It wrote on beyond the fork, as one does that cannot be reached.
    let name = take_over(&repository, 40).await;
    let mut archive = Archive::open_whole(&repository, &name).await.unwrap();
    let check = async |target, expected| {
        assert_eq!(settled(&archive, target).await, Ok(expected), "{target:?}");
    };
    check(Target::Latest, (145, vec![150], at(7, 150))).await;
    check(Target::Position(at(7, 138)), (10, vec![30, 35, 138], at(7, 138))).await;
    check(Target::At(stamp(138).ms()), (10, vec![30, 35, 138], at(7, 138))).await;
    check(Target::At(stamp(33).ms()), (10, vec![30, 33], at(1, 33))).await;
    check(Target::At(stamp(40).ms()), (10, vec![30, 35], at(1, 35))).await;
    assert!(archive.leads(at(1, 35), at(7, 135)) && !archive.leads(at(1, 36), at(7, 135)));
    let spans: Vec<_> = spans(&archive).into_iter().map(|s| (s.from, s.to)).collect();
    assert_eq!(spans, [(at(1, 10), at(7, 150))]);
    assert_eq!(holes(&archive), []);
    // What is found out of a base is noted where that is.
    let base = archive.bases().next().unwrap().id.clone();
    let before = Archive::open(&repository, &self::name()).await.unwrap();
    let first = before.bases().next().unwrap().id.clone();
    for base in [&base, &first] {
        archive.mark(Mark::Proven { base: base.clone(), at: 5 }).await.unwrap();
        assert_eq!(archive.known_of(base), (None, Some(5)));
    }
    let before = Archive::open(&repository, &self::name()).await.unwrap();
    assert_eq!((before.known_of(&first).1, before.known_of(&base).1), (Some(5), None));
    // Without the other archive it begins at its first checkpoint, as it does if that one ends too soon.
    let alone = Archive::open(&repository, &name).await.unwrap();
    assert_eq!(settled(&alone, Target::Latest).await, Ok((145, vec![150], at(7, 150))));
    assert!(settled(&alone, Target::Position(at(7, 138))).await.is_err());
}

#[tokio::test]
async fn a_log_that_was_not_archived_up_to_the_fork_leaves_a_hole_with_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    let name = take_over(&repository, 33).await;
    let archive = Archive::open_whole(&repository, &name).await.unwrap();
    assert!(settled(&archive, Target::Position(at(7, 138))).await.is_err());
    assert_eq!(settled(&archive, Target::Latest).await, Ok((145, vec![150], at(7, 150))));
    let holes: Vec<_> = holes(&archive).into_iter().map(|h| (h.after, h.until)).collect();
    assert_eq!(holes, [(at(1, 33), at(7, 145))]);
}

#[tokio::test]
async fn an_archive_is_followed_from_any_position_for_one_request_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = directory(dir.path());
    let repository = create(bucket.clone(), &Keys::none()).await;
    let mut archive = Archive::open(&repository, &name()).await.unwrap();
    let mut log = Log::at(at(1, 0), 0);
    // More than two groups of pages.
    for end in 1..=140 {
        log.archive(&mut archive, at(1, end)).await;
    }
    let reads = Repository::open(directory(dir.path()), Keys::none()).await.unwrap();
    for from in [0, 5, 63, 64, 65, 127, 128, 139, 140] {
        let mut followed = Followed::open(&reads, &name(), at(1, from)).await.unwrap();
        let mut here = at(1, from);
        while let Some(next) = followed.next(here) {
            assert_eq!(next.segment.start, here);
            here = next.segment.end;
        }
        assert_eq!(here, at(1, 140), "from {from}");
        assert!(!followed.look(here).await.unwrap());
    }
    let mut followed = Followed::open(&reads, &name(), at(1, 140)).await.unwrap();
    let get = || reads.bucket().requests().of(Operation::Get);
    let before = get();
    assert!(!followed.look(at(1, 140)).await.unwrap());
    assert_eq!(get() - before, 1);
    // It catches up with many for far fewer requests than there are pages, across the end of a group.
    for end in 141..=300 {
        log.archive(&mut archive, at(1, end)).await;
    }
    let (mut here, before) = (at(1, 140), get());
    while followed.look(here).await.unwrap() {
        while let Some(next) = followed.next(here) {
            here = next.segment.end;
        }
    }
    assert_eq!(here, at(1, 300));
    assert!(get() - before < 60, "{} gets", get() - before);
    let of = |operation| reads.bucket().requests().of(operation);
    assert_eq!((of(Operation::List), of(Operation::Put)), (0, 0));
    assert_eq!(
        followed.segment(followed.last().unwrap()).await.unwrap().len() as u64,
        followed.last().unwrap().bytes
    );
}

#[tokio::test]
async fn moments_are_found_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    moments_are_found(directory(dir.path()), Keys::none()).await;
}

#[tokio::test]
async fn moments_are_found_in_an_encrypted_directory() {
    let dir = tempfile::tempdir().unwrap();
    moments_are_found(directory(dir.path()), Keys::generate().unwrap()).await;
    let plain = "MANIFEST of".as_bytes();
    for entry in walk(dir.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        assert!(!bytes.windows(plain.len()).any(|w| w == plain), "{}", entry.display());
    }
}

#[tokio::test]
async fn moments_are_found_in_a_bucket() {
    let Some(moto) = Moto::start() else { return };
    moto.put("archives", None);
    let options = S3Options {
        endpoint: Some(moto.url.clone()),
        path_style: true,
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        ..S3Options::default()
    };
    let bucket = Bucket::open(&"s3://archives/some/where".parse().unwrap(), &options).unwrap();
    moments_are_found(bucket, Keys::none()).await;
}

#[tokio::test]
async fn whoever_has_other_keys_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::generate().unwrap();
    create(directory(dir.path()), &keys.to_write()).await;
    let open = async |keys| Repository::open(directory(dir.path()), keys).await;
    let refusal = async |keys| open(keys).await.unwrap_err().to_string();
    assert!(refusal(Keys::none()).await.contains("name the key file"));
    assert!(refusal(Keys::generate().unwrap()).await.contains("other keys"));
    assert!(open(keys.rotate().unwrap()).await.is_ok());
    let plain = tempfile::tempdir().unwrap();
    create(directory(plain.path()), &Keys::none()).await;
    let why = Repository::open(directory(plain.path()), keys).await.unwrap_err().to_string();
    assert!(why.contains("not encrypted"), "{why}");
    let empty = tempfile::tempdir().unwrap();
    let none = Repository::open(directory(empty.path()), Keys::none()).await.unwrap_err();
    assert!(matches!(none, StoreError::NoRepository { .. }), "{none}");
    std::fs::write(empty.path().join("GODWIT-STORE"), "godwit-store format 1\n").unwrap();
    let old = Repository::open(directory(empty.path()), Keys::none()).await.unwrap_err();
    assert!(old.to_string().contains("cannot share"), "{old}");
}

#[tokio::test]
async fn a_list_grows_without_being_listed_and_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    let (mut chain, all) = Chain::<u64>::open(&repository, "list", 0).await.unwrap();
    assert!(all.is_empty());
    for number in 0..300 {
        assert_eq!(chain.add(number * 3).await.unwrap(), number);
        if matches!(number, 0 | 1 | 62 | 63 | 64 | 127 | 200) {
            let before = repository.bucket().requests();
            let (again, all) = Chain::<u64>::open(&repository, "list", 0).await.unwrap();
            assert_eq!(all, (0..=number).map(|n| (n, n * 3)).collect::<Vec<_>>());
            assert_eq!(again.next(), number + 1);
            let made = repository.bucket().requests().total() - before.total();
            assert!(made < 24, "{made} requests to read {number} records");
        }
    }
    assert_eq!(repository.bucket().requests().of(Operation::List), 0);
    // Another writer: whoever comes second has to read again.
    let (mut other, _) = Chain::<u64>::open(&repository, "list", 300).await.unwrap();
    other.add(1).await.unwrap();
    let late = chain.add(2).await.unwrap_err();
    assert!(matches!(late, StoreError::Overtaken { .. }), "{late}");
    // A page at another place, or changed, is damage.
    let page = |n: u64| dir.path().join(format!("list/{n:016}"));
    std::fs::copy(page(299), page(301)).unwrap();
    let swapped = Chain::<u64>::open(&repository, "list", 0).await.unwrap_err();
    assert!(swapped.is_damage(), "{swapped}");
}

#[tokio::test]
async fn what_is_needed_is_kept_and_the_rest_goes_in_two_phases() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    let mut archive = Archive::open(&repository, &name()).await.unwrap();
    fill(&mut archive).await;
    let id = SnapshotId::new(std::time::UNIX_EPOCH, 1);
    let mut snapshots = Snapshots::open(&repository).await.unwrap();
    let sealed = manifest(&repository, at(9, 9)).await;
    snapshots.seal(&id, "demo", "a", 5, std::slice::from_ref(&sealed)).await.unwrap();
    assert_eq!(repository.sweep("test", true).await.unwrap().marked, 0, "all is needed");
    assert_eq!(Keep::since(&archive, stamp(15).ms()), None, "the first base is needed");
    let first = archive.bases().next().unwrap().id.clone();
    archive.mark(Mark::Proven { base: first.clone(), at: 1 }).await.unwrap();

    // Of 30 on: the base at 25 is needed, and the one at 10 is the last that was proven.
    let keep = Keep::since(&archive, stamp(30).ms()).unwrap();
    assert_eq!((keep.bases_gone, keep.segments_gone), (0, 1), "{keep:?}");
    archive.forget(keep.segments_below, keep.bases).await.unwrap();
    let archive = Archive::open(&repository, &name()).await.unwrap();
    assert_eq!(archive.bases().next().unwrap().id, first);
    let time = Target::At(stamp(28).ms());
    assert_eq!(settled(&archive, time).await, Ok((25, vec![28], at(1, 28))));
    assert_eq!(
        settled(&archive, Target::Position(at(1, 10))).await,
        Ok((10, vec![], at(1, 10))),
        "the proven one"
    );
    let before = walk(dir.path()).len();
    let swept = repository.sweep("test", false).await.unwrap();
    assert_eq!((swept.deleted, walk(dir.path()).len()), (0, before + 2), "marks and a lease");
    assert!(swept.marked >= 1, "{swept:?}");
    // What is pushed meanwhile does not rely on what is marked.
    let swept = repository.sweep("test", false).await.unwrap();
    assert!(swept.deleted >= 1, "{swept:?}");
    let archive = Archive::open(&repository, &name()).await.unwrap();
    assert_eq!(settled(&archive, time).await, Ok((25, vec![28], at(1, 28))));
    assert_eq!(settled(&archive, Target::Latest).await, Ok((70, vec![80], at(2, 80))));
    for base in archive.bases() {
        for piece in archive.manifest(base).await.unwrap().pieces() {
            repository.piece(piece).await.unwrap();
        }
    }
    let snapshots = Snapshots::open(&repository).await.unwrap();
    let (snapshot, state) = snapshots.get(&id).unwrap();
    assert_eq!((*state, snapshots.manifest(snapshot, 0).await.unwrap()), (State::Sealed, sealed));
}

#[tokio::test]
async fn a_push_does_not_rely_on_what_is_about_to_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let repository = Repository::create(directory(dir.path()), Keys::none(), hour).await.unwrap();
    // Stored, and never named by anything.
    let known = repository.known().await.unwrap();
    let (orphan, _) = repository.put_piece(&known, b"orphan".to_vec()).await.unwrap();
    assert_eq!(repository.sweep("test", false).await.unwrap().marked, 1);
    let known = repository.known().await.unwrap();
    assert_eq!(repository.find_piece(&known, b"orphan").await.unwrap(), None);
    let (copy, _) = repository.put_piece(&known, b"orphan".to_vec()).await.unwrap();
    assert_ne!(copy.name(), orphan.name());
    assert_eq!(repository.piece(&copy).await.unwrap(), b"orphan");
    assert!(!known.is_stale());
}

#[tokio::test]
async fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let repository = create(directory(dir.path()), &Keys::none()).await;
    fill(&mut Archive::open(&repository, &name()).await.unwrap()).await;
    let segments: Vec<_> = walk(dir.path())
        .into_iter()
        .filter(|p| p.to_str().unwrap().contains("/segments/"))
        .collect();
    // Two segments swapped, then one cut off.
    let aside = dir.path().join("aside");
    std::fs::rename(&segments[0], &aside).unwrap();
    std::fs::rename(&segments[1], &segments[0]).unwrap();
    std::fs::rename(&aside, &segments[1]).unwrap();
    let archive = Archive::open(&repository, &name()).await.unwrap();
    let mut damaged = 0;
    for segment in archive.segments() {
        if let Err(why) = archive.segment(segment).await {
            assert!(why.is_damage() && why.to_string().contains("/segments/"), "{why}");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 2);
    let manifest = walk(dir.path()).into_iter().find(|p| p.to_str().unwrap().contains("/bases/"));
    let manifest = manifest.unwrap();
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("000012.sst", "../0012.sst")).unwrap();
    let mut refused = 0;
    for base in archive.bases() {
        refused += usize::from(archive.manifest(base).await.is_err_and(|why| why.is_damage()));
    }
    assert_eq!(refused, 1);
}

/// An S3 store that overwrites whatever it is told: it knows GET, HEAD and PUT, and no conditions.
fn careless_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let objects = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let objects = objects.clone();
            std::thread::spawn(move || answer_all(socket, &objects));
        }
    });
    format!("http://{address}")
}

fn answer_all(mut socket: TcpStream, objects: &Mutex<HashMap<String, Vec<u8>>>) {
    let (mut held, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let Some(head) = held.windows(4).position(|w| w == b"\r\n\r\n") else {
            match socket.read(&mut buf) {
                Ok(n) if n > 0 => held.extend_from_slice(&buf[..n]),
                _ => return,
            }
            continue;
        };
        let text = String::from_utf8(held[..head].to_vec()).unwrap();
        let line: Vec<_> = text.lines().next().unwrap().split(' ').map(str::to_owned).collect();
        let length = text.lines().find_map(|l| {
            l.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
        });
        let end = head + 4 + length.unwrap_or(0);
        while held.len() < end {
            let n = socket.read(&mut buf).unwrap();
            held.extend_from_slice(&buf[..n]);
        }
        let path = line[1].split('?').next().unwrap().to_owned();
        let mut objects = objects.lock().unwrap();
        let (status, body) = match (line[0].as_str(), objects.get(&path)) {
            ("PUT", _) => {
                objects.insert(path, held[head + 4..end].to_vec());
                ("200 OK", Vec::new())
            }
            (_, Some(bytes)) => ("200 OK", bytes.clone()),
            _ => ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        };
        drop(objects);
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"x\"\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).unwrap();
        if line[0] != "HEAD" {
            socket.write_all(&body).unwrap();
        }
        held.drain(..end);
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_not_written_to() {
    let options = S3Options {
        endpoint: Some(careless_store()),
        path_style: true,
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        ..S3Options::default()
    };
    let bucket = Bucket::open(&"s3://b/x".parse().unwrap(), &options).unwrap();
    let made = Repository::create(bucket, Keys::none(), Duration::ZERO).await;
    let why = made.unwrap_err().to_string();
    assert!(why.contains("If-None-Match"), "{why}");
}

/// A repository of this format that an earlier run of these tests wrote (`GODWIT_WRITE_FIXTURES=1` writes
/// a new one where there is none): later versions keep reading it.
#[tokio::test]
async fn what_was_written_once_is_read_for_ever() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = fixtures.join("repository-2");
    let encrypted = fixtures.join("repository-2-encrypted");
    let keys = fixtures.join("repository-2-encrypted.key");
    if std::env::var_os("GODWIT_WRITE_FIXTURES").is_some() && !path.exists() {
        let made = Keys::generate().unwrap();
        std::fs::create_dir_all(&fixtures).unwrap();
        std::fs::write(&keys, made.to_text()).unwrap();
        for (path, keys) in [(&path, Keys::none()), (&encrypted, made)] {
            let repository = create(directory(path), &keys).await;
            let mut archive = Archive::open(&repository, &name()).await.unwrap();
            base(&mut archive, at(1, 10), 0).await;
            Log::at(at(1, 10), 0).archive(&mut archive, at(1, 20)).await;
            let id = archive.bases().next().unwrap().id.clone();
            archive.mark(Mark::Verified { base: id, at: 1 }).await.unwrap();
            let sealed = manifest(&repository, at(9, 9)).await;
            let mut snapshots = Snapshots::open(&repository).await.unwrap();
            let id = SnapshotId::new(std::time::UNIX_EPOCH, 1);
            snapshots.seal(&id, "demo", "a", 5, &[sealed]).await.unwrap();
        }
    }
    for (path, keys) in [(path, Keys::none()), (encrypted, Keys::read(&keys).unwrap())] {
        let repository = Repository::open(directory(&path), keys).await.unwrap();
        let archive = Archive::open(&repository, &name()).await.unwrap();
        assert_eq!(settled(&archive, Target::Latest).await, Ok((10, vec![20], at(1, 20))));
        let base = archive.bases().next().unwrap();
        assert_eq!(archive.known_of(&base.id), (Some(1), None));
        for piece in archive.manifest(base).await.unwrap().pieces() {
            repository.piece(piece).await.unwrap();
        }
        let snapshots = Snapshots::open(&repository).await.unwrap();
        let (snapshot, _) = snapshots.list().next().unwrap();
        assert_eq!(snapshots.manifest(snapshot, 0).await.unwrap().position, at(9, 9));
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
