//! Checkpoints to a snapshotter: what is said on a connection whose [`Hello`] has the purpose
//! [`Purpose::Export`].
//!
//! ```text
//! snapshotter -> sidecar   Hello, Open
//! sidecar -> snapshotter   Hashing*, Manifest                         | Refusal at any time
//! snapshotter -> sidecar   Ping*, Want
//! sidecar -> snapshotter   (chunk*, FileDone)*, Done
//! ```
//!
//! A chunk is a packet of its own kind: the file's index (u32 LE), then a zstd frame of at most
//! [`CHUNK_BYTES_MAX`] bytes, which a store can keep as it comes. Closing the connection ends the
//! export: the sidecar removes the checkpoint.
//!
//! [`Purpose::Export`]: crate::Purpose::Export

use std::time::Duration;

use bytes::{Buf, Bytes};
use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use wal::{History, Position};

use crate::codec;
use crate::conn::{Reader, Writer};
use crate::message::{Incoming, Message};
use crate::wire::{self, Packet, WireError};

/// Kind of a packet whose body is an [`Export`].
pub const MESSAGE: u8 = wire::EXPORT;
/// Kind of a packet whose body is a chunk.
pub const CHUNK: u8 = wire::EXPORT + 1;
/// The most uncompressed bytes of a chunk.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The most files of a checkpoint; their manifest stays within a message.
pub const FILES_MAX: usize = 100_000;
/// How long an end of an export may say nothing: it may be syncing a large file.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// Its name: no directories in it.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Their BLAKE3 hash.
    pub hash: [u8; 32],
}

/// What a checkpoint is and consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportManifest {
    /// The service.
    pub service: String,
    /// The shard, written `a/0`.
    pub shard: String,
    /// The slots that it holds.
    pub slots: SlotSet,
    /// The id of the database.
    pub database: String,
    /// The end of what the checkpoint holds.
    pub position: Position,
    /// The timelines of its log up to there.
    pub history: History,
    /// No stamp in it is above this one.
    pub stamp: Hlc,
    /// Its files; everything after names them by index.
    pub files: Vec<ExportFile>,
}

/// Every message of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Export {
    /// Take a checkpoint for the snapshot of this id.
    Open {
        /// The snapshot's id.
        snapshot: String,
    },
    /// The files are being read and hashed; said at least every second.
    Hashing {
        /// Bytes hashed.
        done: u64,
        /// Bytes there are.
        total: u64,
    },
    /// The checkpoint.
    Manifest(Box<ExportManifest>),
    /// The files that the snapshotter's store has not, by index, rising.
    Want(Vec<u32>),
    /// All chunks of a file were sent.
    FileDone {
        /// Its index.
        file: u32,
    },
    /// All files that were wanted were sent.
    Done,
    /// No, and why.
    Refusal {
        /// In a sentence that says what to do.
        sentence: String,
    },
    /// Alive.
    Ping,
}

/// A packet of an export, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A message; never a [`Export::Ping`] or a [`Export::Refusal`].
    Message(Export),
    /// Compressed bytes of a file.
    Chunk {
        /// The file's index.
        file: u32,
        /// One zstd frame.
        bytes: Bytes,
    },
}

/// The next packet of an export. A refusal of either kind is an error; pings are passed over.
///
/// # Errors
/// The connection ended, or what came has no place in an export.
pub async fn next<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> Result<Arrived, WireError> {
    loop {
        let packet = reader.read().await?.ok_or(WireError::Closed)?;
        match understand(packet)? {
            Arrived::Message(Export::Ping) => {}
            Arrived::Message(Export::Refusal { sentence }) => {
                return Err(WireError::Refused(sentence));
            }
            arrived => return Ok(arrived),
        }
    }
}

fn understand(mut packet: Packet) -> Result<Arrived, WireError> {
    match packet.kind {
        MESSAGE => codec::decode(&packet.body).map(Arrived::Message),
        CHUNK if packet.body.len() >= 4 => {
            let file = packet.body.get_u32_le();
            Ok(Arrived::Chunk { file, bytes: packet.body })
        }
        // The listener refuses a bad Hello before it knows what the connection is for.
        wire::MESSAGE => match Incoming::of(packet)? {
            Incoming::Message(Message::Refusal { sentence }) => Err(WireError::Refused(sentence)),
            other => Err(WireError::Unexpected { got: other.name(), want: "an export's message" }),
        },
        kind => Err(WireError::Unexpected {
            got: format!("a packet of kind {kind}"),
            want: "a packet of an export",
        }),
    }
}

/// Sends a message.
///
/// # Errors
/// The connection failed.
pub async fn send<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    message: &Export,
) -> Result<(), WireError> {
    writer.value(MESSAGE, message).await
}

/// Sends a chunk: one zstd frame.
///
/// # Errors
/// The connection failed.
pub async fn send_chunk<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    file: u32,
    bytes: &[u8],
) -> Result<(), WireError> {
    writer.packet(CHUNK, &[&file.to_le_bytes(), bytes]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_and_chunks_arrive_and_pings_do_not() {
        let (here, there) = tokio::io::duplex(4096);
        let (mut here, mut there) = (crate::split(here), crate::split(there));
        let manifest = Export::Manifest(Box::new(ExportManifest {
            service: "demo".to_owned(),
            shard: "a/0".to_owned(),
            slots: "0-8191".parse().unwrap(),
            database: "beef".to_owned(),
            position: "0000000000000000000000000000beef@42".parse().unwrap(),
            history: History::default(),
            stamp: Hlc(7),
            files: vec![ExportFile { name: "CURRENT".to_owned(), size: 16, hash: [7; 32] }],
        }));
        send(&mut here.writer, &Export::Ping).await.unwrap();
        send(&mut here.writer, &manifest).await.unwrap();
        send_chunk(&mut here.writer, 3, b"bytes").await.unwrap();
        assert_eq!(next(&mut there.reader).await.unwrap(), Arrived::Message(manifest));
        let chunk = Arrived::Chunk { file: 3, bytes: Bytes::from_static(b"bytes") };
        assert_eq!(next(&mut there.reader).await.unwrap(), chunk);

        let sentence = "no".to_owned();
        let refusal = Export::Refusal { sentence: sentence.clone() };
        send(&mut here.writer, &refusal).await.unwrap();
        here.writer.message(&Message::Refusal { sentence }).await.unwrap();
        here.writer.frame(b"a frame").await.unwrap();
        for _ in 0..2 {
            let refused = next(&mut there.reader).await.unwrap_err();
            assert!(matches!(refused, WireError::Refused(why) if why == "no"));
        }
        let foreign = next(&mut there.reader).await.unwrap_err();
        assert!(matches!(foreign, WireError::Unexpected { .. }));
    }
}
