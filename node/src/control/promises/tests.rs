//! What a book promises and refuses, and what a primary asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use topology::record::{Cause, Cluster, Fork, Freeze, Phase, Shard, UnixMs};
use topology::{Epoch, FreezeId, Record, Revision, ShardName};
use wal::{Position, Sequence, TimelineId};

use super::book::{Blocked, Book, Held, Times};
use super::wishes::Wishes;

const LEASE_MS: u64 = 3_000;
const LEASE: Duration = Duration::from_millis(LEASE_MS);

fn shard(name: &str) -> ShardName {
    name.parse().unwrap()
}

fn at(ms: u64) -> Times {
    (Duration::from_millis(1_000_000 + ms), UnixMs(9_000_000 + ms))
}

fn record(epoch: u64) -> Record {
    let cluster = || {
        let shard = Shard { slots: "0-16383".parse().unwrap(), rest: Default::default() };
        Cluster { shards: vec![shard], rest: Default::default() }
    };
    Record {
        format: 1,
        level: 0,
        service: "demo".to_owned(),
        epoch: Epoch(epoch),
        primaries: vec![shard("a/0")],
        phase: Phase::Steady,
        lease_ms: LEASE_MS,
        clusters: ["a", "b", "c"].map(|name| (name.to_owned(), cluster())).into(),
        forks: Vec::new(),
        reads: Default::default(),
        rest: Default::default(),
    }
}

fn frozen(epoch: u64) -> Record {
    let freeze = Freeze {
        id: FreezeId(1),
        cause: Cause::Failover,
        shards: vec![shard("a/0")],
        to: "b".to_owned(),
        deadline: UnixMs(0),
        since: UnixMs(0),
        rest: Default::default(),
    };
    Record { phase: Phase::Frozen(freeze), ..record(epoch) }
}

/// To b, with the end of a's log where it is proven.
fn committed(from: &Record, proven: bool) -> Record {
    let at = Position { timeline: TimelineId(1), sequence: Sequence(1) };
    let end = proven.then_some(at);
    let (source, target) = (shard("a/0"), shard("b/0"));
    let (epoch, freeze) = (from.epoch.next(), FreezeId(1));
    let fork = Fork { epoch, freeze, source, target, at, end, rest: Default::default() };
    from.committed("b", vec![fork])
}

/// The book of b/0, which has seen this record, and whose directory is not new.
fn book(record: &Record) -> Book {
    let mut book = Book::open(Some(Held::blank(LEASE_MS)), Epoch(0), at(0));
    book.hear(record, &shard("b/0"), at(0).0);
    book
}

fn give(book: &mut Book, epoch: u64, ms: u64) -> Result<(), String> {
    book.give((&shard("b/0"), &shard("a/0")), Epoch(epoch), LEASE_MS, at(ms))
}

fn blocks(book: &Book, record: &Record, ms: u64) -> Option<u64> {
    let blocked = book.blocks(record, &shard("b/0"), at(ms).0)?;
    Some(blocked.left.as_millis() as u64)
}

#[test]
fn what_is_promised_is_kept_for_its_full_time() {
    let mut book = book(&record(4));
    assert_eq!(give(&mut book, 4, 0), Ok(()));
    let next = committed(&frozen(4), false);
    assert_eq!(blocks(&book, &next, 0), Some(3_000));
    assert_eq!(blocks(&book, &next, 2_999), Some(1));
    assert_eq!(blocks(&book, &next, 3_000), None);
    assert_eq!(give(&mut book, 4, 2_000), Ok(()), "and again");
    assert_eq!(blocks(&book, &next, 3_000), Some(2_000));
    let says = book.says(at(3_000));
    assert_eq!(says.given[&shard("a/0")].left_ms, 2_000);
    assert_eq!(says.given[&shard("a/0")].until, at(5_000).1);
    let says = book.says(at(60_000));
    assert_eq!(says.given[&shard("a/0")].left_ms, 0);
    assert_eq!(says.given[&shard("a/0")].until, at(5_000).1, "it bounds what was written");
}

