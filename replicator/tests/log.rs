//! The spool and the cursor against a real RocksDB that rolls, archives, closes, and is killed.
#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use godwit_replicator::cursor::{Cursor, CursorError, read_facts};
use godwit_replicator::identity::DatabaseId;
use godwit_replicator::spool::{Spool, SpoolError, SpoolLock};
use godwit_replicator::target::write_ledger;
use keyspace::{Cf, Hlc};
use rocksdb::{DB, Options, WriteBatch};
use wal::{History, Kind, Position, Sequence, Tag, TimelineId, TimelineStart};

const DATABASE: &str = "0123456789abcdef0123456789abcdef";

/// A node's directory with a database that is written as a node writes it.
struct Node {
    db: DB,
    history: History,
    writes: u64,
}

impl Node {
    fn open(dir: &Path, mut history: History) -> Self {
        let path = dir.join("db");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("GODWIT"), format!("{{\"database\":\"{DATABASE}\"}}")).unwrap();
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_wal_ttl_seconds(3600);
        let db = DB::open_cf(&options, &path, Cf::ALL.map(Cf::name)).unwrap();
        let recovered = Sequence(db.latest_sequence_number());
        history.push(TimelineStart {
            timeline: TimelineId(recovered.0 as u128 + 0xf000),
            first: recovered.next(),
            parents: history.position_of(recovered).into_iter().collect(),
            epoch: 1,
        });
        let node = Self { db, history, writes: 0 };
        let mut batch = node.tagged(Kind::Timeline);
        let json = serde_json::to_vec(&node.history).unwrap();
        let system = node.db.cf_handle(Cf::System.name()).unwrap();
        batch.put_cf(system, keyspace::system::TIMELINES, json);
        node.db.write(batch).unwrap();
        node
    }

    fn tagged(&self, kind: Kind) -> WriteBatch {
        let mut batch = WriteBatch::default();
        let tag = Tag { kind, origin: 1, epoch: 1, stamp: Hlc(self.writes), marker: 0 };
        batch.put_log_data(tag.encode());
        batch
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.writes += 1;
            let mut batch = self.tagged(Kind::Data);
            batch.put(self.writes.to_be_bytes(), [7; 100]);
            batch.delete([0, 0, 9]);
            self.db.write(batch).unwrap();
        }
    }

    /// Flushes, which begins a new log file and lets go of the old one.
    fn roll(&self) {
        for cf in Cf::ALL {
            self.db.flush_cf(self.db.cf_handle(cf.name()).unwrap()).unwrap();
        }
    }

    fn end(&self) -> Position {
        self.history.position_of(Sequence(self.db.latest_sequence_number())).unwrap()
    }

    fn start(&self) -> Position {
        let first = &self.history.starts()[0];
        Position { timeline: first.timeline, sequence: Sequence(first.first.0 - 1) }
    }
}

fn database() -> DatabaseId {
    DatabaseId::parse(DATABASE).unwrap()
}

fn read_to_end(cursor: &mut Cursor) -> u64 {
    let mut batches = 0;
    while cursor.advance().unwrap() {
        batches += 1;
    }
    batches
}

#[test]
fn a_cursor_follows_through_rolls_archive_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    let spool = Spool::open(dir.path()).unwrap();
    let mut cursor = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap();
    let mut batches = 1;
    for round in 0..5 {
        node.write(100);
        batches += 100;
        if round % 2 == 0 {
            node.roll();
            node.write(1);
            batches += 1;
        }
        spool.scan().unwrap();
    }
    let mut read = read_to_end(&mut cursor);
    assert_eq!((read, cursor.position()), (batches, node.end()));
    let (history, before) = (node.history.clone(), node.end());
    drop(node);
    // The files that the node has let go of are still ours.
    let _ = std::fs::remove_dir_all(dir.path().join("db/archive"));
    let mut node = Node::open(dir.path(), history);
    node.write(10);
    spool.scan().unwrap();
    read = read_to_end(&mut cursor);
    assert_eq!((read, cursor.position()), (11, node.end()));
    assert_ne!(before.timeline, cursor.position().timeline);
    // From any position that was passed, with the chain that was there.
    let mut walk = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap();
    let mut seen = Vec::new();
    while walk.advance().unwrap() {
        seen.push((walk.position(), walk.chain()));
    }
    for (at, chain) in seen.iter().step_by(37) {
        let mut again = Cursor::open(&spool, &database(), &node.history, *at).unwrap();
        assert!(again.agrees(*chain), "{at}");
        assert!(!again.agrees(wal::Chain(chain.0 ^ 1)), "{at}");
        read_to_end(&mut again);
        assert_eq!(again.position(), node.end(), "from {at}");
    }
    let facts = read_facts(&spool, &database()).unwrap();
    assert_eq!(facts.position(&History::default()), Some(node.end()));
}

