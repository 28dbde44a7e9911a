//! The file registry passes the conformance suite, and keeps its promises across processes,
//! crashes and damage.

#![allow(clippy::unwrap_used)] // clippy knows only functions marked #[test]

mod conformance;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use topology::{AnyRegistry, Outcome, Registry, Write, open};

fn at(dir: &Path) -> AnyRegistry {
    open(&format!("file:{}", dir.display())).unwrap()
}

fn write(key: &str, value: &str, ttl: Option<Duration>) -> Write {
    Write { key: key.to_owned(), value: Some(value.as_bytes().to_vec()), ttl }
}

/// This test binary again, as another process that runs [`child`] on a directory.
fn child_process(dir: &Path, work: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env("REGISTRY_CHILD_DIR", dir).env("REGISTRY_CHILD_WORK", work);
    command
}

/// Does nothing but in a process that [`child_process`] made.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os("REGISTRY_CHILD_DIR") else { return };
    let registry = at(Path::new(&dir));
    match std::env::var("REGISTRY_CHILD_WORK").unwrap().as_str() {
        "count" => conformance::count_up(&registry, "count", 40).await,
        "write" => drop(registry.commit(&[], &[write("k", "new", None)]).await),
        other => panic!("no such work: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    let parent = tempfile::tempdir().unwrap();
    conformance::suite(&mut Directory(parent.path().join("registry"))).await;
}

/// A directory that can be moved away.
struct Directory(PathBuf);

impl conformance::Place for Directory {
    fn open(&self) -> AnyRegistry {
        at(&self.0)
    }

    fn go_away(&mut self) {
        std::fs::rename(&self.0, self.0.with_extension("aside")).unwrap();
    }

    fn come_back(&mut self) {
        std::fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_lose_no_commit_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let registry = at(dir.path());
    registry.commit(&[], &[write("count", "0", None)]).await.unwrap();
    let mut other = child_process(dir.path(), "count").spawn().unwrap();
    conformance::count_up(&registry, "count", 40).await;
    let done = tokio::task::spawn_blocking(move || other.wait().unwrap()).await.unwrap();
    assert!(done.success());
    assert_eq!(registry.get("count").await.unwrap().unwrap().value, b"80");
}

#[tokio::test]
async fn a_writer_that_dies_leaves_the_old_value_or_the_new_one() {
    for (failpoint, expected) in
        [("registry-die-before-rename", "old"), ("registry-die-after-rename", "new")]
    {
        let dir = tempfile::tempdir().unwrap();
        let registry = at(dir.path());
        registry.commit(&[], &[write("k", "old", None)]).await.unwrap();
        let mut child = child_process(dir.path(), "write");
        let died = child.env("GODWIT_FAILPOINTS", failpoint).output().unwrap();
        assert!(!died.status.success(), "the failpoint {failpoint} was hit");
        let held = registry.get("k").await.unwrap().unwrap();
        assert_eq!(held.value, expected.as_bytes(), "{failpoint}");
        // The lock died with its holder.
        let next = registry.commit(&[], &[write("k", "next", None)]).await.unwrap();
        assert!(matches!(next, Outcome::Committed(r) if r > held.revision));
        assert_eq!(registry.get("k").await.unwrap().unwrap().value, b"next");
    }
}

#[tokio::test]
async fn damage_is_a_sentence_and_is_left_for_people_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let registry = at(dir.path());
    registry.commit(&[], &[write("k", "v", None)]).await.unwrap();
    let path = dir.path().join("kept");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for error in [
        registry.get("k").await.unwrap_err(),
        registry.commit(&[], &[write("k", "w", None)]).await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("damaged") && error.contains("left as it is"), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn what_a_power_cut_leaves_of_leased_keys_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let registry = at(dir.path());
    let minute = Some(Duration::from_secs(60));
    registry.commit(&[], &[write("k", "v", None)]).await.unwrap();
    registry.commit(&[], &[write("l", "v", minute)]).await.unwrap();
    std::fs::write(dir.path().join("leased"), b"").unwrap();
    assert_eq!(registry.get("l").await.unwrap(), None);
    assert_eq!(registry.get("k").await.unwrap().unwrap().value, b"v");
    registry.commit(&[], &[write("l", "w", minute)]).await.unwrap();
    assert_eq!(registry.get("l").await.unwrap().unwrap().value, b"w");
}

#[tokio::test]
async fn a_directory_that_is_no_registry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    let address = format!("file:{}", dir.path().display());
    assert!(open(&address).unwrap_err().to_string().contains("precious"));
    std::fs::write(dir.path().join("GODWIT-REGISTRY"), "2\n").unwrap();
    assert!(open(&address).unwrap_err().to_string().contains("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_soon() {
    let dir = tempfile::tempdir().unwrap();
    let registry = at(dir.path());
    let mut watch = registry.watch("").await.unwrap();
    let mut waits = Vec::new();
    for n in 0..50 {
        let value = n.to_string();
        let second = Some(Duration::from_secs(60));
        registry.commit(&[], &[write("k", &value, second)]).await.unwrap();
        let committed = Instant::now();
        let seen =
            |view: &topology::View| view.keys.get("k").is_some_and(|k| k.value == value.as_bytes());
        watch.wait_for(seen).await.unwrap();
        waits.push(committed.elapsed());
    }
    waits.sort();
    println!("commit to event: median {:?}, greatest {:?}", waits[25], waits[49]);
    // Far above what it takes, far below the recheck: the events are what wakes it.
    assert!(waits[25] < Duration::from_millis(300), "{waits:?}");
}

/// The bytes of a registry of format 1; later versions keep reading them.
#[tokio::test]
async fn a_registry_of_format_1_reads() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/registry-1");
    for file in ["GODWIT-REGISTRY", "kept"] {
        std::fs::copy(fixture.join(file), dir.path().join(file)).unwrap();
    }
    let view = at(dir.path()).list("").await.unwrap();
    assert_eq!(view.revision.0, 3);
    let held = |key: &str| (view.keys[key].revision.0, view.keys[key].value.clone());
    assert_eq!(held("services/demo/record"), (3, b"second".to_vec()));
    assert_eq!(held("services/demo/journal/1"), (2, b"{}".to_vec()));
    assert_eq!(view.keys.len(), 2);
}
