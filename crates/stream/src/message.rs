//! What is said on a stream, in the order in which it is said.
//!
//! ```text
//! source -> target   Hello
//! target -> source   Welcome | Refusal | NotYet
//! source -> target   Start, then frames
//!                    SeedBegin, (SeedHave <-) chunks and FileDone, (Received <-)*, SeedEnd, (SeedDone <-) Start, frames
//!                    SliceBegin, (SliceHave <-) (SliceFile, chunks and FileDone, (Received, SliceHave <-)*)*, SliceEnd,
//!                        (SeedDone <-) Start, frames
//!                    RewindBegin, (MeasureSlots <-, SlotsMeasured ->)?, (Keys <-, Exported ->)*,
//!                        (ExportSlots <-, SlotsExported and Exported ->)*, (Records <-, Exported ->)*, (RewindDone <- | CannotRewind <-) Start, frames
//! source -> target   among frames: LoadBegin, (LoadHave <-) chunks and FileDone, LoadEnd
//!                    among frames, every second: Time, (TimeIs <-)
//!                    on a connection for promises: (Promise, (Promised | NoPromise <-))*, every second Ping
//! target -> source   Ack, at each change and every second; Full, when its stage becomes so, and when no more
//! ```

use bytes::{Buf, Bytes};
use keyspace::SlotSet;
use serde::{Deserialize, Serialize};
use wal::{Chain, History, Position, Sequence, TimelineId};

use crate::codec;
use crate::wire::{self, Packet, WireError};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A primary's sidecar ships its log.
    Stream,
    /// A snapshotter fetches checkpoints.
    Export,
    /// A primary's sidecar asks for promises while the registry is silent. A sidecar of before version 5
    /// hangs up.
    Promise,
}

/// The versions of the protocol that a program speaks, from the lowest to the highest; one byte on the
/// wire, the highest in its low four bits. (Version 1 had only that one, and 0 in the others.)
///
/// - 1: the first.
/// - 2: who is seeded says how much it has ([`Message::Received`]), and the source waits for that; who
///   rewinds may ask for whole slots ([`Message::MeasureSlots`], [`Message::ExportSlots`]).
/// - 3: clocks are compared ([`Message::Time`]); a stage that is full is no reason to hang up
///   ([`Message::Full`]).
/// - 4: seeds of another shape ([`Message::SliceBegin`] and what belongs to it).
/// - 5: who rewinds may ask for records of no slot ([`Message::Records`]); who is not ready yet says so
///   ([`Message::NotYet`]); promises ([`Purpose::Promise`], [`Message::Promise`] and its answers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub struct Versions {
    /// The lowest.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
}

/// The first version that has [`Message::Received`].
pub const HAS_RECEIVED: u8 = 2;
/// The first version that has [`Message::Time`].
pub const HAS_TIME: u8 = 3;
/// The first version that has [`Message::Full`].
pub const HAS_FULL: u8 = 3;
/// The first version that has [`Message::MeasureSlots`] and [`Message::ExportSlots`].
pub const HAS_SLOTS: u8 = 2;
/// The first version that has [`Message::SliceBegin`].
pub const HAS_SLICES: u8 = 4;
/// The first version that has [`Message::Records`].
pub const HAS_RECORDS: u8 = 5;
/// The first version that has [`Message::NotYet`].
pub const HAS_NOT_YET: u8 = 5;
/// The first version that has [`Purpose::Promise`].
pub const HAS_PROMISES: u8 = 5;

impl From<u8> for Versions {
    fn from(byte: u8) -> Self {
        Self { lowest: (byte >> 4).max(1), highest: byte & 15 }
    }
}

impl From<Versions> for u8 {
    fn from(versions: Versions) -> Self {
        (versions.lowest << 4) | (versions.highest & 15)
    }
}

impl Versions {
    /// What this program speaks.
    pub const OURS: Self = Self { lowest: 1, highest: 5 };

    /// The version that both speak: the highest.
    ///
    /// # Errors
    /// There is none: in a sentence for the peer.
    pub fn agree(self, peer: Self) -> Result<u8, String> {
        let version = self.highest.min(peer.highest);
        if version >= self.lowest.max(peer.lowest) {
            return Ok(version);
        }
        let older = if peer.highest < self.lowest { "the caller" } else { "the one called" };
        Err(format!(
            "the caller speaks versions {} to {} of the stream protocol, and the one called {} to {}: upgrade {older}",
            peer.lowest, peer.highest, self.lowest, self.highest
        ))
    }

    /// Whether this version is among them.
    pub fn has(self, version: u8) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }
}

/// The first message on a connection. Its layout and that of the answer never change: what a later
/// version has to say it says after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The versions of the protocol that the caller speaks.
    pub versions: Versions,
    /// The service.
    pub service: String,
    /// Who calls: a shard (`a/0`), or a snapshotter's own name.
    pub from: String,
    /// Who is called: a shard. A wrong address is found out here.
    pub to: String,
    /// The caller's slots.
    pub slots: SlotSet,
    /// The timelines of its log.
    pub history: History,
    /// The epoch that it is primary under.
    pub epoch: u64,
    /// Its column families by id: raw batches name them so.
    pub families: Vec<(u32, String)>,
    /// The version of the encoding of keys and values.
    pub encoding: u32,
}