#[test]
fn a_position_inside_a_batch_or_before_the_spool_is_no_place_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    node.write(3);
    let spool = Spool::open(dir.path()).unwrap();
    let inside = Position { sequence: Sequence(node.end().sequence.0 - 1), ..node.end() };
    let refused = Cursor::open(&spool, &database(), &node.history, inside).unwrap_err();
    assert!(matches!(refused, CursorError::NotHere(_)), "{refused}");
    node.roll();
    node.write(1);
    spool.scan().unwrap();
    let first = spool.files(&database())[0].clone();
    std::fs::remove_file(&first.path).unwrap();
    let _ = std::fs::remove_dir_all(dir.path().join("db/archive"));
    let spool = Spool::open(dir.path()).unwrap();
    let gap = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap_err();
    assert!(matches!(gap, CursorError::Gap { found: Some(_), .. }), "{gap}");
}

#[test]
fn a_recovery_to_an_earlier_point_is_a_fork_and_not_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    node.write(20);
    let spool = Spool::open(dir.path()).unwrap();
    let mut cursor = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap();
    read_to_end(&mut cursor);
    let (history, live) = (node.history.clone(), newest_log(dir.path()));
    let longer = spool.files(&database())[0].clone();
    // A power cut: the end of the log never reached the disk. The spool's link shares the file, so
    // the file is replaced by a shorter copy.
    drop(node);
    let bytes = std::fs::read(&live).unwrap();
    let other = tempfile::tempdir().unwrap();
    copy(&dir.path().join("db"), &other.path().join("db"));
    std::fs::write(
        other.path().join("db").join(live.file_name().unwrap()),
        &bytes[..bytes.len() / 2],
    )
    .unwrap();
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    copy(&other.path().join("db"), &dir.path().join("db"));
    let mut node = Node::open(dir.path(), history);
    assert!(node.end().sequence < cursor.position().sequence);
    node.write(2);
    spool.scan().unwrap();
    let fork = cursor.advance().unwrap_err();
    assert!(matches!(fork, CursorError::Forked { .. }), "{fork}");
    // After a real power cut the spool's link is the shorter file itself: here the longer one goes.
    std::fs::remove_file(&longer.path).unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    // Who stands at the end of what was recovered goes on.
    let start = &node.history.starts()[1];
    let at = Position {
        timeline: node.history.starts()[0].timeline,
        sequence: Sequence(start.first.0 - 1),
    };
    let mut cursor = Cursor::open(&spool, &database(), &node.history, at).unwrap();
    read_to_end(&mut cursor);
    assert_eq!(cursor.position(), node.end());
}

/// A power cut took the name of the last log file from the database's directory, the spool has it
/// still, and the next open gave its number again.
#[test]
fn of_two_files_with_one_number_the_one_that_the_node_recovered_to_goes_on() {
    let lost = tempfile::tempdir().unwrap();
    let mut before = Node::open(lost.path(), History::default());
    before.write(10);
    let dir = tempfile::tempdir().unwrap();
    copy(&lost.path().join("db"), &dir.path().join("db"));
    before.roll();
    before.write(10);
    let stale = newest_log(lost.path());
    let number =
        |log: &Path| -> u64 { log.file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    let spooled = |number: u64, inode: u64| {
        dir.path().join("spool").join(DATABASE).join(format!("{number:012}-{inode}.log"))
    };
    Spool::open(dir.path()).unwrap();
    // A sidecar that had read what is lost by now.
    let link = spooled(number(&stale), 1);
    std::fs::copy(&stale, &link).unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let mut ahead = Cursor::open(&spool, &database(), &before.history, before.start()).unwrap();
    read_to_end(&mut ahead);
    assert_eq!(ahead.position(), before.end());
    let mut node = Node::open(dir.path(), before.history.clone());
    let opened = number(&newest_log(dir.path()));
    node.write(30);
    node.roll();
    node.write(1);
    spool.scan().unwrap();
    let fork = ahead.advance().unwrap_err();
    assert!(matches!(fork, CursorError::Forked { .. }), "{fork}");
    for inode in [1, u64::MAX] {
        std::fs::rename(&link, spooled(opened, inode)).unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let twice = spool.files(&database()).into_iter().filter(|f| f.number == opened);
        assert_eq!(twice.count(), 2);
        let mut cursor = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap();
        read_to_end(&mut cursor);
        assert_eq!(cursor.position(), node.end(), "inode {inode}");
        let facts = read_facts(&spool, &database()).unwrap();
        assert_eq!(facts.position(&History::default()), Some(node.end()));
        std::fs::rename(spooled(opened, inode), &link).unwrap();
    }
}

#[test]
fn a_log_is_read_once_however_often_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    node.write(50);
    node.roll();
    node.write(50);
    let spool = Spool::open(dir.path()).unwrap();
    let at = |spool: &Spool| read_facts(spool, &database()).unwrap().position(&node.history);
    assert_eq!(at(&spool), Some(node.end()));
    // Were it read again, it would not be what it was.
    let files = spool.files(&database());
    let former = &files[files.len() - 2].path;
    let copy = std::fs::read(former).unwrap();
    std::fs::write(former, vec![0xff; copy.len()]).unwrap();
    let facts = read_facts(&spool, &database()).unwrap();
    assert_eq!(facts.history.as_ref(), Some(&node.history));
    std::fs::write(former, copy).unwrap();
    // What is written after that is found.
    node.write(7);
    node.roll();
    node.write(7);
    spool.scan().unwrap();
    let facts = read_facts(&spool, &database()).unwrap();
    assert_eq!(facts.position(&History::default()), Some(node.end()));
}

