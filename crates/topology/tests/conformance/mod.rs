//! What every registry does, whatever is behind it.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use topology::{AnyRegistry, Expect, Outcome, Registry, Revision, View, Write};

/// How long anything may take here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn put(key: &str, value: impl ToString) -> Write {
    Write { key: key.to_owned(), value: Some(value.to_string().into_bytes()), ttl: None }
}

fn lease(key: &str, value: impl ToString, ttl: Duration) -> Write {
    Write { ttl: Some(ttl), ..put(key, value) }
}

fn delete(key: &str) -> Write {
    Write { key: key.to_owned(), value: None, ttl: None }
}

fn expect(key: &str, revision: Option<Revision>) -> Expect {
    Expect { key: key.to_owned(), revision, value: None }
}

fn revision(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict => panic!("a conflict where nobody else writes"),
    }
}

async fn text(registry: &impl Registry, key: &str) -> Option<String> {
    let found = registry.get(key).await.unwrap()?;
    Some(String::from_utf8(found.value).unwrap())
}

async fn until(watch: &mut tokio::sync::watch::Receiver<View>, wanted: impl FnMut(&View) -> bool) {
    tokio::time::timeout(PATIENCE, watch.wait_for(wanted))
        .await
        .expect("the watch shows it in time")
        .expect("the watch goes on");
}

fn value<'a>(view: &'a View, key: &str) -> Option<&'a str> {
    view.keys.get(key).map(|held| std::str::from_utf8(&held.value).unwrap())
}

/// Where a registry is.
pub(crate) trait Place {
    /// Reaches it, by a handle of its own.
    fn open(&self) -> AnyRegistry {
        topology::open(&self.address()).unwrap()
    }
    /// Its address, for other processes.
    fn address(&self) -> String;
    /// It cannot be reached any more.
    fn go_away(&mut self);
    /// It can be reached again, with what it had.
    fn come_back(&mut self);
}

/// Holds a registry, empty at the start, to all of it.
pub(crate) async fn suite(place: &mut impl Place) {
    let registry = place.open();
    let reopen = || place.open();
    compare_and_swap(&registry).await;
    several_keys(&registry).await;
    watching(&registry, &reopen()).await;
    leases(&registry, &reopen()).await;
    kinds_mix(&registry).await;
    many_tasks(&registry, &reopen).await;
    limits(&registry).await;
    stopped_writers(&registry, &place.address()).await;
    silence(place).await;
}

async fn compare_and_swap(registry: &impl Registry) {
    let create = [expect("cas", None)];
    let first = revision(registry.commit(&create, &[put("cas", 1)]).await.unwrap());
    assert_eq!(registry.commit(&create, &[put("cas", 2)]).await.unwrap(), Outcome::Conflict);
    assert_eq!(registry.get("cas").await.unwrap().unwrap().revision, first);
    let held = [expect("cas", Some(first))];
    let second = revision(registry.commit(&held, &[put("cas", 3)]).await.unwrap());
    assert!(second > first);
    assert_eq!(registry.commit(&held, &[put("cas", 4)]).await.unwrap(), Outcome::Conflict);
    assert_eq!(text(registry, "cas").await.as_deref(), Some("3"));
    let with = |value: &str| Expect { value: Some(value.into()), ..expect("cas", Some(second)) };
    let other = registry.commit(&[with("2")], &[put("cas", 4)]).await.unwrap();
    assert_eq!(other, Outcome::Conflict, "the revision, and other bytes");
    let none = Expect { value: Some(b"".to_vec()), ..expect("none", None) };
    assert_eq!(registry.commit(&[none], &[put("cas", 4)]).await.unwrap(), Outcome::Conflict);
    revision(registry.commit(&[with("3")], &[put("cas", 4)]).await.unwrap());
    revision(registry.commit(&[], &[delete("cas")]).await.unwrap());
    assert_eq!(registry.get("cas").await.unwrap(), None);
    let again = revision(registry.commit(&create, &[put("cas", 5)]).await.unwrap());
    assert!(again > second, "a key that comes back has a revision of its own");
    revision(registry.commit(&[], &[delete("cas")]).await.unwrap());
}

async fn several_keys(registry: &impl Registry) {
    let both = [put("multi/a", 1), put("multi/b", 1)];
    let at = revision(registry.commit(&[], &both).await.unwrap());
    let view = registry.list("multi/").await.unwrap();
    assert_eq!(view.keys.len(), 2);
    assert!(view.revision >= at && view.keys.values().all(|held| held.revision == at));
    let newer = revision(registry.commit(&[], &[put("multi/b", 2)]).await.unwrap());
    let stale = [expect("multi/a", Some(at)), expect("multi/b", Some(at))];
    let writes = [put("multi/a", 3), put("multi/c", 3)];
    assert_eq!(registry.commit(&stale, &writes).await.unwrap(), Outcome::Conflict);
    assert_eq!(text(registry, "multi/a").await.as_deref(), Some("1"));
    assert_eq!(text(registry, "multi/c").await, None);
    let guard = [expect("multi/b", Some(newer))];
    revision(registry.commit(&guard, &[put("multi/c", 4)]).await.unwrap());
    assert_eq!(registry.get("multi/b").await.unwrap().unwrap().revision, newer, "only guarded");
}

