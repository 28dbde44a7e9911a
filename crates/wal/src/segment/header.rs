//! The beginning of a segment file.

use crate::{Chain, Position, Sequence, TimelineId};

/// Whose frames a segment file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// A hash of the service's name ([`SegmentHeader::service_of`]).
    pub service: u64,
    /// The source shard, as it prints: `a/0`.
    pub source: String,
    /// The position before the first frame.
    pub start: Position,
    /// The stream's chain there.
    pub chain: Chain,
}

/// A segment file's header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The file ends inside its header.
    #[error(
        "a segment file of {0} bytes ends inside its header: it was being made when its machine stopped, and holds nothing"
    )]
    Short(usize),
    /// Other bytes.
    #[error("no segment file: it begins with other bytes")]
    Magic,
    /// A later format.
    #[error("a segment file of format {0}; this version knows format 1: upgrade it")]
    Version(u16),
    /// The header is damaged.
    #[error("the header of a segment file is damaged: checksum {found:#x} where it says {said:#x}")]
    Checksum {
        /// What it says.
        said: u32,
        /// What its bytes have.
        found: u32,
    },
    /// A source's name that is no text.
    #[error("the header of a segment file names a source that is no text")]
    Source,
    /// A source's name that does not fit.
    #[error("a source's name of {0} bytes, more than 255")]
    SourceTooLong(usize),
}

const MAGIC: [u8; 4] = *b"GWSG";
const FORMAT: u16 = 1;
/// Magic, format, length of the source's name, service, timeline, sequence, chain.
const FIXED: usize = 4 + 2 + 2 + 8 + 16 + 8 + 8;
const CRC: usize = 4;

impl SegmentHeader {
    /// The longest name of a source.
    pub const SOURCE_MAX: usize = 255;

    /// The service's number: xxh3_64 of its name.
    pub fn service_of(name: &str) -> u64 {
        xxhash_rust::xxh3::xxh3_64(name.as_bytes())
    }

    /// How many bytes it takes.
    pub fn encoded_len(&self) -> usize {
        FIXED + self.source.len() + CRC
    }

    /// The bytes.
    pub fn encode(&self) -> Result<Vec<u8>, SegmentError> {
        if self.source.len() > Self::SOURCE_MAX {
            return Err(SegmentError::SourceTooLong(self.source.len()));
        }
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&(self.source.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.service.to_le_bytes());
        out.extend_from_slice(&self.start.timeline.0.to_le_bytes());
        out.extend_from_slice(&self.start.sequence.0.to_le_bytes());
        out.extend_from_slice(&self.chain.0.to_le_bytes());
        out.extend_from_slice(self.source.as_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    /// Reads the header at the start of `bytes`, and says how long it is.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), SegmentError> {
        let short = SegmentError::Short(bytes.len());
        let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Err(short) };
        if fixed[..4] != MAGIC {
            return Err(SegmentError::Magic);
        }
        let version = u16::from_le_bytes([fixed[4], fixed[5]]);
        if version != FORMAT {
            return Err(SegmentError::Version(version));
        }
        let source_len = usize::from(u16::from_le_bytes([fixed[6], fixed[7]]));
        if source_len > Self::SOURCE_MAX {
            return Err(SegmentError::SourceTooLong(source_len));
        }
        let Some((source, rest)) = rest.split_at_checked(source_len) else { return Err(short) };
        let Some((said, _)) = rest.split_first_chunk::<CRC>() else { return Err(short) };
        let said = u32::from_le_bytes(*said);
        let found = crc32c::crc32c(&bytes[..FIXED + source_len]);
        if said != found {
            return Err(SegmentError::Checksum { said, found });
        }
        let number = |at: usize| {
            u64::from_le_bytes(fixed[at..at + 8].try_into().expect("inside the fixed part"))
        };
        let timeline = u128::from_le_bytes(fixed[16..32].try_into().expect("16 bytes"));
        let source = std::str::from_utf8(source).map_err(|_| SegmentError::Source)?.to_owned();
        let start = Position { timeline: TimelineId(timeline), sequence: Sequence(number(32)) };
        let header = Self { service: number(8), source, start, chain: Chain(number(40)) };
        Ok((header, FIXED + source_len + CRC))
    }
}