#[test]
fn after_a_restart_it_lasts_for_its_full_time_again() {
    let mut before = book(&record(4));
    give(&mut before, 4, 0).unwrap();
    let bytes = before.unsynced().unwrap().to_bytes();
    let held = Held::parse(&bytes).unwrap();
    let after = Book::open(Some(held.clone()), Epoch(4), at(2_900));
    assert_eq!(blocks(&after, &committed(&frozen(4), false), 5_000), Some(900));
    // It ends all the same.
    let mut after = Book::open(Some(held), Epoch(4), at(2_900));
    after.expire(at(6_000).0);
    let left = after.unsynced().unwrap();
    assert_eq!(left, Held::parse(&left.to_bytes()).unwrap());
    assert_eq!(
        blocks(&Book::open(Some(left), Epoch(4), at(0)), &committed(&frozen(4), false), 0),
        None
    );
}

#[test]
fn a_promise_is_over_where_the_end_of_the_log_is_proven() {
    let mut book = book(&record(4));
    give(&mut book, 4, 0).unwrap();
    assert_eq!(blocks(&book, &committed(&frozen(4), true), 1), None);
    // A proof of an earlier switch says nothing of it.
    let earlier = committed(&frozen(3), true);
    let back = Record { epoch: Epoch(5), primaries: vec![shard("b/0")], ..earlier };
    assert_eq!(blocks(&book, &back, 1), Some(2_999));
}

#[test]
fn who_has_seen_a_freeze_promises_nothing_until_the_next_epoch() {
    let (us, a) = (shard("b/0"), shard("a/0"));
    let mut book = book(&record(4));
    assert!(book.hear(&frozen(4), &us, at(0).0), "it must be on the disk first");
    assert!(book.says(at(0)).none_below.is_empty(), "and is told to nobody before");
    assert!(give(&mut book, 4, 0).unwrap_err().contains("has seen that a/0 is frozen at epoch 4"));
    let held = book.unsynced().unwrap();
    book.synced(held.clone());
    assert_eq!(book.says(at(0)).none_below, [(a.clone(), Epoch(5))].into());
    let mut again = Book::open(Some(held), Epoch(4), at(0));
    assert!(give(&mut again, 4, 0).is_err(), "nor after a restart, with the registry silent");
    assert!(!again.hear(&frozen(4).cancelled(), &us, at(0).0));
    assert!(give(&mut again, 4, 0).unwrap_err().contains("has seen epoch 5"));
    assert_eq!(give(&mut again, 5, 0), Ok(()));
    // A primary that is not frozen goes on to be promised.
    let other = again.give((&us, &shard("c/1")), Epoch(5), LEASE_MS, at(0));
    assert_eq!(other, Ok(()));
}

