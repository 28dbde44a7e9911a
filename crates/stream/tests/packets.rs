//! Packets survive a socket, and damaged or foreign bytes are refused, never believed.
#![allow(clippy::unwrap_used)] // of tests, helpers too

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use stream::message::{
    Ack, Incoming, LoadedSlots, Message, Point, SliceBegin, SliceFile, Standing,
};
use stream::wire::{self, Packet, WireError};
use stream::{Hello, Purpose, Versions, Welcome, codec, message};
use wal::{Chain, History, Position, Sequence, TimelineId, TimelineStart};

fn position() -> impl Strategy<Value = Position> {
    (any::<u128>(), any::<u64>())
        .prop_map(|(t, s)| Position { timeline: TimelineId(t), sequence: Sequence(s) })
}

fn point() -> impl Strategy<Value = Point> {
    (position(), any::<u64>(), any::<u64>()).prop_map(|(position, log, stream)| Point {
        position,
        log_chain: Chain(log),
        stream_chain: Chain(stream),
    })
}

fn hello() -> impl Strategy<Value = Message> {
    (".{0,40}", proptest::collection::vec((any::<u128>(), any::<u64>(), position()), 0..5))
        .prop_map(|(service, starts)| {
            let mut history = History::default();
            for (timeline, first, parent) in starts {
                history.push(TimelineStart {
                    timeline: TimelineId(timeline),
                    first: Sequence(first),
                    parents: vec![parent],
                    epoch: first,
                });
            }
            Message::Hello(Box::new(Hello {
                purpose: Purpose::Stream,
                versions: Versions { lowest: 1, highest: 9 },
                service,
                from: "a/0".to_owned(),
                to: "b/1".to_owned(),
                slots: "0-99,200".parse().unwrap(),
                history,
                epoch: 7,
                families: message::families(),
                encoding: message::ENCODING,
            }))
        })
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        hello(),
        point().prop_map(Message::Start),
        (proptest::option::of(position()), proptest::option::of(any::<u64>()))
            .prop_map(|(staged, lag_ms)| Message::Ack(Ack { staged, applied: staged, lag_ms })),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)
            .prop_map(Message::Keys),
        point().prop_map(|p| Message::Welcome(Welcome {
            version: 1,
            from: "b/0".to_owned(),
            slots: "5".parse().unwrap(),
            standings: vec![Standing {
                of: message::Of::Applied("a/0".to_owned()),
                position: p.position,
                local_until: p.position.sequence,
                log_chain: p.log_chain,
                stream_chain: p.stream_chain,
            }],
        })),
        (point(), any::<u128>(), any::<u64>()).prop_map(|(point, id, stamp)| {
            let slots = "0-99,200".parse::<keyspace::SlotSet>().unwrap();
            let load =
                LoadedSlots { id: format!("{id:032x}"), stamp, slots: slots.clone(), at: stamp };
            let loaded = vec![load];
            Message::SliceBegin(SliceBegin { id, point, stamp, slots, horizon_ms: stamp, loaded })
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(files, bytes)| Message::SliceHave { files, bytes }),
        (any::<u32>(), any::<u32>(), any::<u64>())
            .prop_map(|(file, family, size)| Message::SliceFile(SliceFile { file, family, size })),
        any::<u32>().prop_map(|files| Message::SliceEnd { files }),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)
            .prop_map(Message::Records),
        ".{0,40}".prop_map(|sentence| Message::NotYet { sentence }),
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(id, epoch, lease_ms)| Message::Promise { id, epoch, lease_ms }),
        any::<u64>().prop_map(|id| Message::Promised { id }),
        (any::<u64>(), ".{0,40}").prop_map(|(id, reason)| Message::NoPromise { id, reason }),
        Just(Message::Ping),
    ]
}

fn packet(kind: u8, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(&wire::header(kind, &[body]).unwrap()[..]);
    bytes.extend_from_slice(body);
    bytes
}

proptest! {
    #[test]
    fn messages_read_back(message in any_message()) {
        let body = codec::encode(&message).unwrap();
        let mut bytes = packet(wire::MESSAGE, &body);
        let packet = wire::take(&mut bytes).unwrap().unwrap();
        prop_assert_eq!(Incoming::of(packet).unwrap(), Incoming::Message(message));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn a_prefix_is_not_yet_a_packet(body in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let mut bytes = packet(wire::FRAME, &body);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert_eq!(wire::take(&mut bytes).unwrap(), None);
    }

    #[test]
    fn a_flipped_bit_is_found(body in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = packet(wire::FRAME, &body);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        // A length that grew waits for more; everything else is an error.
        let taken = wire::take(&mut bytes);
        prop_assert!(matches!(taken, Ok(None) | Err(_)), "byte {}: {:?}", at, taken);
        prop_assert!((4..8).contains(&at) || taken.is_err());
    }

    #[test]
    fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..5) {
        let _ = wire::take(&mut BytesMut::from(&bytes[..]));
        let _ = Incoming::of(Packet { kind, body: bytes.into() });
    }
}

