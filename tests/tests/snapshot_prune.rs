//! What is being restored is not pruned away.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::{Keys, Repository};
use tests::alone::Alone;
use tests::shelf::{PATIENCE, Shelf, compact, ok, one_cloud, read_back, said, start, value, write};
use tests::wait;

/// Longer than the restore takes; half of it is enough for a push to be sealed in.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn a_restore_that_began_before_its_snapshot_was_pruned_is_whole() {
    let (clouds, shelf) = (one_cloud(), Shelf::new());
    let bucket = Bucket::open(&BucketAddress::Directory(shelf.dir()), &S3Options::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Repository::create(bucket.unwrap(), Keys::none(), GRACE)).unwrap();
    write(&clouds, 0, 3_000);
    let first = shelf.pushed(&clouds, "a", &["--way", "files"]);
    let id = first["snapshot"].as_str().unwrap();
    let pieces: Vec<_> = read_back(&shelf.store(), id)
        .iter()
        .flat_map(|manifest| manifest.blobs().map(|blob| blob.name()).collect::<Vec<_>>())
        .collect();
    // Nothing of the first one is in the second.
    write(&clouds, 0, 3_000);
    compact(&clouds);
    shelf.pushed(&clouds, "a", &["--way", "files"]);

    let to = shelf.path("restored");
    let bytes = first["bytes_sent"].as_u64().unwrap();
    let slowly = (bytes / 4).to_string();
    let more = ["--snapshot", id, "--to", &to, "--bandwidth", &slowly];
    let mut restoring = start(&mut shelf.verb("restore", &more));
    wait::until("the restore to be in its middle", PATIENCE, || {
        ensure!(Path::new(&to).join("0/db.partial").exists());
        Ok(())
    })
    .unwrap();
    let prune = || shelf.ok("prune", &["--keep-last", "1"]);
    let gone = prune();
    assert_eq!(gone["gone"], serde_json::json!([id]), "{gone}");
    assert_eq!(
        (&gone["swept"]["deleted"], gone["swept"]["marked"].as_u64() > Some(0)),
        (&0.into(), true)
    );
    assert_eq!(prune()["swept"]["deleted"], 0, "the time of grace is not over");
    assert!(restoring.try_wait().unwrap().is_none(), "it ended before anything was pruned");
    let restored = restoring.wait_with_output().unwrap();
    assert!(restored.status.success(), "{}", said(&restored));
    for shard in ok(&restored)["shards"].as_array().unwrap() {
        let slots: keyspace::SlotSet = shard["slots"].as_str().unwrap().parse().unwrap();
        let mut node = Alone::on(Path::new(shard["dir"].as_str().unwrap()));
        let of = |n: &usize| slots.contains(keyspace::Slot::of_key(format!("key:{n}").as_bytes()));
        for n in (0..3_000).filter(of) {
            assert_eq!(node.client.text(&["GET", &format!("key:{n}")]).unwrap(), value(n));
        }
    }

    // Asked again it is refused before anything is written, and once the grace is over all of it goes.
    let again = shelf.run("restore", &["--snapshot", id, "--to", &shelf.path("again")]);
    assert!(said(&again).contains("no sealed snapshot"), "{}", said(&again));
    assert!(!Path::new(&shelf.path("again")).exists());
    let newest = shelf.ok("show", &[])["snapshot"].clone();
    wait::until("what it alone had to go", PATIENCE, || {
        prune();
        let left = pieces.iter().filter(|name| shelf.dir().join(name).exists()).count();
        ensure!(left < pieces.len() / 2, "{left} of {} are left", pieces.len());
        Ok(())
    })
    .unwrap();
    assert_eq!(shelf.ok("verify", &[])["snapshot"], newest);
}
