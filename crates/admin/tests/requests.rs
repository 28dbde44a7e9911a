//! Every request reads back as it was written, and bad ones are refused in words.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use admin::{Adopt, Follow, IntentFile, Loaded, Replay, ReplayEntry, ReplayMode, Request, Slice};
use keyspace::{Hlc, SlotSet};
use topology::record::UnixMs;
use topology::{Epoch, FreezeId};
use wal::{Chain, Position, Sequence, TimelineId};

fn follow(until: u64) -> Follow {
    Follow {
        source: "a/0".parse().unwrap(),
        position: Position { timeline: TimelineId(7), sequence: Sequence(42) },
        log_chain: Chain(u64::MAX),
        stream_chain: Chain(1),
        epoch: Epoch(3),
        until: Sequence(until),
    }
}

fn args(bytes: &[u8]) -> Vec<&[u8]> {
    let mut owned = bytes.to_vec();
    let mut ranges = Vec::new();
    let limits = resp::command::Limits::default();
    let mut parser = resp::command::Parser::new();
    let taken = parser.next(&mut owned, &limits, &mut ranges).unwrap();
    assert_eq!(taken, Some(bytes.len()));
    ranges.into_iter().map(|range| &bytes[range]).collect()
}

#[test]
fn requests_read_back() {
    let source = follow(0).source;
    let loaded = Loaded { stamp: Hlc::new(1, 2), slots: "7".parse().unwrap(), at: Hlc::new(1, 3) };
    for request in [
        Request::Ping,
        Request::Auth { user: b"ops", password: b"\r\n secret" },
        Request::Status,
        Request::Position,
        Request::Role,
        Request::Sync,
        Request::Compact,
        Request::Checkpoint("one".into()),
        Request::DropCheckpoint("one".into()),
        Request::Apply { source: source.clone(), frame: b"\x00\r\n\xff" },
        Request::Follow(follow(42)),
        Request::Seed {
            path: "/data/seed".into(),
            adopt: Adopt::following(follow(50), Hlc::new(1, 2)),
        },
        Request::Activate {
            path: "/srv/godwit.materialised/demo/a-0/one/db".into(),
            adopt: Adopt::following(follow(50), Hlc::new(1, 2)),
            copy: false,
        },
        Request::Activate {
            path: "/srv/one/db".into(),
            adopt: Adopt { format: Adopt::FORMAT, follow: None, stamp: Hlc::new(1, 2) },
            copy: true,
        },
        Request::SeedSlots {
            path: "/data/loads/received/slice-a-0".into(),
            slice: Box::new(Slice {
                format: Slice::FORMAT,
                follow: follow(50),
                slots: "0-99,200".parse().unwrap(),
                stamp: Hlc::new(3, 4),
                horizon_ms: 5,
                loaded: [("7".repeat(32), loaded)].into(),
                files: vec![IntentFile { family: 1, path: "000000-1.sst".to_owned() }],
            }),
        },
        Request::Measure("0-99,200".parse().unwrap()),
        Request::ExportSlots { slots: "7".parse().unwrap(), after: b"\x00\x07\r\n" },
        Request::Stamped { slots: "7".parse().unwrap(), stamp: Hlc::new(5, 6), after: b"" },
        Request::RewindForget(0xfeed),
        Request::RewindSlots("7".parse().unwrap()),
        Request::RewindPut { slots: "0-16383".parse().unwrap(), batch: b"\x00\xff" },
        Request::Ingest { path: "/data/load".into(), link: false },
        Request::Ingest { path: "/data/load".into(), link: true },
        Request::DumpSlots { slots: "0-99,101".parse().unwrap(), path: "/data/out".into() },
        Request::DeleteSlots { slots: "7".parse().unwrap(), yes: false },
        Request::DeleteSlots { slots: SlotSet::all(), yes: true },
        Request::Export(vec![b"k", b""]),
        Request::Records(vec![b"\xff\xffUa", b"\xff\xffFl\r\n"]),
        Request::RewindRecords { keys: vec![b"\xff\xffUa"], batch: b"\x01" },
        Request::On { timeline: TimelineId(7), request: Box::new(Request::Status) },
        Request::On {
            timeline: TimelineId(u128::MAX),
            request: Box::new(Request::RewindKeys { keys: vec![b"a", b"b\r\n"], batch: b"\r\n" }),
        },
        Request::On {
            timeline: TimelineId(u128::MAX),
            request: Box::new(Request::Follow(follow(42))),
        },
        Request::RewindBegin { source, fork: follow(0).position },
        Request::RewindKeys { keys: vec![b"a", b"b\r\n"], batch: b"\x01" },
        Request::RewindEnd(follow(99)),
        Request::Replay(Replay {
            mode: ReplayMode::NewestWins,
            dry: true,
            fork: Hlc::new(7, 8),
            entries: vec![
                ReplayEntry { key: b"k\r\n", stamp: Hlc::new(9, 1), records: b"\x00\x01" },
                ReplayEntry { key: b"gone", stamp: Hlc::new(9, 2), records: b"" },
            ],
        }),
        Request::Barrier,
        Request::Digest(0xfeed),
        Request::DigestKeys {
            id: 0xfeed,
            slot: keyspace::Slot::new(16383).unwrap(),
            after: b"\x3f\xffk",
        },
        Request::Repair(vec![b"k", b"\r\n"]),
        Request::DropDigest(0xfeed),
        Request::Freeze { id: FreezeId(5), deadline: UnixMs(123) },
        Request::Fence(Epoch(9)),
        Request::Promote(Epoch(9)),
        Request::PromiseWanted,
        Request::PromiseHave {
            id: u64::MAX,
            of: ["b/0", "c/1"].map(|shard| shard.parse().unwrap()).into(),
        },
        Request::PromiseHave { id: 0, of: Default::default() },
        Request::PromiseGive { primary: "a/0".parse().unwrap(), epoch: Epoch(9), lease_ms: 3_000 },
    ] {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        assert_eq!(Request::parse(&args(&bytes)), Ok(request));
    }
}