#[tokio::test]
async fn a_conversation_over_a_socket() {
    let (here, there) = tokio::io::duplex(1000);
    let (mut here, mut there) = (stream::split(here), stream::split(there));
    let big = vec![7; 100_000];
    let send = async {
        here.writer.message(&Message::Ping).await.unwrap();
        here.writer.message(&Message::SeedEnd).await.unwrap();
        here.writer.chunk(3, 1 << 40, b"bytes").await.unwrap();
        here.writer.frame(&big).await.unwrap();
        here.writer.message(&Message::Refusal { sentence: "no".to_owned() }).await.unwrap();
        here.writer.close().await;
    };
    let receive = async {
        assert_eq!(there.reader.message().await.unwrap(), Message::SeedEnd);
        let chunk = there.reader.incoming().await.unwrap();
        assert_eq!(chunk, Incoming::Chunk { file: 3, offset: 1 << 40, bytes: b"bytes"[..].into() });
        assert_eq!(there.reader.incoming().await.unwrap(), Incoming::Frame(big.clone().into()));
        let refused = there.reader.message().await.unwrap_err();
        assert!(matches!(refused, WireError::Refused(sentence) if sentence == "no"));
        assert_eq!(there.reader.read().await.unwrap(), None);
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let (here, _there) = tokio::io::duplex(10);
    let mut here = stream::split(here);
    here.reader.set_deadline(Duration::from_millis(20));
    here.writer.set_deadline(Duration::from_millis(20));
    assert!(matches!(here.reader.read().await, Err(WireError::Deadline(..))));
    assert!(matches!(here.writer.frame(&[0; 100]).await, Err(WireError::Deadline(..))));
}

#[test]
fn a_stranger_is_named() {
    let mut http = BytesMut::from("GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(wire::take(&mut http), Err(WireError::Foreign)));
    let mut later = packet(wire::FRAME, b"x");
    later[2] = 9;
    assert!(matches!(wire::take(&mut later), Err(WireError::Version(9))));
    let mut long = packet(wire::MESSAGE, b"x");
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(wire::take(&mut long), Err(WireError::TooLong { .. })));
}

/// A `Hello` as version 1 wrote it: of a/0 to b/0 of the service `demo`, at epoch 1.
const HELLO_V1: &[u8] = include_bytes!("fixtures/hello-v1.bin");

#[test]
fn a_hello_of_version_1_is_understood_for_ever() {
    let packet = wire::take(&mut BytesMut::from(HELLO_V1)).unwrap().unwrap();
    let Incoming::Message(Message::Hello(hello)) = Incoming::of(packet).unwrap() else {
        panic!("it is no hello");
    };
    assert_eq!(hello.versions, Versions { lowest: 1, highest: 1 });
    assert_eq!((&*hello.service, &*hello.from, &*hello.to), ("demo", "a/0", "b/0"));
    assert_eq!((hello.purpose, hello.epoch), (Purpose::Stream, 1));
    assert_eq!((hello.families, hello.encoding), (message::families(), 1));
}

#[test]
fn two_agree_on_the_highest_version_that_both_speak() {
    let speaks = |lowest, highest| Versions { lowest, highest };
    for (ours, theirs, agreed) in [
        (speaks(1, 2), speaks(1, 1), Some(1)),
        (speaks(1, 2), speaks(1, 2), Some(2)),
        (speaks(1, 2), speaks(2, 9), Some(2)),
        (speaks(3, 4), speaks(1, 2), None),
        (speaks(1, 2), speaks(3, 4), None),
    ] {
        assert_eq!(ours.agree(theirs).ok(), agreed, "{ours:?} {theirs:?}");
    }
    let why = speaks(3, 4).agree(speaks(1, 2)).unwrap_err();
    assert!(why.contains("1 to 2") && why.ends_with("upgrade the caller"), "{why}");
    for versions in [speaks(1, 2), speaks(3, 15)] {
        assert_eq!(Versions::from(u8::from(versions)), versions);
    }
    assert_eq!(Versions::from(1), speaks(1, 1), "as version 1 wrote it");
}
