//! Why a frame is refused, or could not be made.

use keyspace::Cf;

use crate::batch::BatchError;
use crate::tag::TagError;
use crate::{Chain, Position, Sequence, TimelineId};

/// A frame that cannot be used. Nothing of it has been; the sender still has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Other bytes.
    #[error("no frame begins here: the bytes are damaged or something else")]
    Magic,
    /// A later format.
    #[error("a frame of format {0}; this version knows format 1: upgrade it")]
    Version(u8),
    /// A compression of a later version.
    #[error("a frame packed with unknown codec {0}: upgrade this program")]
    Codec(u8),
    /// Bytes that must be zero are not.
    #[error("a frame uses fields that this version does not know: upgrade it")]
    Reserved,
    /// The header is damaged.
    #[error("the header of a frame is damaged: checksum {found:#x} where it says {said:#x}")]
    HeaderChecksum {
        /// What it says.
        said: u32,
        /// What its bytes have.
        found: u32,
    },
    /// The body is damaged.
    #[error("the body of a frame is damaged: checksum {found:#x} where it says {said:#x}")]
    BodyChecksum {
        /// What the header says.
        said: u32,
        /// What the bytes have.
        found: u32,
    },
    /// Longer than [`super::MAX_FRAME`].
    #[error("a frame of {len} bytes, more than any may have: it is refused before it is read")]
    TooLarge {
        /// The greater of its two lengths.
        len: u64,
    },
    /// A frame without a batch: no sender makes one.
    #[error("a frame without a batch: its sender is broken")]
    Empty,
    /// An end before its start.
    #[error("a frame that ends at {end}, before its start at {start}")]
    Backwards {
        /// The position before its first batch.
        start: Position,
        /// The position after its last.
        end: Position,
    },
    /// Compressed bytes that do not unpack.
    #[error("the body of a frame does not unpack: {0}")]
    Unpack(String),
    /// Unpacked bytes of another length than the header says.
    #[error("the body of a frame unpacks to {found} bytes where it says {said}")]
    RawLength {
        /// What the header says.
        said: usize,
        /// What there is.
        found: usize,
    },
    /// A body that ends inside a batch, or goes on after the last.
    #[error("the body of a frame is cut off, or goes on, at byte {0}")]
    Cut(usize),
    /// A batch inside is damaged.
    #[error("a frame holds a bad batch: {0}")]
    Batch(#[from] BatchError),
    /// A batch that does not start where the one before it ended.
    #[error("a frame has a gap: a batch starts at sequence {found}, expected {expected}")]
    Gap {
        /// Where it should start.
        expected: Sequence,
        /// Where it does.
        found: Sequence,
    },
    /// The last batch ends elsewhere than the frame.
    #[error("a frame's batches end at sequence {found}, its header says {said}")]
    End {
        /// What the header says.
        said: Sequence,
        /// Where they end.
        found: Sequence,
    },
    /// Another number of batches than the header says.
    #[error("a frame holds {found} batches where it says {said}")]
    Batches {
        /// What the header says.
        said: u32,
        /// What there is.
        found: u32,
    },
    /// The batches are not those that the sender chained.
    #[error("a frame's batches do not make its chain: {found:?} where it says {said:?}")]
    Chain {
        /// What the header says.
        said: Chain,
        /// What the batches make.
        found: Chain,
    },
    /// Node-local records, which never travel.
    #[error("a frame changes the node-local column family `{}`: its sender is broken", Cf::System.name())]
    Local,
}

/// A batch that a frame cannot take. The frame is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// A batch that does not start where the last one ended.
    #[error("the log has a gap: a batch starts at sequence {found}, expected {expected}")]
    Gap {
        /// Where it should start.
        expected: Sequence,
        /// Where it does.
        found: Sequence,
    },
    /// A timeline can only begin with a frame.
    #[error("timeline {0} begins inside a frame: finish the frame first")]
    Timeline(TimelineId),
    /// The frame is full; finish it and push again.
    #[error("a frame would have {len} bytes, more than any may have")]
    Full {
        /// What it would have.
        len: usize,
    },
    /// A batch with a record that cannot be projected.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch with log data that is no tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}
