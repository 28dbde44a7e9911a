//! Checkpoints and logs to a snapshotter: what is said on a connection whose [`Hello`] has the purpose
//! [`Purpose::Export`].
//!
//! ```text
//! snapshotter -> sidecar   Hello, Open
//! sidecar -> snapshotter   Ready                       how much each way would take
//! snapshotter -> sidecar   Begin                       which way; NoLog answers that the log cannot be it
//! sidecar -> snapshotter   Begun                       a checkpoint was taken, or the log is open
//! snapshotter -> sidecar   Cut                         where all shards end, once all have begun
//! sidecar -> snapshotter   (Segment, bytes)*, End      the log up to there
//! snapshotter -> sidecar   Want                        pieces whose hashes were known, by number
//! sidecar -> snapshotter   (piece | Offer)*            what was wanted; what was just read and hashed
//! snapshotter -> sidecar   Take*                       an answer to each offer, in order
//! sidecar -> snapshotter   Digest?, Done
//! snapshotter -> sidecar   Sealed, once there is a snapshot
//! sidecar -> snapshotter   Kept                        the log from its end on is kept for the next one
//! ```
//!
//! A refusal may come at any time from the sidecar. Who works says [`Export::Ping`] meanwhile, who waits
//! reads. Closing the connection ends the export: the sidecar removes the checkpoint.
//!
//! A file is cut into pieces of [`PIECE_BYTES`], the last one shorter; the pieces of all files, in their
//! order, are numbered from 0 on.
//!
//! [`Hello`]: crate::Hello
//! [`Purpose::Export`]: crate::Purpose::Export

use std::future::Future;
use std::time::Duration;

use bytes::{Buf, Bytes};
use keyspace::{Hlc, SlotSet};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use wal::{Chain, History, Position};

use crate::codec;
use crate::conn::{PING_EVERY, Reader, Writer};
use crate::message::{Incoming, Message};
use crate::wire::{self, Packet, WireError};

/// Kind of a packet whose body is an [`Export`].
pub const MESSAGE: u8 = wire::EXPORT + 2;
/// Kind of a packet whose body is a piece: its number and its plain length (u32 LE each), 1 if it is one
/// Zstandard frame or 0 (u8), its bytes.
pub const PIECE: u8 = wire::EXPORT + 3;
/// Kind of a packet whose body is a segment, as the message before it says.
pub const SEGMENT: u8 = wire::EXPORT + 4;
/// The plain bytes of a piece.
pub const PIECE_BYTES: usize = 8 << 20;
/// The most bytes of a segment: it ends with the frame that fills it.
pub const SEGMENT_BYTES_MAX: usize = wal::frame::MAX_FRAME + (64 << 20);
/// The most files of a checkpoint; their list stays within a message.
pub const FILES_MAX: usize = 100_000;
/// The most hashes of a list of files; what comes after is offered.
pub const HASHES_MAX: usize = 250_000;
/// Offers that wait for an answer, each with its piece in the sidecar's memory.
pub const OFFERS_MAX: usize = 4;
/// How long an end of an export may say nothing.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The snapshot's id.
    pub snapshot: String,
    /// The repository's id: by it the sidecar knows its snapshots again.
    pub repository: String,
    /// The key that hashes of pieces are made with, if the repository is encrypted.
    pub naming: Option<[u8; 32]>,
    /// How many bytes a second may be sent, if there is a bound.
    pub bandwidth: Option<u64>,
    /// Whether the node is to digest what it holds.
    pub digest: bool,
    /// The end of this shard's last snapshot, if the log from there on could be the next one.
    pub after: Option<After>,
}

/// Where a snapshot ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The database whose log it is, or [`After::ANY_DATABASE`].
    pub database: String,
    /// The end.
    pub position: Position,
    /// The stream's chain there.
    pub chain: Chain,
    /// The log's chain there; [`Chain::START`] if it is not known.
    pub log_chain: Chain,
}

impl After {
    /// For whoever knows where on a log it is and not whose: a timeline is of one database.
    pub const ANY_DATABASE: &str = "";
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// Its name: no directories in it.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// The hashes of its pieces, if they are remembered.
    pub hashes: Option<Vec<[u8; 32]>>,
}

impl ExportFile {
    /// How many pieces it has.
    pub fn pieces(&self) -> u64 {
        self.size.div_ceil(PIECE_BYTES as u64)
    }