async fn watching(registry: &impl Registry, elsewhere: &impl Registry) {
    revision(registry.commit(&[], &[put("watch/x", 0)]).await.unwrap());
    let mut watch = elsewhere.watch("watch/").await.unwrap();
    assert_eq!(value(&watch.borrow(), "watch/x"), Some("0"), "it begins with what is there");
    for n in 1..=50 {
        revision(registry.commit(&[], &[put("watch/x", n)]).await.unwrap());
    }
    until(&mut watch, |view| value(view, "watch/x") == Some("50")).await;
    revision(registry.commit(&[], &[put("other/x", 1), put("watch/y", 1)]).await.unwrap());
    until(&mut watch, |view| value(view, "watch/y") == Some("1")).await;
    assert_eq!(watch.borrow().keys.len(), 2, "other prefixes are not shown");
    revision(registry.commit(&[], &[delete("watch/x")]).await.unwrap());
    until(&mut watch, |view| value(view, "watch/x").is_none()).await;
}

async fn leases(registry: &impl Registry, elsewhere: &impl Registry) {
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(60));
    let writes = [lease("lease/short", 1, short), lease("lease/long", 1, long)];
    let began = Instant::now();
    revision(registry.commit(&[], &writes).await.unwrap());
    let mut watch = elsewhere.watch("lease/").await.unwrap();
    until(&mut watch, |view| value(view, "lease/short").is_none()).await;
    assert!(began.elapsed() >= short, "gone before its time");
    assert_eq!(value(&watch.borrow(), "lease/long"), Some("1"));
    assert_eq!(registry.get("lease/short").await.unwrap(), None);
    let free = [expect("lease/short", None)];
    revision(registry.commit(&free, &[lease("lease/short", 2, long)]).await.unwrap());
    // Renewed, it stays.
    for n in 0..8 {
        revision(registry.commit(&[], &[lease("lease/renewed", n, short)]).await.unwrap());
        tokio::time::sleep(short / 4).await;
    }
    assert_eq!(text(registry, "lease/renewed").await.as_deref(), Some("7"));
}

/// A key that changes between staying and ending with its writer, and both in one commit.
async fn kinds_mix(registry: &impl Registry) {
    let long = Duration::from_secs(60);
    let steps: [(&[Write], [Option<&str>; 2]); 6] = [
        (&[put("mix/a", 1), lease("mix/b", 1, long)], [Some("1"), Some("1")]),
        (&[lease("mix/a", 2, long), put("mix/b", 2)], [Some("2"), Some("2")]),
        (&[lease("mix/a", 3, long)], [Some("3"), Some("2")]),
        (&[put("mix/b", 4)], [Some("3"), Some("4")]),
        (&[delete("mix/a")], [None, Some("4")]),
        (&[lease("mix/a", 5, long), delete("mix/b")], [Some("5"), None]),
    ];
    for (step, (writes, expected)) in steps.into_iter().enumerate() {
        revision(registry.commit(&[], writes).await.unwrap());
        let view = registry.list("mix/").await.unwrap();
        assert_eq!([value(&view, "mix/a"), value(&view, "mix/b")], expected, "after step {step}");
    }
}