fn newest_log(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("db")).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() && entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A child process that writes until it is killed; it prints what was acknowledged.
/// The last byte of the newest log, changed as one that is not written yet, or written.
fn flip_last_byte(dir: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(newest_log(dir)).unwrap();
    let (at, mut byte) = (file.metadata().unwrap().len() - 1, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

/// Who streams, who archives and who goes out to a Redis read on in this one way.
#[tokio::test]
async fn a_tail_that_is_being_written_is_waited_for_and_one_that_stays_so_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    node.write(9);
    let spool = Spool::open(dir.path()).unwrap();
    let mut cursor = Cursor::open(&spool, &database(), &node.history, node.start()).unwrap();
    while cursor.advance_live().await.unwrap() {}
    assert_eq!(cursor.position(), node.end());

    node.write(1);
    flip_last_byte(dir.path());
    let path = dir.path().to_owned();
    let written = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        flip_last_byte(&path);
    });
    assert!(cursor.advance_live().await.unwrap());
    written.await.unwrap();
    assert_eq!(cursor.position(), node.end());

    node.write(1);
    flip_last_byte(dir.path());
    let (begun, at) = (Instant::now(), cursor.position());
    let error = cursor.advance_live().await.unwrap_err();
    assert!(matches!(error, CursorError::Damaged { .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it gave up after {:?}", begun.elapsed());
    assert_eq!(cursor.position(), at, "nothing of it was taken");
    // It is looked at from there again, whenever it is mended.
    flip_last_byte(dir.path());
    assert!(cursor.advance_live().await.unwrap());
    assert_eq!(cursor.position(), node.end());
}

#[test]
fn child_that_writes() {
    let Some(dir) = std::env::var_os("GODWIT_TEST_WRITER") else { return };
    let mut node = Node::open(Path::new(&dir), History::default());
    let acknowledged = Path::new(&dir).join("acknowledged");
    loop {
        node.write(50);
        std::fs::write(&acknowledged, node.end().sequence.to_string()).unwrap();
        if node.writes.is_multiple_of(1000) {
            node.roll();
        }
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes"])
        .env("GODWIT_TEST_WRITER", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let acknowledged = || -> u64 {
        let text = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap_or_default();
        text.parse().unwrap_or(0)
    };
    let spool = Spool::open(dir.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while acknowledged() < 5_000 {
        assert!(Instant::now() < deadline, "the child does not write");
        spool.scan().unwrap();
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let promised = acknowledged();
    spool.scan().unwrap();
    let facts = read_facts(&spool, &database()).unwrap();
    assert!(facts.end.unwrap().0 >= promised, "{facts:?}, acknowledged {promised}");
    // Reading while it wrote misses no file: every batch from the first on is there.
    let first = spool.files(&database())[0].clone();
    let head = godwit_replicator::cursor::Head::read(&first).unwrap().unwrap();
    let history = facts.history.clone().unwrap_or_else(|| {
        let mut history = History::default();
        let timeline = head.timeline.unwrap();
        history.push(TimelineStart { timeline, first: head.first, parents: vec![], epoch: 1 });
        history
    });
    let start =
        Position { timeline: history.starts()[0].timeline, sequence: Sequence(head.first.0 - 1) };
    let mut cursor = Cursor::open(&spool, &database(), &history, start).unwrap();
    read_to_end(&mut cursor);
    assert_eq!(Some(cursor.position().sequence), facts.end);
}

#[test]
fn one_sidecar_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let lock = SpoolLock::take(dir.path(), Duration::ZERO).unwrap();
    let second = SpoolLock::take(dir.path(), Duration::ZERO).unwrap_err();
    assert!(matches!(second, SpoolError::Locked(_)), "{second}");
    drop(lock);
    SpoolLock::take(dir.path(), Duration::ZERO).unwrap();
}

#[test]
fn the_ledger_is_whole_and_names_slots_that_were_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(dir.path(), History::default());
    node.write(10);
    let fork = node.end();
    node.write(5);
    let mut flush = node.tagged(Kind::Data);
    flush.delete_range([0, 0], [0, 9]);
    node.db.write(flush).unwrap();
    node.write(5);
    let spool = Spool::open(dir.path()).unwrap();
    let cursor = Cursor::open(&spool, &database(), &node.history, fork).unwrap();
    let (slots, ledger) = (keyspace::SlotSet::all(), dir.path().join("ledger"));
    let (stranded, path) =
        write_ledger(cursor, node.end(), &slots, "demo", "a/0", &ledger).unwrap();
    assert_eq!(stranded.flushed_slots(), "0-8".parse().unwrap());
    assert_eq!((stranded.untold, stranded.batches), (None, 11));
    let stamps: Vec<_> = stranded.keys.values().map(|touched| touched.stamp).collect();
    assert!(stamps.iter().all(|stamp| *stamp > stranded.stamp), "{stamps:?}");
    let scanned = wal::segment::scan(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((scanned.header.start, scanned.end()), (fork, node.end()));
}
