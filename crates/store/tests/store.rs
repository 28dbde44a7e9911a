//! A store from outside: what was pushed comes back, and damage is named.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use store::{Address, FileEntry, Manifest, ObjectId, SnapshotId, State, Store, StoreError, object};
use wal::{History, Position, Sequence, TimelineId};

fn address(dir: &Path) -> Address {
    format!("file://{}", dir.display()).parse().unwrap()
}

fn put(store: &Store, bytes: &[u8]) -> Result<u64, StoreError> {
    let mut writer = store.object_writer(ObjectId::of(bytes), bytes.len() as u64)?;
    for frame in bytes.chunks(object::FRAME_BYTES_MAX) {
        writer.frame(&zstd::bulk::compress(frame, 1).unwrap())?;
    }
    writer.finish()
}

/// Compressible and not, empty, one byte, a whole frame and a bit.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let noise = |n| {
        let mut bytes = vec![0; n];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        bytes
    };
    vec![
        ("CURRENT", b"MANIFEST-000005\n".to_vec()),
        ("000012.sst", noise(object::FRAME_BYTES_MAX + 17)),
        ("000013.sst", b"godwit ".repeat(300_000)),
        ("000014.log", Vec::new()),
        ("000015.log", vec![7]),
    ]
}

fn manifest(store: &Store, files: &[(&str, Vec<u8>)]) -> Manifest {
    let entries = files.iter().map(|(name, bytes)| FileEntry {
        name: name.parse().unwrap(),
        size: bytes.len() as u64,
        blake3: ObjectId::of(bytes),
        stored: put(store, bytes).unwrap(),
    });
    Manifest {
        format: Manifest::FORMAT,
        service: "demo".to_owned(),
        shard: "a/0".to_owned(),
        slots: "0-8191".parse().unwrap(),
        database: "0000000000000000000000000000beef".to_owned(),
        position: Position { timeline: TimelineId(7), sequence: Sequence(42) },
        history: History::default(),
        stamp: keyspace::Hlc(9),
        files: entries.collect(),
    }
}

fn sealed(dir: &Path) -> (Store, SnapshotId) {
    let store = Store::open_or_create(&address(dir)).unwrap();
    let id = SnapshotId::new(std::time::SystemTime::now(), 1);
    let manifest = manifest(&store, &files());
    store.seal(&id, "demo", "a", 1, &[manifest]).unwrap();
    (store, id)
}

#[test]
fn what_was_sealed_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = sealed(&dir.path().join("made/on/the/way"));
    let (snapshot, state) = store.snapshot(&id).unwrap();
    assert_eq!((snapshot.cluster.as_str(), state), ("a", State::Sealed));
    let manifest = store.manifest(&snapshot, 0).unwrap();
    for ((name, bytes), entry) in files().into_iter().zip(&manifest.files) {
        let mut back = Vec::new();
        store
            .read_object(&entry.blake3, entry.size, &mut |piece| {
                back.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(entry.name.as_str(), name);
        assert!(back == bytes, "{name} came back different");
    }
    let result = store.verify(&snapshot, 2, &mut |_| ()).unwrap();
    assert_eq!((result.objects, result.damage.len()), (5, 0));
    assert_eq!(result.bytes, snapshot.bytes());
    assert_eq!(store.snapshot(&id).unwrap().1, State::Verified);
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_same_bytes_are_stored_once_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&address(dir.path())).unwrap();
    let stored = put(&store, b"once").unwrap();
    let path = store.object_path(&ObjectId::of(b"once"));
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(put(&store, b"once").unwrap(), stored);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn an_object_that_is_not_what_was_announced_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&address(dir.path())).unwrap();
    let id = ObjectId::of(b"truth");
    let check = |size: u64, frames: &[&[u8]], word: &str| {
        let mut writer = store.object_writer(id, size).unwrap();
        let mut outcome = Ok(());
        for frame in frames {
            outcome = outcome.and_then(|()| writer.frame(frame));
        }
        let error = outcome.and_then(|()| writer.finish().map(drop)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(&id.to_string()), "{error}");
        assert_eq!(store.stored_size(&id), None);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    };
    let lie = zstd::bulk::compress(b"a lie", 1).unwrap();
    check(5, &[&lie], "another hash");
    check(4, &[&lie], "more came");
    check(6, &[&lie], "5 bytes came where 6");
    check(5, &[b"no zstd at all"], "does not decompress");
    check(5, &[&vec![0; object::FRAME_STORED_MAX + 1]], "a frame has");
    // A bomb: small on the wire, larger than a frame may be.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    check(64 << 20, &[&bomb], "does not decompress");
}