#[test]
fn bad_requests_are_refused_in_words() {
    let check = |args: &[&[u8]], words: &str| {
        let error = Request::parse(args).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check(&[b"SET", b"k", b"v"], "unknown control command `SET`");
    check(&[b"godwit.apply", b"a/0"], "wrong number of arguments for `GODWIT.APPLY`");
    check(&[b"GODWIT.APPLY", b"nowhere", b""], "names no shard");
    check(&[b"GODWIT.FENCE", b"-1"], "-1");
    check(&[b"GODWIT.REPLAY", b"SOMEHOW", b"DO", b"1"], "`SOMEHOW` is no way to replay");
    check(&[b"GODWIT.REPLAY", b"newest-wins", b"do", b"1", b"k"], "wrong number of arguments");
    check(&[b"GODWIT.SLOTS", b"MEASURE", b"5-1"], "5-1");
    check(&[b"GODWIT.SEED", b"/x", b"{}"], "cannot be read");
    check(&[b"GODWIT.SEED", b"LINK", b"/x", b"{}"], "cannot be read");
    check(&[b"GODWIT.REWIND", b"KEYS", b"2", b"a", b""], "wrong number of arguments");
    check(&[b"GODWIT.REWIND", b"RECORDS", b"2", b"a", b""], "wrong number of arguments");
    check(&[b"GODWIT.ON", b"xyz", b"PING"], "32 hexadecimal digits");
    let on = [b'7'; 32];
    check(&[b"GODWIT.ON", &on], "wrong number of arguments for `GODWIT.ON`");
    check(&[b"GODWIT.ON", &on, b"godwit.on", &on, b"PING"], "wrong number of arguments");
    check(&[b"GODWIT.ON", &on, b"AUTH", b"u", b"p"], "wrong number of arguments");
    check(&[b"GODWIT.ON", &on, b"SET", b"k", b"v"], "unknown control command `SET`");
    check(&[b"GODWIT.PROMISE", b"GIVE", b"a/0", b"1"], "wrong number of arguments");
    check(&[b"GODWIT.PROMISE", b"HAVE", b"1", b"nowhere"], "names no shard");
    check(&[b"GODWIT.DIGEST", b"xyz"], "32 hexadecimal digits");
}