/// The version of the encoding of keys and values that a handshake compares.
pub const ENCODING: u32 = 1;

/// The column families that a handshake compares.
pub fn families() -> Vec<(u32, String)> {
    keyspace::Cf::ALL.iter().map(|cf| (cf.id(), cf.name().to_owned())).collect()
}

/// Whose log a standing is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Of {
    /// On the disk of the sidecar, of this source's log.
    Staged(String),
    /// Applied by the node, of this source's log.
    Applied(String),
    /// Its own log: it was primary there.
    Own,
}

/// Where a target stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose log it is.
    pub of: Of,
    /// The position.
    pub position: Position,
    /// Of its own log: the end of the node-local batches that follow it. Of what was received: up to
    /// where records were fetched for a rewind that is not over.
    pub local_until: Sequence,
    /// The log's chain there; [`Chain::START`] where it is not known.
    pub log_chain: Chain,
    /// The stream's chain there.
    pub stream_chain: Chain,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both speak.
    pub version: u8,
    /// Who answers.
    pub from: String,
    /// Its slots.
    pub slots: SlotSet,
    /// Where it stands, best first. Empty: it has nothing and must be seeded.
    pub standings: Vec<Standing>,
}

/// A point on the source's log with what is compared there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The position.
    pub position: Position,
    /// The log's chain there; [`Chain::START`] where it is not known.
    pub log_chain: Chain,
    /// The stream's chain there.
    pub stream_chain: Chain,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Its name: no directories in it.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A checkpoint that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedBegin {
    /// Random; the same after a reconnection if it is the same checkpoint.
    pub id: u128,
    /// Where the checkpoint was taken, and where the stream goes on.
    pub point: Point,
    /// The highest stamp known to be at or below that position.
    pub stamp: u64,
    /// Its files.
    pub files: Vec<SeedFile>,
}

/// What the source has in the slots that both have is about to be sent, as table files that are made
/// while they are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceBegin {
    /// Random; the same after a reconnection if it is the same checkpoint.
    pub id: u128,
    /// Where the checkpoint was taken, and where the stream goes on.
    pub point: Point,
    /// The highest stamp known to be at or below that position.
    pub stamp: u64,
    /// The slots.
    pub slots: SlotSet,
    /// Unix milliseconds: what had expired by then may be lacking.
    pub horizon_ms: u64,
    /// What of loads was taken in, in these slots.
    pub loaded: Vec<LoadedSlots>,
}

/// A load that the source had taken in before its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedSlots {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// The stamp of its records.
    pub stamp: u64,
    /// The slots that were taken in.
    pub slots: SlotSet,
    /// The stamp of the log then.
    pub at: u64,
}

/// A table file of a slice. Its pieces follow, then [`Message::FileDone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceFile {
    /// Its number: they come in order.
    pub file: u32,
    /// The number of its column family.
    pub family: u32,
    /// Its length in bytes.
    pub size: u64,
}

/// A load that the source has taken in, for the target to take in at the same place of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBegin {
    /// Its id.
    pub id: u128,
    /// `load.json`, as `store::load` reads it.
    pub manifest: Vec<u8>,
    /// The slots that the source took in and the target has: what files are sent.
    pub slots: SlotSet,
}

/// How far a target is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last position on disk, synced.
    pub staged: Option<Position>,
    /// The last position that the node has applied.
    pub applied: Option<Position>,
    /// Milliseconds from the stamp of the newest batch applied to its application.
    pub lag_ms: Option<u64>,
}

