//! The file registry passes the conformance suite, and keeps its promises across processes,
//! crashes and damage.

#![allow(clippy::unwrap_used)] // clippy knows only functions marked #[test]

mod conformance;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use topology::{AnyRegistry, Expect, Outcome, Registry, Write, open};

fn at(dir: &Path) -> AnyRegistry {
    open(&address(dir)).unwrap()
}

fn write(key: &str, value: &str, ttl: Option<Duration>) -> Write {
    Write { key: key.to_owned(), value: Some(value.as_bytes().to_vec()), ttl }
}

fn address(dir: &Path) -> String {
    format!("file:{}", dir.display())
}

#[tokio::test]
async fn child() {
    let Some((registry, work)) = conformance::childs_work().await else { return };
    match work.as_str() {
        "count" => {}
        "write" => drop(registry.commit(&[], &[write("k", "new", None)]).await),
        "swap" => {
            let held = registry.get("k").await.unwrap().unwrap();
            let expect =
                [Expect { key: "k".to_owned(), revision: Some(held.revision), value: None }];
            let outcome = registry.commit(&expect, &[write("k", "slow", None)]).await;
            let said = match outcome {
                Ok(Outcome::Committed(_)) => "committed".to_owned(),
                Ok(Outcome::Conflict) => "conflict".to_owned(),
                Err(why) => why.to_string(),
            };
            std::fs::write(std::env::var("REGISTRY_CHILD_SAYS").unwrap(), said).unwrap();
        }
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
    fn address(&self) -> String {
        address(&self.0)
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
    let mut other = conformance::child(&address(dir.path()), "count").spawn().unwrap();
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
        let mut child = conformance::child(&address(dir.path()), "write");
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

/// A writer that is stopped at each point of its commit, and woken when another has written.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_stopped_in_its_turn_is_passed_by_and_overwrites_nothing_when_it_wakes() {
    /// What a stop may cost others, on a busy machine.
    const HELD_UP_MAX: Duration = Duration::from_secs(3);
    for (failpoint, others_see, it_says) in [
        ("registry-stop-before-read", "old", "conflict"),
        ("registry-stop-before-rename", "old", "conflict"),
        ("registry-stop-after-rename", "slow", "committed"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let registry = at(dir.path());
        registry.commit(&[], &[write("k", "old", None)]).await.unwrap();
        let says = dir.path().with_extension("says");
        let mut slow = conformance::child(&address(dir.path()), "swap")
            .env("GODWIT_FAILPOINTS", format!("{failpoint}:every=1"))
            .env("REGISTRY_CHILD_SAYS", &says)
            .spawn()
            .unwrap();
        stopped(slow.id()).await;
        let held = registry.get("k").await.unwrap().unwrap();
        assert_eq!(held.value, others_see.as_bytes(), "{failpoint}: readers wait for nobody");
        let began = Instant::now();
        let expect = [Expect { key: "k".to_owned(), revision: Some(held.revision), value: None }];
        let swapped = registry.commit(&expect, &[write("k", "quick", None)]).await.unwrap();
        let took = began.elapsed();
        assert!(matches!(swapped, Outcome::Committed(r) if r > held.revision), "{failpoint}");
        assert!(took < HELD_UP_MAX, "{failpoint}: {took:?}");
        println!("{failpoint}: passed by after {took:?}");
        // It stops at each try; each time it is woken.
        let pid = i32::try_from(slow.id()).ok().and_then(Pid::from_raw).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while slow.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{failpoint}: it ends");
            kill_process(pid, Signal::CONT).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(std::fs::read_to_string(&says).unwrap(), it_says, "{failpoint}");
        std::fs::remove_file(says).unwrap();
        assert_eq!(registry.get("k").await.unwrap().unwrap().value, b"quick", "{failpoint}");
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains('.')), "{left:?}");
    }
}

/// Waits until a process is stopped (proc(5): the state behind the name).
async fn stopped(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T')) {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} stops: {stat}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_stops_passing_another_by_leaves_no_way_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = at(dir.path());
    registry.commit(&[], &[write("k", "old", None)]).await.unwrap();
    let says = dir.path().with_extension("says");
    let slow = conformance::child(&address(dir.path()), "swap")
        .env("GODWIT_FAILPOINTS", "registry-stop-before-rename")
        .env("REGISTRY_CHILD_SAYS", &says)
        .spawn();
    let mut slow = slow.unwrap();
    stopped(slow.id()).await;
    let mut second = conformance::child(&address(dir.path()), "write");
    let died = second.env("GODWIT_FAILPOINTS", "registry-die-passing-by").output().unwrap();
    assert!(!died.status.success(), "the failpoint was hit");
    registry.commit(&[], &[write("k", "third", None)]).await.unwrap();
    let pid = i32::try_from(slow.id()).ok().and_then(Pid::from_raw).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while slow.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it ends");
        kill_process(pid, Signal::CONT).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read_to_string(&says).unwrap(), "conflict");
    std::fs::remove_file(says).unwrap();
    assert_eq!(registry.get("k").await.unwrap().unwrap().value, b"third");
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