    /// How many bytes its n-th piece has.
    pub fn piece_bytes(&self, n: u64) -> usize {
        let begin = n.saturating_mul(PIECE_BYTES as u64);
        usize::try_from(self.size.saturating_sub(begin)).unwrap_or(usize::MAX).min(PIECE_BYTES)
    }
}

/// What each way would take, by an estimate: nothing was done yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The table files that the database has now. Empty if no `after` was given.
    pub files: Vec<ExportFile>,
    /// What a sample of those without hashes takes when it is packed, of a thousand.
    pub files_permille: u32,
    /// Packed bytes of the log since `after`; or why it cannot be followed.
    pub log: Result<u64, String>,
}

/// What was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The service.
    pub service: String,
    /// The shard, written `a/0`.
    pub shard: String,
    /// The slots that it holds.
    pub slots: SlotSet,
    /// The id of the database.
    pub database: String,
    /// The end of what the checkpoint holds, or where the log goes on.
    pub position: Position,
    /// The timelines of its log up to there.
    pub history: History,
    /// No stamp in it is above this one.
    pub stamp: Hlc,
    /// The epoch of the service.
    pub epoch: u64,
    /// Whether it can end at a cut: a standby's own log says nothing of when its source wrote what.
    pub cuttable: bool,
    /// The files of the checkpoint, none if it is the log.
    pub files: Vec<ExportFile>,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    /// Before its first batch.
    pub start: Position,
    /// The end of its last one.
    pub end: Position,
    /// The stream's chain before.
    pub chain_before: Chain,
    /// And at the end.
    pub chain: Chain,
    /// The log's chain at the end.
    pub log_chain: Chain,
    /// The highest stamp up to the end.
    pub stamp: Hlc,
    /// The highest epoch up to the end.
    pub epoch: u64,
}

/// Where the snapshot of a shard ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The end.
    pub position: Position,
    /// The timelines of the log up to there.
    pub history: History,
    /// No stamp up to there is above this one.
    pub stamp: Hlc,
}

/// Every message of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Export {
    /// Export for this snapshot.
    Open(Box<Open>),
    /// What each way would take.
    Ready(Box<Ready>),
    /// Take a checkpoint; or, if `log`, go on with the log from `after` on.
    Begin {
        /// Whether the log is the way.
        log: bool,
    },
    /// The log cannot be the way after all.
    NoLog {
        /// Why.
        why: String,
    },
    /// Begun.
    Begun(Box<Begun>),
    /// End with the last batch whose stamp is not above this one; `None`: where it was begun.
    Cut(Option<Hlc>),
    /// A segment; its bytes are the next packet.
    Segment(Box<SegmentHead>),
    /// All segments were sent.
    End(Box<End>),
    /// Pieces with known hashes that are to be sent, by number, rising.
    Want(Vec<u32>),
    /// A piece whose hash was not known.
    Offer {
        /// Its number.
        piece: u32,
        /// The hash.
        hash: [u8; 32],
    },
    /// The answer to an offer.
    Take {
        /// Whether it is to be sent.
        take: bool,
    },
    /// What the node holds by its own account: the answer of `GODWIT.DIGEST`, as JSON.
    Digest(String),
    /// All was sent, and the checkpoint is gone.
    Done,
    /// The snapshot is sealed.
    Sealed,
    /// Its end is remembered; `why` the log from there on is not kept, if it is not.
    Kept {
        /// Why not.
        why: Option<String>,
    },
    /// No, and why.
    Refusal {
        /// In a sentence that says what to do.
        sentence: String,
    },
    /// Alive.
    Ping,
}

impl Export {
    /// Its name, for messages about what has no place.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split(['(', '{', ' ']).next().unwrap_or_default().to_owned()
    }
}

/// A packet of an export, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A message; never a [`Export::Ping`] or a [`Export::Refusal`].
    Message(Export),
    /// A piece.
    Piece {
        /// Its number.
        piece: u32,
        /// How many plain bytes it has.
        size: u32,
        /// Whether the bytes are one Zstandard frame.
        is_zstd: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// The bytes of a segment.
    Segment(Bytes),
}

impl Arrived {
    /// What it is, for messages about what has no place.
    pub fn name(&self) -> String {
        match self {
            Self::Message(message) => message.name(),
            Self::Piece { piece, .. } => format!("piece {piece}"),
            Self::Segment(_) => "a segment".to_owned(),
        }
    }

