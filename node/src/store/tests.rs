//! Stories of the store: what survives opening it again.

use admin::{Adopt, Follow};
use keyspace::{Cf, Hlc};
use rocksdb::WriteBatch;
use tempfile::TempDir;
use topology::Epoch;
use topology::members::Role;
use wal::{Chain, Kind, Position, Sequence, TimelineId};

use super::{CommitError, Identity, NodeDir, SaveError, Saving, Store, StoreOptions, prepare_seed};

fn put(store: &Store, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::default();
    batch.put_cf(store.cf(Cf::Meta), b"\0\0key", value);
    batch
}

fn open(dir: &NodeDir) -> Store {
    Store::open(dir, None, StoreOptions { memory: 32 << 20, ..StoreOptions::default() }).unwrap()
}

fn locked() -> (TempDir, NodeDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDir::lock(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn each_open_starts_a_timeline_and_stamps_go_on_rising() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    let first = store.position();
    // A wall clock far ahead, seen once.
    store.hlc().observe(Hlc::new(4_000_000_000_000, 0));
    let end = store.commit(put(&store, "one"), Kind::Data).unwrap();
    let last = store.hlc().last();
    drop(store);
    let store = open(&dir);
    assert!(store.stamp() > last, "the clock stepped back by decades");
    let history = store.history();
    let [_, again] = history.starts() else { panic!("{history:?}") };
    assert_eq!(again.parents, [Position { timeline: first.timeline, sequence: end }]);
    assert_eq!(again.first, end.next());
    assert_eq!(store.db().get_cf(store.cf(Cf::Meta), b"\0\0key").unwrap().unwrap(), b"one");
}

#[test]
fn what_is_saved_is_synced_and_in_table_files() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    let end = store.commit(put(&store, "saved"), Kind::Data).unwrap();
    let before = store.saved();
    assert_eq!((before.changes, before.runs, before.failed), (0, false, false));

    let saving = Saving::begin(&store, 7).unwrap();
    assert!(store.saved().runs);
    assert!(matches!(Saving::begin(&store, 8), Err(SaveError::Runs)));
    saving.run().unwrap();

    let after = store.saved();
    assert_eq!((after.changes, after.runs, after.failed), (7, false, false));
    assert!(after.at_s >= before.at_s && store.synced() >= end);
    let files = store.db().live_files().unwrap();
    assert!(files.iter().any(|file| file.column_family_name == Cf::Meta.name()), "{files:?}");
}

#[test]
fn a_closed_log_takes_nothing_and_says_so() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    store.exclusive().set_open(false);
    let before = store.position();
    let refused = store.commit(put(&store, "late"), Kind::Data);
    assert!(matches!(refused, Err(CommitError::Closed)), "{refused:?}");
    assert_eq!(store.position(), before);
    store.exclusive().set_open(true);
    assert!(store.commit(put(&store, "now"), Kind::Data).unwrap() > before.sequence);
}

#[test]
fn after_a_sync_that_failed_nothing_counts_as_synced() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    // Written, and waiting for its sync while another's fails: the kernel forgets the pages that it
    // could not write, and the next sync would succeed without them.
    let end = store.commit(put(&store, "written"), Kind::Data).unwrap();
    store.latched.store(true, std::sync::atomic::Ordering::Release);
    let unknown = store.sync_to(end);
    assert!(matches!(unknown, Err(CommitError::Unsynced)), "{unknown:?}");
    assert!(store.synced() < end);
    let refused = store.commit(put(&store, "late"), Kind::Data);
    assert!(matches!(refused, Err(CommitError::Latched)), "{refused:?}");
}

#[test]
fn positions_are_exact_while_several_threads_commit() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    let before = store.position().sequence.0;
    let ends = std::thread::scope(|scope| {
        let commits = || {
            let commit = |i: u32| store.commit(put(&store, &i.to_string()), Kind::Data).unwrap().0;
            (0..200).map(commit).collect::<Vec<_>>()
        };
        let threads = [scope.spawn(commits), scope.spawn(commits), scope.spawn(commits)];
        let mut ends: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        ends.sort_unstable();
        ends
    });
    let distinct = ends.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(distinct && ends[0] > before);
    assert_eq!(store.position().sequence.0, ends[ends.len() - 1]);
    store.sync().unwrap();
    assert_eq!(store.synced(), store.position().sequence);
}

#[test]
fn an_adopted_directory_forgets_whose_it_was() {
    let (_temp, dir) = locked();
    let store = open(&dir);
    store.commit(put(&store, "one"), Kind::Data).unwrap();
    let old = store.history().starts()[0].timeline;
    drop(store);
    let follow = Follow {
        source: "a/0".parse().unwrap(),
        position: Position { timeline: TimelineId(7), sequence: Sequence(42) },
        log_chain: Chain(1),
        stream_chain: Chain(2),
        epoch: Epoch(3),
        until: Sequence(50),
    };
    let owner = ("demo".to_owned(), "b/0".parse().unwrap());
    let stamp = Hlc::new(5_000_000_000_000, 0);
    let identity = Identity::new(Some(&owner));
    prepare_seed(&dir.db(), &identity, &Adopt::following(follow.clone(), stamp)).unwrap();
    let options = StoreOptions { memory: 32 << 20, ..StoreOptions::default() };
    let store = Store::open(&dir, Some(&owner), options).unwrap();
    assert_eq!(store.identity(), &identity);
    assert!(!dir.db().join(Adopt::FILE).exists());
    assert!(store.history().starts().iter().all(|start| start.timeline != old));
    assert!(store.stamp() > stamp);
    let state = store.state();
    assert_eq!((state.standing.role, state.standing.epoch), (Role::Seeding, Epoch(3)));
    assert_eq!(state.applied[&follow.source].position, follow.position);
    drop(store);
    let store = Store::open(&dir, Some(&owner), options).unwrap();
    assert_eq!(store.state(), state);
}

#[test]
fn the_fence_never_falls_and_survives() {
    let (temp, dir) = locked();
    assert_eq!(dir.fence().unwrap(), Epoch(0));
    assert_eq!(dir.raise_fence(Epoch(5)).unwrap(), Epoch(5));
    assert_eq!(dir.raise_fence(Epoch(3)).unwrap(), Epoch(5));
    drop(dir);
    let dir = NodeDir::lock(temp.path()).unwrap();
    assert_eq!(dir.fence().unwrap(), Epoch(5));
    std::fs::write(temp.path().join("FENCE"), "five").unwrap();
    assert!(dir.fence().unwrap_err().to_string().contains("damaged"));
}

#[test]
fn a_swap_that_fails_half_way_is_undone() {
    let (temp, dir) = locked();
    let store = open(&dir);
    let database = store.identity().database.clone();
    drop(store);
    dir.swap(&temp.path().join("no-such-seed")).unwrap_err();
    assert_eq!(open(&dir).identity().database, database);
    // The same, cut short by a crash.
    std::fs::rename(dir.db(), temp.path().join("db.old")).unwrap();
    assert_eq!(open(&dir).identity().database, database);
}
