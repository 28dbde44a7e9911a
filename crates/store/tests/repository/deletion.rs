//! What is deleted, and when.

use std::time::Duration;

use store::SnapshotId;
use store::repository::archive::Mark;
use store::repository::{Archive, Keep, Keys, Repository, Snapshots, State, Target};

use super::filled::{at, create, directory, fill, manifest, name, settled, stamp, walk};

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
