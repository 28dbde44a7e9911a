//! What is not what was written.

use store::StoreError;
use store::repository::{Archive, Damage, Keys, PIECE_BYTES, What};

use super::filled::{create, directory, fill, name, walk};

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

#[tokio::test]
async fn a_blob_that_is_longer_than_any_is_damage_like_another() {
    let dir = tempfile::tempdir().unwrap();
    for keys in [Keys::none(), Keys::generate().unwrap()] {
        let root = dir.path().join(format!("{}", keys.is_encrypting()));
        let repository = create(directory(&root), &keys).await;
        let known = repository.known().await.unwrap();
        let (piece, _) = repository.put_piece(&known, b"godwit ".repeat(1000)).await.unwrap();
        let path = root.join(piece.name());
        let mut long = std::fs::read(&path).unwrap();
        long.resize(PIECE_BYTES + (1 << 20), 7);
        std::fs::write(&path, &long).unwrap();
        let why = repository.piece(&piece).await.unwrap_err();
        assert!(why.is_damage() && why.to_string().contains(&piece.name()), "{why}");
        let aside = repository.set_aside(&piece.name(), What::Piece, piece.blake3).await;
        assert!(
            aside.unwrap() && !path.exists() && root.join("damaged").join(piece.name()).exists()
        );
    }
}

#[test]
fn what_is_not_named_counts_and_what_is_no_damage_ends_the_reading() {
    let mut damage = Damage::default();
    assert!(damage.is_empty());
    for n in 0..1_002 {
        let path = format!("objects/{n}").into();
        damage.note(StoreError::Damaged { path, why: "it is cut off".to_owned() }).unwrap();
    }
    assert_eq!(damage.count(), 1_002);
    assert_eq!(damage.lines().last().map(String::as_str), Some("and 2 more"));
    let gone = StoreError::Overtaken { name: "page".to_owned() };
    assert!(damage.note(gone).is_err());
}