#[test]
fn others_are_refused_in_words() {
    let mut book = book(&record(4));
    let us = shard("b/0");
    let mut check = |primary: &str, epoch: u64, lease_ms: u64, words: &str| {
        let given = book.give((&us, &shard(primary)), Epoch(epoch), lease_ms, at(0));
        let why = given.unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    check("b/1", 4, LEASE_MS, "no follower of b/1");
    check("a/0", 3, LEASE_MS, "has seen epoch 4");
    check("a/0", 4, LEASE_MS + 1, "the service's is 3000 ms");
    check("a/0", 4, u64::MAX, "the service's is 3000 ms");
    book.hear(&committed(&frozen(4), true), &us, at(0).0);
    assert!(give(&mut book, 9, 0).unwrap_err().contains("is a primary itself"));
    let mut blank = Book::open(None, Epoch(0), at(0));
    assert!(give(&mut blank, 4, 0).unwrap_err().contains("never seen the record"));
    for bytes in [&b"{}"[..], b"", b"{\"format\":2}", &[0xff; 40]] {
        assert!(Held::parse(bytes).is_err());
    }
}

#[test]
fn a_directory_without_a_book_may_have_promised_anything() {
    let mut book = Book::open(None, Epoch(0), at(0));
    let next = committed(&frozen(4), false);
    book.hear(&next, &shard("b/0"), at(100).0);
    let blocked = book.blocks(&next, &shard("b/0"), at(200).0);
    assert_eq!(blocked, Some(Blocked { primary: None, left: Duration::from_millis(2_900) }));
    assert_eq!(blocks(&book, &committed(&frozen(4), true), 200), None, "the end is proven");
    let held = book.unsynced().unwrap();
    let again = Book::open(Some(held), Epoch(4), at(1_000));
    assert_eq!(blocks(&again, &next, 1_000), Some(3_000), "nor is it known after a restart");
    book.expire(at(3_100).0);
    assert_eq!(blocks(&book, &next, 3_100), None);
    // Killed before it had seen a record, with the registry silent: nothing is known still.
    let early = Book::open(None, Epoch(0), at(0)).unsynced().unwrap();
    let mut again = Book::open(Some(early), Epoch(0), at(1_000));
    again.expire(at(60_000).0);
    again.hear(&next, &shard("b/0"), at(60_000).0);
    assert_eq!(blocks(&again, &next, 60_000), Some(3_000));
}

#[test]
fn a_primary_asks_all_whom_the_registry_may_name() {
    let of = |names: &[&str]| names.iter().map(|name| shard(name)).collect::<BTreeSet<_>>();
    let now = at(0).0;
    let (one, two) = ((Epoch(4), Revision(7)), (Epoch(4), Revision(8)));
    let mut wishes = Wishes::default();
    let low = LEASE / 4;
    wishes.sending(&of(&["b/0"]));
    assert_eq!(
        wishes.want(one, LEASE, low, now),
        None,
        "the registry has not said that it names them"
    );
    wishes.taken(Epoch(4), of(&["b/0"]));
    assert!(!wishes.is_news(Epoch(4), &of(&["b/0"])) && wishes.is_news(Epoch(5), &of(&["b/0"])));
    assert_eq!(wishes.want(one, LEASE, LEASE / 2, now), None, "the registry renews it in time");
    let wish = wishes.want(one, LEASE, low, now).unwrap();
    assert_eq!((wish.epoch, wish.lease_ms, &wish.of), (Epoch(4), LEASE_MS, &of(&["b/0"])));
    assert_eq!(wishes.have(wish.id, &of(&[]), one), None);
    assert_eq!(wishes.have(wish.id, &of(&["b/0"]), one), Some(now), "it counts from the question");
    assert_eq!(wishes.have(wish.id + 1, &of(&["b/0"]), one), None);
    assert_eq!(wishes.have(wish.id, &of(&["b/0"]), (Epoch(5), Revision(9))), None, "another epoch");

    // A cluster was added, and whether the registry names it is not known: it is asked.
    wishes.sending(&of(&["b/0", "c/0"]));
    assert_eq!(wishes.have(wish.id, &of(&["b/0"]), one), None, "who was not asked then");
    assert_eq!(wishes.want(one, LEASE, low, now).unwrap().of, of(&["b/0", "c/0"]));
    wishes.unanswered();
    assert!(wishes.is_news(Epoch(4), &of(&["b/0", "c/0"])));
    // And when it is gone again, until the registry has taken that.
    wishes.sending(&of(&["b/0"]));
    assert_eq!(wishes.want(one, LEASE, low, now).unwrap().of, of(&["b/0", "c/0"]));
    wishes.taken(Epoch(4), of(&["b/0"]));
    let wish = wishes.want(one, LEASE, low, now).unwrap();
    assert_eq!(wish.of, of(&["b/0"]));

    // The registry has another record: nothing more under this one.
    wishes.outdated(one.1);
    assert_eq!(wishes.have(wish.id, &wish.of, one), None);
    assert_eq!(wishes.want(one, LEASE, low, now), None);
    assert!(wishes.want(two, LEASE, low, now).is_some(), "it has obeyed that one");
    let next = (Epoch(5), Revision(9));
    assert_eq!(wishes.want(next, LEASE, low, now), None, "not renewed under this epoch yet");
    wishes.taken(Epoch(4), BTreeSet::new());
    assert_eq!(
        wishes.want(two, LEASE, low, now),
        None,
        "nobody could take its slots: nobody promises"
    );
    wishes.sending(&of(&["c/0"]));
    assert_eq!(wishes.want(two, LEASE, low, now), None, "nor before the registry names somebody");
}