/// Every control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first word of who dials.
    Hello(Box<Hello>),
    /// The answer.
    Welcome(Welcome),
    /// The answer of one who will not, with the reason and what to do.
    Refusal {
        /// In a sentence.
        sentence: String,
    },
    /// Frames from this point on.
    Start(Point),
    /// How far the target is.
    Ack(Ack),
    /// A checkpoint is coming.
    SeedBegin(SeedBegin),
    /// How many bytes of each of its files the target has already.
    SeedHave(Vec<u64>),
    /// A file is complete; its BLAKE3.
    FileDone {
        /// Its index.
        file: u32,
        /// Its hash.
        hash: [u8; 32],
    },
    /// All files were sent.
    SeedEnd,
    /// The node has adopted the checkpoint.
    SeedDone,
    /// The target must take back what it has past `fork`.
    RewindBegin {
        /// The last common position, on the target's timeline.
        fork: Position,
        /// Where to follow from then.
        resume: Point,
    },
    /// The target cannot rewind and wants a seed; why.
    CannotRewind {
        /// In a sentence.
        reason: String,
    },
    /// Asks for the present records of these keys.
    Keys(Vec<Vec<u8>>),
    /// Every stranded key has been replaced.
    RewindDone,
    /// Alive.
    Ping,
    /// Before the frame whose batch takes in a load: its files are coming.
    LoadBegin(LoadBegin),
    /// How many bytes of each of the load's files for the target it has already.
    LoadHave {
        /// The load.
        id: u128,
        /// In the order of the manifest.
        have: Vec<u64>,
    },
    /// All files of the load were sent.
    LoadEnd {
        /// The load.
        id: u128,
    },
    /// In a rewind: asks how much the source has in these slots.
    MeasureSlots(SlotSet),
    /// The answer: estimates in bytes.
    SlotsMeasured {
        /// Of these slots.
        bytes: u64,
        /// Of everything: what a seed would send.
        all_bytes: u64,
    },
    /// In a rewind: asks for the present records of the next keys of these slots.
    ExportSlots {
        /// The slots.
        slots: SlotSet,
        /// The key to go on after, as the answer before named it; empty: from the first on.
        after: Vec<u8>,
    },
    /// Comes before the exported records that answer [`Message::ExportSlots`].
    SlotsExported {
        /// What to go on after; none at the end.
        next: Option<Vec<u8>>,
    },
    /// How many bytes of the seed's files have been written since `SeedHave`. From version 2 on.
    Received(u64),
    /// What the source's clock shows, and what does yours? From version 3 on, in the place of `Ping`.
    Time {
        /// Microseconds since 1970.
        us: u64,
    },
    /// The answer.
    TimeIs {
        /// What was asked with.
        asked_us: u64,
        /// What the target's clock showed, in microseconds since 1970.
        at_us: u64,
    },
    /// Whether the target's stage is full: the source sends no frames while it is. From version 3 on.
    Full {
        /// It is, or no more.
        full: bool,
    },
    /// A seed of another shape is coming. From version 4 on, with the three that follow.
    SliceBegin(SliceBegin),
    /// What the target has of it: said once at its beginning, and after each file.
    SliceHave {
        /// Files that are whole.
        files: u32,
        /// Bytes of the next one.
        bytes: u64,
    },
    /// A file is coming.
    SliceFile(SliceFile),
    /// All files were sent.
    SliceEnd {
        /// How many there are.
        files: u32,
    },
    /// In a rewind: asks for the present records of no slot that have these raw keys. From version 5 on.
    Records(Vec<Vec<u8>>),
    /// In the place of a refusal: nothing is wrong, but who is called waits for something itself, as for
    /// its service's record. Said only to who speaks version 5.
    NotYet {
        /// For what, in a sentence.
        sentence: String,
    },
    /// Asks for the promise that the target's node refuses to be promoted for so long. From version 5 on,
    /// with the two that follow, on a connection for [`Purpose::Promise`].
    Promise {
        /// Names the question: an answer to an earlier one says nothing.
        id: u64,
        /// The epoch that the primary acts under.
        epoch: u64,
        /// For how long, in milliseconds from when the node has taken note of it.
        lease_ms: u64,
    },
    /// It is promised, and on the disk of the target's node.
    Promised {
        /// What was asked.
        id: u64,
    },
    /// It is not.
    NoPromise {
        /// What was asked.
        id: u64,
        /// In a sentence.
        reason: String,
    },
}

/// A packet of a stream, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A control message.
    Message(Message),
    /// A frame, not parsed.
    Frame(Bytes),
    /// A piece of a file.
    Chunk {
        /// The file's index.
        file: u32,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// All records of the keys that were asked for.
    Exported {
        /// When they were read.
        position: Position,
        /// A RocksDB write batch of puts.
        batch: Bytes,
    },
}

impl Incoming {
    /// Reads a packet.
    pub fn of(mut packet: Packet) -> Result<Self, WireError> {
        match packet.kind {
            wire::MESSAGE => codec::decode(&packet.body).map(Self::Message),
            wire::FRAME => Ok(Self::Frame(packet.body)),
            wire::CHUNK if packet.body.len() >= 12 => {
                let file = packet.body.get_u32_le();
                let offset = packet.body.get_u64_le();
                Ok(Self::Chunk { file, offset, bytes: packet.body })
            }
            wire::EXPORTED if packet.body.len() >= 24 => {
                let timeline = TimelineId(packet.body.get_u128_le());
                let sequence = Sequence(packet.body.get_u64_le());
                let position = Position { timeline, sequence };
                Ok(Self::Exported { position, batch: packet.body })
            }
            kind => Err(WireError::Unexpected {
                got: format!("a packet of kind {kind}"),
                want: "a packet of a stream",
            }),
        }
    }

    /// What it is, for an error.
    pub fn name(&self) -> String {
        match self {
            Self::Message(message) => {
                let text = format!("{message:?}");
                let end = text.find(['(', '{', ' ']).unwrap_or(text.len());
                text[..end].to_owned()
            }
            Self::Frame(_) => "a frame".to_owned(),
            Self::Chunk { .. } => "a piece of a file".to_owned(),
            Self::Exported { .. } => "exported records".to_owned(),
        }
    }
}
