//! What earlier versions wrote.

use std::path::Path;

use store::SnapshotId;
use store::repository::archive::Mark;
use store::repository::{Archive, Keys, Repository, Snapshots, Target};

use super::filled::{Log, at, base, create, directory, manifest, name, settled};

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