async fn many_tasks(registry: &AnyRegistry, reopen: &impl Fn() -> AnyRegistry) {
    const TASKS: u64 = 8;
    const EACH: u64 = 20;
    revision(registry.commit(&[], &[put("count", 0)]).await.unwrap());
    let mut watch = registry.watch("count").await.unwrap();
    let tasks = (0..TASKS).map(|n| {
        // Half of them through a handle of their own.
        let registry = if n % 2 == 0 { registry.clone() } else { reopen() };
        tokio::spawn(async move { count_up(&registry, "count", EACH).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let total = (TASKS * EACH).to_string();
    assert_eq!(text(registry, "count").await, Some(total.clone()), "no count is lost");
    until(&mut watch, |view| value(view, "count") == Some(&total)).await;
}

/// Adds to a counter by compare-and-swap. Beside each count it writes a guarded lease.
pub(crate) async fn count_up(registry: &impl Registry, key: &str, times: u64) {
    for _ in 0..times {
        loop {
            let held = registry.get(key).await.unwrap().unwrap();
            let next = String::from_utf8(held.value).unwrap().parse::<u64>().unwrap() + 1;
            let guard = [expect(key, Some(held.revision))];
            if registry.commit(&guard, &[put(key, next)]).await.unwrap() != Outcome::Conflict {
                break;
            }
        }
    }
}

/// This test binary again, as another process that runs its test `child` on a registry.
pub(crate) fn child(address: &str, work: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env("REGISTRY_CHILD", address).env("REGISTRY_CHILD_WORK", work);
    command
}

/// What a test named `child` does: nothing but in a process that [`child`] made. The registry, and what is
/// to be done there.
pub(crate) async fn childs_work() -> Option<(AnyRegistry, String)> {
    let registry = topology::open(&std::env::var("REGISTRY_CHILD").ok()?).unwrap();
    let work = std::env::var("REGISTRY_CHILD_WORK").unwrap();
    if work == "count" {
        count_up(&registry, "count", 40).await;
    }
    Some((registry, work))
}

/// A process that ends with its value, also while it is stopped.
struct Stoppable(Child);

impl Stoppable {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two other processes count while a third of the time each is stopped, at any moment of what it does: this
/// one goes on counting all the while, and no count is lost or made twice.
#[allow(clippy::print_stdout)] // a seed, for who has to play it again
async fn stopped_writers(registry: &impl Registry, address: &str) {
    /// How long one commit may be held up by a writer that stands still.
    const HELD_UP_MAX: Duration = Duration::from_secs(4);
    let seed = rand::random();
    println!("stopped writers: seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    revision(registry.commit(&[], &[put("count", 0)]).await.unwrap());
    let writers: [_; 2] =
        std::array::from_fn(|_| Stoppable(child(address, "count").spawn().unwrap()));
    let mut own = 0;
    let mut longest = Duration::ZERO;
    for round in 0..12 {
        let victim = &writers[round % 2];
        tokio::time::sleep(Duration::from_micros(random.random_range(0..9_000))).await;
        victim.signal(Signal::STOP);
        for _ in 0..3 {
            let began = Instant::now();
            count_up(registry, "count", 1).await;
            longest = longest.max(began.elapsed());
            own += 1;
        }
        victim.signal(Signal::CONT);
    }
    println!("stopped writers: the longest count took {longest:?}");
    assert!(longest < HELD_UP_MAX, "held up for {longest:?} (seed {seed})");
    for mut writer in writers {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match writer.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "a writer goes on (seed {seed})"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(status.success(), "a writer ended with {status} (seed {seed})");
    }
    let total = (own + 2 * 40).to_string();
    assert_eq!(text(registry, "count").await, Some(total), "seed {seed}");
}

async fn limits(registry: &impl Registry) {
    let big = Write { value: Some(vec![0; (1 << 20) + 1]), ..put("big", 0) };
    assert!(registry.commit(&[], &[big]).await.unwrap_err().to_string().contains("1048576"));
    assert!(registry.commit(&[], &[put("", 0)]).await.is_err());
    let twice = registry.commit(&[], &[put("twice", 1), put("twice", 2)]).await;
    assert!(twice.unwrap_err().to_string().contains("`twice` twice"));
    let many: Vec<_> = (0..129).map(|n| put(&format!("many/{n}"), n)).collect();
    assert!(registry.commit(&[], &many).await.unwrap_err().to_string().contains("128 keys"));
    revision(registry.commit(&[], &many[..128]).await.unwrap());
    assert_eq!(registry.list("many/").await.unwrap().keys.len(), 128);
    assert_eq!(registry.get("big").await.unwrap(), None);
}

/// A registry that goes away is silent, not empty; handles and watches from before go on once it is
/// back, and what was in it is in it.
async fn silence(place: &mut impl Place) {
    let registry = place.open();
    revision(registry.commit(&[], &[put("silent/k", 1)]).await.unwrap());
    let mut watch = registry.watch("silent/").await.unwrap();
    place.go_away();
    let began = Instant::now();
    for error in [
        registry.get("silent/k").await.map(drop).unwrap_err(),
        registry.list("silent/").await.map(drop).unwrap_err(),
        registry.commit(&[], &[put("silent/k", 2)]).await.map(drop).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.starts_with("the registry ") && error.contains("did not answer"), "{error}");
    }
    assert!(began.elapsed() < PATIENCE, "calls have deadlines");
    assert_eq!(value(&watch.borrow(), "silent/k"), Some("1"), "the view stands still");
    place.come_back();
    assert_eq!(text(&registry, "silent/k").await.as_deref(), Some("1"));
    revision(registry.commit(&[], &[put("silent/k", 3)]).await.unwrap());
    until(&mut watch, |view| value(view, "silent/k") == Some("3")).await;
}