    /// The error that it is where `want` has a place.
    pub fn unexpected(&self, want: &'static str) -> WireError {
        WireError::Unexpected { got: self.name(), want }
    }
}

/// The next packet of an export. A refusal of either kind is an error; pings are passed over. Nothing is
/// lost if this is dropped before it is done.
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
        PIECE if packet.body.len() >= 9 && packet.body.len() <= PIECE_BYTES + (64 << 10) => {
            let (piece, size) = (packet.body.get_u32_le(), packet.body.get_u32_le());
            let is_zstd = packet.body.get_u8() == 1;
            Ok(Arrived::Piece { piece, size, is_zstd, bytes: packet.body })
        }
        SEGMENT => Ok(Arrived::Segment(packet.body)),
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

/// Sends a piece.
///
/// # Errors
/// The connection failed.
pub async fn send_piece<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    (piece, size): (u32, u32),
    is_zstd: bool,
    bytes: &[u8],
) -> Result<(), WireError> {
    let (piece, size) = (piece.to_le_bytes(), size.to_le_bytes());
    writer.packet(PIECE, &[&piece, &size, &[u8::from(is_zstd)], bytes]).await
}

/// Sends a segment: what it is, and its bytes.
///
/// # Errors
/// The connection failed.
pub async fn send_segment<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    head: SegmentHead,
    bytes: &[u8],
) -> Result<(), WireError> {
    send(writer, &Export::Segment(Box::new(head))).await?;
    writer.packet(SEGMENT, &[bytes]).await
}

/// Waits for work, and says meanwhile that we are alive.
///
/// # Errors
/// The connection failed.
pub async fn pinging<W: AsyncWrite + Unpin, T>(
    writer: &mut Writer<W>,
    work: impl Future<Output = T>,
) -> Result<T, WireError> {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(PING_EVERY);
    tick.tick().await;
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = tick.tick() => send(writer, &Export::Ping).await?,
        }
    }
}

/// Takes what arrives into a queue until that cannot go on, and says why: to be run beside what works on
/// the queue.
pub async fn listen<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    queue: mpsc::Sender<Arrived>,
) -> WireError {
    loop {
        match next(reader).await {
            Ok(arrived) => {
                if queue.send(arrived).await.is_err() {
                    return WireError::Closed;
                }
            }
            Err(why) => return why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_pieces_and_segments_arrive_and_pings_do_not() {
        let (here, there) = tokio::io::duplex(4096);
        let (mut here, mut there) = (crate::split(here), crate::split(there));
        let begun = Export::Begun(Box::new(Begun {
            service: "demo".to_owned(),
            shard: "a/0".to_owned(),
            slots: "0-8191".parse().unwrap(),
            database: "beef".to_owned(),
            position: "0000000000000000000000000000beef@42".parse().unwrap(),
            history: History::default(),
            stamp: Hlc(7),
            epoch: 1,
            cuttable: true,
            files: vec![ExportFile {
                name: "CURRENT".to_owned(),
                size: 16,
                hashes: Some(vec![[7; 32]]),
            }],
        }));
        send(&mut here.writer, &Export::Ping).await.unwrap();
        send(&mut here.writer, &begun).await.unwrap();
        send_piece(&mut here.writer, (3, 5), false, b"bytes").await.unwrap();
        here.writer.packet(SEGMENT, &[b"frames"]).await.unwrap();
        assert_eq!(next(&mut there.reader).await.unwrap(), Arrived::Message(begun));
        let bytes = Bytes::from_static(b"bytes");
        let piece = Arrived::Piece { piece: 3, size: 5, is_zstd: false, bytes };
        assert_eq!(next(&mut there.reader).await.unwrap(), piece);
        let segment = Arrived::Segment(Bytes::from_static(b"frames"));
        assert_eq!(next(&mut there.reader).await.unwrap(), segment);

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

    #[test]
    fn a_file_has_as_many_pieces_as_it_takes() {
        let file = |size| ExportFile { name: String::new(), size, hashes: None };
        let piece = PIECE_BYTES as u64;
        for (size, pieces, last) in
            [(0, 0, 0), (1, 1, 1), (piece, 1, PIECE_BYTES), (piece + 3, 2, 3)]
        {
            let file = file(size);
            assert_eq!(file.pieces(), pieces);
            assert_eq!(file.piece_bytes(pieces.saturating_sub(1)), last);
        }
    }
}
