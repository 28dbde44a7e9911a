//! How a frame's body is packed.

use std::cell::RefCell;

use zstd::bulk::Compressor;

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
    /// Zstandard, of any level.
    Zstd = 2,
}

/// How to pack: a codec and how hard it tries. Whoever unpacks need not know how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard at this level: 1 to 19, more for smaller frames and more of the processor.
    Zstd(i32),
}

impl From<Codec> for Packing {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd(1),
        }
    }
}

impl std::fmt::Display for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(level) => write!(f, "zstd-{level}"),
        }
    }
}

thread_local! {
    /// What Zstandard works in: to make it anew costs more than to pack a small frame.
    static ZSTD: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
}

fn pack_zstd(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    ZSTD.with_borrow_mut(|held| {
        if held.as_ref().is_none_or(|(of, _)| *of != level) {
            *held = Some((level, Compressor::new(level).ok()?));
        }
        let (_, compressor) = held.as_mut()?;
        // An error here can only be the lack of memory or of room: the plain bytes will do.
        compressor.compress(raw).ok()
    })
}

impl Packing {
    /// Appends the packed form of `raw` to `out`. Bytes that do not get smaller are appended as
    /// they are; the answer is the codec that was used.
    pub(super) fn pack(self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        let (codec, packed) = match self {
            Self::None => (Codec::None, None),
            Self::Lz4 => (Codec::Lz4, Some(lz4_flex::block::compress(raw))),
            Self::Zstd(level) => (Codec::Zstd, pack_zstd(raw, level)),
        };
        match packed {
            Some(packed) if packed.len() < raw.len() => {
                out.extend_from_slice(&packed);
                codec
            }
            _ => {
                out.extend_from_slice(raw);
                Codec::None
            }
        }
    }
}

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
