//! Pushes, restores, proofs and prunes are killed anywhere: the next run recovers, what is listed can be
//! restored, and nothing is left over. `GODWIT_KILLS` says how often (`make soak-snapshots`: 200).

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::{Keys, Repository, Snapshots};
use tests::clouds::Clouds;
use tests::clouds::plan::Plan;
use tests::shelf::{PATIENCE, Shelf, at_last, run, said};
use tests::wait;

/// Long enough for a push to be sealed in half of it.
const GRACE: Duration = Duration::from_secs(8);

struct Story {
    clouds: Clouds,
    shelf: Shelf,
    written: u32,
}

impl Story {
    fn begin() -> Self {
        let shelf = Shelf::new();
        let mut plan = Plan::two_clouds(shelf.root().join("clouds"));
        plan.clouds.truncate(1);
        let mut clouds = Clouds::create(plan).unwrap();
        clouds.start_all().unwrap();
        let address = BucketAddress::Directory(shelf.dir());
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Repository::create(bucket, Keys::none(), GRACE)).unwrap();
        Self { clouds, shelf, written: 0 }
    }

    /// Some keys more.
    fn write(&mut self) {
        let mut client = self.clouds.client("a").unwrap();
        for _ in 0..40 {
            let value = format!("{} {}", self.written, "x".repeat(2_000));
            client.call(&["SET", &format!("key:{}", self.written), &value]).unwrap();
            self.written += 1;
        }
    }

    fn command(&self, verb: &str) -> Command {
        let (restored, scratch) = (self.shelf.path("restored"), self.shelf.path("scratch"));
        match verb {
            "push" => self.shelf.push(&self.clouds, "a"),
            "restore" => self.shelf.verb(verb, &["--to", &restored]),
            "prove" => self.shelf.verb(verb, &["--scratch", &scratch, "--without-digest"]),
            "prune" => self.shelf.verb(verb, &["--keep-last", "2"]),
            _ => self.shelf.verb(verb, &[]),
        }
    }

    /// The pieces and segments that are stored, and those that manifests name.
    fn objects(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let address = BucketAddress::Directory(self.shelf.dir());
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stored = bucket.list("objects/").await.unwrap();
            let repository = Repository::open(bucket, Keys::none()).await.unwrap();
            let snapshots = Snapshots::open(&repository).await.unwrap();
            let mut needed = BTreeSet::new();
            for (snapshot, _) in snapshots.list() {
                for n in 0..snapshot.shards.len() {
                    let manifest = snapshots.manifest(snapshot, n).await.unwrap();
                    needed.extend(manifest.blobs().map(|blob| blob.name()));
                }
            }
            (stored.into_iter().map(|object| object.name).collect(), needed)
        })
    }

    /// Runs a verb until it succeeds: others may have to notice first that one has died.
    fn recovers(&self, verb: &str) -> Value {
        at_last(&format!("a {verb} after one that died"), || self.command(verb))
    }
}

#[test]
fn what_is_killed_anywhere_leaves_nothing_half_done() {
    let kills: u32 = std::env::var("GODWIT_KILLS").map_or(8, |count| count.parse().unwrap());
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut story = Story::begin();
    let verbs = ["push", "restore", "prove", "prune"];
    // How long each takes if it is left alone.
    let mut lasts = Vec::new();
    for verb in verbs {
        story.write();
        let begun = Instant::now();
        story.recovers(verb);
        lasts.push(begun.elapsed());
    }
    for kill in 0..kills {
        let verb = kill as usize % verbs.len();
        story.write();
        if verbs[verb] == "restore" {
            let _ = std::fs::remove_dir_all(story.shelf.path("restored"));
        }
        let mut command = story.command(verbs[verb]);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(lasts[verb].mul_f64(random.random_range(0.0..1.0)));
        running.kill().unwrap();
        running.wait().unwrap();
        if verbs[verb] == "restore"
            && !Path::new(&story.shelf.path("restored/0/restore.json")).exists()
        {
            // It had not begun, or it was too fast.
            let _ = std::fs::remove_dir_all(story.shelf.path("restored"));
        }
        story.recovers(verbs[verb]);
        let verified = run(story.command("verify").arg("--all"));
        assert!(verified.status.success(), "kill {kill}, {}: {}", verbs[verb], said(&verified));
    }
    // What they have left is gone once the time of grace is over, and what is kept is whole.
    wait::until("nothing to be left over", PATIENCE, || {
        story.recovers("prune");
        let (stored, needed) = story.objects();
        anyhow::ensure!(stored == needed, "{} objects, {} needed", stored.len(), needed.len());
        Ok(())
    })
    .unwrap();
    let listed = story.recovers("list");
    assert!((2..=4).contains(&listed["snapshots"].as_array().unwrap().len()), "{listed}");
    let verified = run(story.command("verify").arg("--all"));
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(std::fs::read_dir(story.shelf.path("scratch")).unwrap().count(), 0);
    story.clouds.down();
}
