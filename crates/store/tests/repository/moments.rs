//! Any moment is found: by time, by position, over forks and switches.

use store::bucket::{Bucket, S3Options};
use store::repository::archive::{Fork, Mark};
use store::repository::plan::{holes, spans};
use store::repository::{Archive, ArchiveName, Followed, Frames, Keys, Repository, Target};

use wal::Position;

use super::filled::{Log, at, base, create, directory, fill, name, settled, stamp, walk};
use super::moto::Moto;

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
