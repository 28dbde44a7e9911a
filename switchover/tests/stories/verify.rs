//! Equal is checked, not hoped.

use std::collections::BTreeMap;

use admin::{Digest, SlotDigest};
use keyspace::Hlc;
use resp::Version;
use resp::reply::{Reply, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use wal::{Position, Sequence, TimelineId};

use super::fakes::{Clouds, seed};

fn digest(slots: &[(u16, u128)]) -> Digest {
    let mut total = SlotDigest::default();
    let mut by_slot = BTreeMap::new();
    for (slot, digest) in slots {
        let one = SlotDigest { digest: *digest, keys: 1, bytes: 10 };
        total.add(&one);
        by_slot.insert(*slot, one);
    }
    Digest { position: position(), stamp: Hlc::new(1, 0), slots: by_slot, total }
}

fn position() -> Position {
    Position { timeline: TimelineId(7), sequence: Sequence(42) }
}

/// A node's admin listener that knows barriers and one digest, which is not there at first.
fn play_admin(clouds: &Clouds, shard: &str, digest: Digest) {
    let path = clouds.admin_of(shard);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, digest.clone()));
        }
    });
}

async fn answer(mut socket: UnixStream, digest: Digest) {
    let (mut buffer, mut asked) = (Vec::new(), 0);
    loop {
        let Some((request, length)) = Reply::parse(&buffer).unwrap() else {
            match socket.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        buffer.drain(..length);
        let words = request.as_array().unwrap().iter();
        let words: Vec<_> = words.map(|w| w.as_text().unwrap().to_owned()).collect();
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Version::V2);
        match (words[0].as_str(), words.get(1).map(String::as_str)) {
            ("GODWIT.BARRIER", _) => {
                writer.array(2);
                writer.bulk(b"00000000000000000000000000000abc");
                writer.bulk(position().to_string().as_bytes());
            }
            ("GODWIT.DIGEST", Some("DROP")) => writer.simple("OK"),
            ("GODWIT.DIGEST", _) if asked == 0 => writer.error("UNKNOWN no such barrier"),
            ("GODWIT.DIGEST", _) if asked == 1 => writer.error("PENDING it runs"),
            ("GODWIT.DIGEST", _) => writer.bulk(&serde_json::to_vec(&digest).unwrap()),
            other => panic!("{other:?}"),
        }
        asked += 1;
        socket.write_all(&out).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_field_and_one_missing_key_are_found() {
    let clouds = Clouds::up(seed()).await;
    for cluster in ["a", "b"] {
        play_admin(&clouds, &format!("{cluster}/0"), digest(&[(5, 1), (8000, 2)]));
        play_admin(&clouds, &format!("{cluster}/1"), digest(&[(9000, 3)]));
    }
    let (code, report) = clouds.ask(&["verify"]).await;
    assert_eq!((code, &report["equal"]), (0, &true.into()), "{report}");
    assert_eq!((&report["keys"], &report["bytes"]), (&3.into(), &30.into()));

    play_admin(&clouds, "b/0", digest(&[(5, 1), (8000, 99)]));
    play_admin(&clouds, "b/1", digest(&[]));
    let (code, report) = clouds.ask(&["verify"]).await;
    assert_eq!((code, &report["equal"]), (1, &false.into()), "{report}");
    let different = |n: usize| report["comparisons"][n]["different_slots"].to_string();
    assert_eq!((different(0), different(1)), ("[8000]".to_owned(), "[9000]".to_owned()));
}
