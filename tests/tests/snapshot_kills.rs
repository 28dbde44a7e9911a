//! Pushes, restores, proofs and prunes are killed anywhere: the next run recovers, what is listed can be
//! restored, and nothing is left over. `GODWIT_KILLS` says how often (`make soak-snapshots`: 200).

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use store::bucket::{Bucket, BucketAddress, S3Options};
use store::repository::{Keys, Repository, Snapshots};
use tests::clouds::plan::Plan;
use tests::clouds::{Clouds, binaries};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a push to be sealed in half of it.
const GRACE: Duration = Duration::from_secs(8);

struct Story {
    clouds: Clouds,
    scratch: tempfile::TempDir,
    store: String,
    written: u32,
}

impl Story {
    fn begin() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut plan = Plan::two_clouds(scratch.path().join("clouds"));
        plan.clouds.truncate(1);
        let mut clouds = Clouds::create(plan).unwrap();
        clouds.start_all().unwrap();
        let path = scratch.path().join("store");
        let address = BucketAddress::Directory(path.clone());
        let bucket = Bucket::open(&address, &S3Options::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Repository::create(bucket, Keys::none(), GRACE)).unwrap();
        Self { clouds, scratch, store: path.to_str().unwrap().to_owned(), written: 0 }
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).to_str().unwrap().to_owned()
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
        let mut command = Command::new(binaries::path("godwit-snapshotter").unwrap());
        let layout = &self.clouds.layout;
        command.arg(verb).args(["--output", "json"]);
        match verb {
            "push" => command
                .args(["--registry", &layout.registry, "--service", &layout.service])
                .args(["--cluster", "a", "--to", &self.store]),
            _ => command.args(["--from", &self.store]),
        };
        match verb {
            "restore" => command.args(["--to", &self.path("restored")]),
            "prove" => command.args(["--scratch", &self.path("scratch"), "--without-digest"]),
            "prune" => command.args(["--keep-last", "2"]),
            _ => &mut command,
        };
        command
    }

    /// The pieces and segments that are stored, and those that manifests name.
    fn objects(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let address = BucketAddress::Directory(self.store.clone().into());
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
        let recovered = wait::until(&format!("a {verb} after one that died"), PATIENCE, || {
            let output = self.command(verb).output()?;
            anyhow::ensure!(output.status.success(), "{}", said(&output));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
        });
        recovered.unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
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
            let _ = std::fs::remove_dir_all(story.path("restored"));
        }
        let mut command = story.command(verbs[verb]);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[allow(clippy::disallowed_methods)] // the moment is meant to be any
        std::thread::sleep(lasts[verb].mul_f64(random.random_range(0.0..1.0)));
        running.kill().unwrap();
        running.wait().unwrap();
        if verbs[verb] == "restore" && !Path::new(&story.path("restored/0/restore.json")).exists() {
            // It had not begun, or it was too fast.
            let _ = std::fs::remove_dir_all(story.path("restored"));
        }
        story.recovers(verbs[verb]);
        let verified = story.command("verify").arg("--all").output().unwrap();
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
    let verified = story.command("verify").arg("--all").output().unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(std::fs::read_dir(story.path("scratch")).unwrap().count(), 0);
    story.clouds.down();
}
