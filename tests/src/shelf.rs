//! Snapshots as stories take them: `godwit-snapshotter` as a process, and a store that goes when the story ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use store::bucket::{Bucket, S3Options};
use store::repository::{Keys, Manifest, Repository, Snapshots, What};

use crate::clouds::{Clouds, binaries};
use crate::wait;

/// How long a run may take to succeed, where others have to notice something first.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program with these arguments.
pub fn snapshotter(args: &[&str]) -> Command {
    let program = binaries::path("godwit-snapshotter").unwrap_or_else(|e| panic!("{e:#}"));
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
}

/// Starts it, with its output to be read at its end.
pub fn start(command: &mut Command) -> Child {
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    started.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
}

/// All that a run has printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The report of a run, its last line.
pub fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(text.lines().last().unwrap_or_default());
    report.unwrap_or_else(|e| panic!("no report ({e}): {}", said(output)))
}

/// The report of a run that succeeded.
pub fn ok(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    report(output)
}

/// Runs it until it succeeds, since others may have to notice first that one has died, or to be seeded.
pub fn at_last(what: &str, mut command: impl FnMut() -> Command) -> Value {
    let done = wait::until(what, PATIENCE, || {
        let output = run(&mut command());
        ensure!(output.status.success(), "{}", said(&output));
        Ok(ok(&output))
    });
    done.unwrap_or_else(|e| panic!("{e:#}"))
}

/// A push of a cluster to a store.
pub fn push(clouds: &Clouds, cluster: &str, store: &str) -> Command {
    let layout = &clouds.layout;
    let mut args = vec!["push", "--registry", &layout.registry, "--service", &layout.service];
    args.extend(["--cluster", cluster, "--to", store, "--output", "json"]);
    snapshotter(&args)
}

/// One cloud of two shards.
pub fn one_cloud() -> Clouds {
    Clouds::for_test_with(|mut plan| {
        plan.clouds.truncate(1);
        plan
    })
}

/// What [`write`] sets a key to.
pub fn value(n: usize) -> String {
    format!("value {n} {}", "x".repeat(200))
}

/// Writes strings `key:N` and hashes `hash:N` through a proxy of cloud a.
pub fn write(clouds: &Clouds, from: usize, to: usize) {
    let written = || -> anyhow::Result<()> {
        let mut client = clouds.client("a")?;
        for n in from..to {
            client.push(&["SET", &format!("key:{n}"), &value(n)]);
            client.push(&["HSET", &format!("hash:{n}"), "field", &n.to_string()]);
        }
        client.flush()?;
        for _ in from..to {
            let set = client.answer()?;
            ensure!(set.as_text() == Some("OK"), "SET was answered {set:?}");
            // 0 where the field was there before.
            let hset = client.answer()?;
            ensure!(hset.as_integer().is_some(), "HSET was answered {hset:?}");
        }
        Ok(())
    };
    written().unwrap_or_else(|e| panic!("{e:#}"));
}

/// Rewrites the trees of cloud a's nodes.
pub fn compact(clouds: &Clouds) {
    for shard in &clouds.cloud("a").shards {
        let program = binaries::path("godwit-node").unwrap_or_else(|e| panic!("{e:#}"));
        let done = run(Command::new(program).args(["compact", "--admin", &shard.node.admin]));
        assert!(done.status.success(), "{}", said(&done));
    }
}

/// What is in the nodes' directories of checkpoints, of cloud a.
pub fn checkpoints(clouds: &Clouds) -> Vec<PathBuf> {
    let dirs = clouds.cloud("a").shards.iter().map(|shard| shard.node.dir.join("checkpoints"));
    let entries = dirs.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// The manifests of a snapshot, all of whose pieces and segments are there and good.
pub fn read_back(store: &str, id: &str) -> Vec<Manifest> {
    let read = async {
        let bucket = Bucket::open(&store.parse()?, &S3Options::default())?;
        let repository = Repository::open(bucket, Keys::none()).await?;
        let snapshots = Snapshots::open(&repository).await?;
        let (snapshot, _) = snapshots.get(&id.parse()?)?;
        let mut manifests = Vec::new();
        for n in 0..snapshot.shards.len() {
            let manifest = snapshots.manifest(snapshot, n).await?;
            ensure!(manifest.cut == snapshot.cut, "its shards are of several cuts");
            for piece in manifest.pieces() {
                repository.piece(piece).await?;
            }
            for segment in &manifest.log {
                repository.blob(&segment.name(), What::Segment, segment.blake3).await?;
            }
            manifests.push(manifest);
        }
        Ok(manifests)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap_or_else(|e| panic!("{e}"));
    runtime.block_on(read).unwrap_or_else(|e| panic!("{store}, {id}: {e:#}"))
}

/// A directory with a store in it, on the file system of the nodes.
pub struct Shelf {
    dir: tempfile::TempDir,
}

impl Shelf {
    /// An empty one.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap_or_else(|e| panic!("{e}")) }
    }

    /// A path on it.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The store's directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The store, as an argument.
    pub fn store(&self) -> String {
        self.path("store")
    }

    /// Where its snapshots are materialised.
    pub fn materialised(&self) -> String {
        self.path("store.materialised")
    }

    /// A push of a cluster to it.
    pub fn push(&self, clouds: &Clouds, cluster: &str) -> Command {
        push(clouds, cluster, &self.store())
    }

    /// A push that succeeds: of a cluster that follows since a moment ago once it has been seeded.
    pub fn pushed(&self, clouds: &Clouds, cluster: &str, more: &[&str]) -> Value {
        at_last("a push", || {
            let mut push = self.push(clouds, cluster);
            push.args(more);
            push
        })
    }

    /// A verb that reads the store.
    pub fn verb(&self, verb: &str, more: &[&str]) -> Command {
        let store = self.store();
        snapshotter(&[&[verb, "--from", &store, "--output", "json"][..], more].concat())
    }

    /// Runs one.
    pub fn run(&self, verb: &str, more: &[&str]) -> Output {
        run(&mut self.verb(verb, more))
    }

    /// Runs one, which must succeed.
    pub fn ok(&self, verb: &str, more: &[&str]) -> Value {
        ok(&self.run(verb, more))
    }

    /// Gives what is materialised to a node.
    pub fn activate(&self, clouds: &Clouds, shard: &str, more: &[&str]) -> Output {
        let (layout, from) = (&clouds.layout, self.materialised());
        let mut args = vec!["activate", "--materialised", &from, "--shard", shard];
        args.extend(["--registry", &layout.registry, "--service", &layout.service]);
        args.extend(["--output", "json"]);
        args.extend(more);
        run(&mut snapshotter(&args))
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Default for Shelf {
    fn default() -> Self {
        Self::new()
    }
}