#[test]
fn a_seal_needs_every_object_and_without_one_there_is_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&address(dir.path())).unwrap();
    let id = SnapshotId::new(std::time::SystemTime::now(), 2);
    let manifest = manifest(&store, &files());
    fs::remove_file(store.object_path(&manifest.files[1].blake3)).unwrap();
    let error = store.seal(&id, "demo", "a", 1, &[manifest]).unwrap_err().to_string();
    assert!(error.contains("000012.sst"), "{error}");
    assert!(matches!(store.snapshot(&id), Err(StoreError::NoSnapshot { .. })));
    // A writer that died before the seal leaves a directory that nobody counts.
    fs::create_dir(dir.path().join("snapshots/20260101T000000Z-00000000")).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn random_damage_is_found_and_named() {
    let seed: u64 = match std::env::var("GODWIT_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    println!("GODWIT_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut below = |n: u64| random.random_range(0..n);

    let dir = tempfile::tempdir().unwrap();
    let (store, id) = sealed(dir.path());
    let (snapshot, _) = store.snapshot(&id).unwrap();
    let mut paths: Vec<_> = store
        .manifest(&snapshot, 0)
        .unwrap()
        .files
        .iter()
        .map(|file| store.object_path(&file.blake3))
        .collect();
    paths.push(dir.path().join("snapshots").join(id.as_str()).join("shard-0.json"));
    for round in 0..60 {
        let path = &paths[below(paths.len() as u64) as usize];
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        let at = below(good.len() as u64) as usize;
        let how = match below(3) {
            0 => {
                bad.truncate(at);
                "cut"
            }
            1 => {
                bad[at] ^= 1 << below(8);
                "flipped"
            }
            _ => {
                bad.push(below(256) as u8);
                "grown"
            }
        };
        fs::write(path, &bad).unwrap();
        let result = store.verify(&snapshot, 3, &mut |_| ()).unwrap();
        // zstd has header bits that it does not use: bytes that still read the same are no damage.
        let same = how == "flipped" && result.damage.is_empty();
        if same {
            assert!(path.extension().is_some_and(|e| e == "zst"), "round {round}: {how} at {at}");
        } else {
            let named = result.damage.iter().any(|d| d.contains(path.to_str().unwrap()));
            assert!(named, "round {round}: {} {how} at {at}: {:?}", path.display(), result.damage);
            assert_eq!(
                store.snapshot(&id).unwrap().1,
                State::Sealed,
                "a damaged one is not verified"
            );
        }
        fs::write(path, &good).unwrap();
    }
    assert!(store.verify(&snapshot, 4, &mut |_| ()).unwrap().damage.is_empty());
    assert_eq!(store.snapshot(&id).unwrap().1, State::Verified);

    // The seal itself, bit by bit: never a panic, never believed.
    let path = dir.path().join("snapshots").join(id.as_str()).join("snapshot.json");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << below(8);
        fs::write(&path, &bad).unwrap();
        match store.snapshot(&id) {
            Ok((read, _)) => assert_eq!(read, snapshot, "at {at}"),
            Err(error) => assert!(error.is_damage(), "at {at}: {error}"),
        }
    }
}

#[test]
fn a_damaged_object_is_set_aside_and_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&address(dir.path())).unwrap();
    put(&store, b"precious").unwrap();
    let id = ObjectId::of(b"precious");
    fs::write(store.object_path(&id), b"rust").unwrap();
    let read = |size| store.read_object(&id, size, &mut |_| Ok(()));
    assert!(read(8).unwrap_err().is_damage());
    let aside = store.set_aside(&id).unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"rust");
    put(&store, b"precious").unwrap();
    read(8).unwrap();
}

#[test]
fn a_directory_that_is_no_store_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |dir: &Path| Store::open(&address(dir)).unwrap_err().to_string();
    assert!(refusal(&dir.path().join("nowhere")).contains("no such directory"));
    assert!(refusal(dir.path()).contains("GODWIT-STORE"));
    fs::write(dir.path().join("letter"), "dear").unwrap();
    let error = Store::open_or_create(&address(dir.path())).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    let newer = tempfile::tempdir().unwrap();
    Store::open_or_create(&address(newer.path())).unwrap();
    fs::write(newer.path().join("GODWIT-STORE"), "godwit-store format 2\n").unwrap();
    assert!(refusal(newer.path()).contains("format 2"));
    fs::write(newer.path().join("GODWIT-STORE"), "rubbish").unwrap();
    assert!(refusal(newer.path()).contains("damaged"));
}
