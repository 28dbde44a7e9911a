//! Sidecars of different versions: today's answers a `Hello` of version 1 in version 1, as it was
//! written down then, and says so to nobody else.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

use std::time::Duration;

use bytes::BytesMut;
use stream::message::{Point, SeedBegin, SeedFile};
use stream::{Connection, Message, Versions, WireError, wire};
use tests::story::Story;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wal::{Chain, Position, Sequence, TimelineId};

/// From a/0 to b/0 of the service `demo`, at epoch 1; never written anew.
const HELLO_V1: &[u8] = include_bytes!("../../crates/stream/tests/fixtures/hello-v1.bin");
const FILE_BYTES: usize = 3 << 20;

/// Dials with this first message, and gets an answer of this version.
async fn greet(address: &str, hello: &[u8], version: u8) -> Connection<TcpStream> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(hello).await.unwrap();
    let mut conn = stream::split(socket);
    conn.reader.set_deadline(Duration::from_secs(20));
    match conn.reader.message().await.unwrap() {
        Message::Welcome(welcome) => {
            assert_eq!((welcome.version, &*welcome.from), (version, "b/0"));
            assert_eq!(welcome.slots, "0-8191".parse().unwrap());
        }
        other => panic!("it answered {other:?}"),
    }
    conn
}

/// Sends a seed of one file that turns out to be damaged, so that nothing comes of it; what the
/// target says before it refuses.
async fn seed(conn: &mut Connection<TcpStream>) -> Vec<Message> {
    let position = Position { timeline: TimelineId(7), sequence: Sequence(9) };
    let point = Point { position, log_chain: Chain(1), stream_chain: Chain::START };
    let file = SeedFile { name: "000001.sst".to_owned(), size: FILE_BYTES as u64 };
    let begin = SeedBegin { id: rand::random(), point, stamp: 1, files: vec![file] };
    conn.writer.message(&Message::SeedBegin(begin)).await.unwrap();
    assert_eq!(conn.reader.message().await.unwrap(), Message::SeedHave(vec![0]));
    for at in (0..FILE_BYTES).step_by(256 << 10) {
        conn.writer.chunk(0, at as u64, &[7; 256 << 10]).await.unwrap();
    }
    conn.writer.message(&Message::FileDone { file: 0, hash: [0; 32] }).await.unwrap();
    let mut said = Vec::new();
    loop {
        match conn.reader.message().await {
            Ok(message) => said.push(message),
            Err(WireError::Refused(why)) => {
                assert!(why.contains("arrived damaged"), "{why}");
                return said;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_sidecar_of_version_1_is_answered_in_version_1() {
    let mut story = Story::begin();
    assert_eq!(story.observer.epoch(), 1, "the golden hello is of that epoch");
    story.load();
    let address = story.clouds.cloud("b").shards[0].sidecar.stream.clone();
    // Whoever calls as a/0 takes the place of a/0's own sidecar.
    story.clouds.shard("a/0").sidecar.process.kill9().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut old = greet(&address, HELLO_V1, 1).await;
        let told = seed(&mut old).await;
        assert!(told.is_empty(), "version 1 knew nothing of this: {told:?}");

        // The same from one that speaks version 2, and from one of the future.
        let mut packet = wire::take(&mut BytesMut::from(HELLO_V1)).unwrap().unwrap();
        for (versions, agreed) in [(0x12, 2), (0x29, Versions::OURS.highest)] {
            let mut body = packet.body.to_vec();
            body[2] = versions;
            packet.body = body.into();
            let header = wire::header(packet.kind, &[&packet.body]).unwrap();
            let hello = [&header[..], &packet.body].concat();
            let mut conn = greet(&address, &hello, agreed).await;
            let told = seed(&mut conn).await;
            assert!(told.contains(&Message::Received(1 << 20)), "{told:?}");
        }

        // One with which there is nothing to agree on.
        let mut body = packet.body.to_vec();
        body[2] = 0x99;
        let header = wire::header(packet.kind, &[&body]).unwrap();
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(&[&header[..], &body].concat()).await.unwrap();
        let refused = stream::split(socket).reader.message().await.unwrap_err().to_string();
        let highest = Versions::OURS.highest;
        assert!(refused.contains("the caller speaks versions 9 to 9"), "{refused}");
        assert!(refused.contains(&format!("1 to {highest}: upgrade the one called")), "{refused}");
    });
    story.clouds.shard("a/0").sidecar.process.start().unwrap();
    story.equal("a", "b");
}
