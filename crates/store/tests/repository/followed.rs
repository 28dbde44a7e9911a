//! A list that grows is followed.

use store::bucket::Operation;
use store::repository::{Archive, Followed, Keys, Repository};

use super::filled::{Log, at, create, directory, name};

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
