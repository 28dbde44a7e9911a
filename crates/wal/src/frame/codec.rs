//! How a frame's body is packed.

use super::{FrameError, KEEP};

/// A compression of a frame's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// None: where the processor is busier than the link.
    #[default]
    None = 0,
    /// LZ4, block format.
    Lz4 = 1,
    /// Zstandard, level 1.
    Zstd = 2,
}

/// The level beyond which a sidecar costs its node more processor than the link saves.
const ZSTD_LEVEL: i32 = 1;

impl Codec {
    /// The codec of a header's byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Appends the packed form of `raw` to `out`. Bytes that do not get smaller are appended as
    /// they are; the answer is the codec that was used.
    pub(super) fn pack(self, raw: &[u8], out: &mut Vec<u8>) -> Self {
        let packed = match self {
            Self::None => None,
            Self::Lz4 => Some(lz4_flex::block::compress(raw)),
            // An error here can only be the lack of memory or of room: the plain bytes will do.
            Self::Zstd => zstd::bulk::compress(raw, ZSTD_LEVEL).ok(),
        };
        match packed {
            Some(packed) if packed.len() < raw.len() => {
                out.extend_from_slice(&packed);
                self
            }
            _ => {
                out.extend_from_slice(raw);
                Self::None
            }
        }
    }

    /// The `raw_len` bytes that `body` was packed from: `body` itself, or in `scratch`.
    pub(super) fn unpack<'s>(
        self,
        body: &'s [u8],
        raw_len: usize,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], FrameError> {
        let (raw, found): (&[u8], usize) = match self {
            Self::None => (body, body.len()),
            Self::Lz4 => {
                let room = room(scratch, raw_len);
                let found = lz4_flex::block::decompress_into(body, room)
                    .map_err(|error| FrameError::Unpack(error.to_string()))?;
                (room, found)
            }
            Self::Zstd => {
                let room = room(scratch, raw_len);
                let found = zstd::bulk::decompress_to_buffer(body, room)
                    .map_err(|error| FrameError::Unpack(error.to_string()))?;
                (room, found)
            }
        };
        if found != raw_len {
            return Err(FrameError::RawLength { said: raw_len, found });
        }
        Ok(raw)
    }
}

/// The first `len` bytes of `scratch`, which grows where needed and gives a large frame's room back.
fn room(scratch: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if scratch.capacity() > KEEP && len <= KEEP {
        scratch.truncate(KEEP);
        scratch.shrink_to(KEEP);
    }
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    &mut scratch[..len]
}
