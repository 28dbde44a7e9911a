//! The tag that a node puts into each of its batches as log data: in the log only, never in the
//! tree. Its layout is in `docs/formats.md`.

use keyspace::Hlc;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands of clients.
    Data,
    /// Nothing to write: tells followers that the primary lives, and its clock.
    Heartbeat,
    /// A point to compare digests at; `marker` names it.
    Barrier,
    /// The last batch before a switch; `marker` names the freeze.
    End,
    /// The first batch of a timeline.
    Timeline,
    /// A reclaim view is taken here; `marker` is its [`ViewMark`].
    View,
    /// A view may be used from here on: `marker` is the sequence of its [`Kind::View`] batch.
    Reclaim,
    /// A load is taken in here, its files beside the log; `marker` is its id. What the log says from
    /// here on comes after it.
    Load,
    /// The load of the batch before is in the tree; `marker` is its id. This batch follows on the
    /// sequences that taking it in consumed ([`crate::Consumed`]).
    Loaded,
}

/// What a [`Kind::View`] batch says of its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewMark {
    /// Every record of a version below this stamp comes before the view in the log.
    pub bound: Hlc,
    /// Unix milliseconds: what expires by then is expired for whoever has applied this batch.
    pub horizon_ms: u64,
}

impl ViewMark {
    /// As the marker of a tag.
    pub const fn marker(self) -> u128 {
        (self.bound.0 as u128) << 64 | self.horizon_ms as u128
    }

    /// Of a marker.
    pub const fn of(marker: u128) -> Self {
        Self { bound: Hlc((marker >> 64) as u64), horizon_ms: marker as u64 }
    }
}

/// A batch's tag. RocksDB may merge several writers into one batch, which then has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What the batch is for.
    pub kind: Kind,
    /// The cluster where the write was first made: a hash of its name ([`Tag::origin_of`]).
    pub origin: u32,
    /// The service's epoch that the writer wrote under; 0 without a service.
    pub epoch: u64,
    /// Rises along the log.
    pub stamp: Hlc,
    /// Which barrier, freeze or load, or what a view is; 0 for the others.
    pub marker: u128,
}

/// A tag that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Log data that is not a tag of ours.
    #[error("log data of {0} bytes that is no Godwit tag: another program writes to this database")]
    Foreign(usize),
    /// A tag of a later version.
    #[error("a tag of format {0}; this version knows format 1: upgrade it")]
    Version(u8),
    /// A kind that this version does not know.
    #[error("a tag of unknown kind {0}: upgrade this program")]
    Kind(u8),
}

const MAGIC: [u8; 2] = *b"GW";
const FORMAT: u8 = 1;

impl Tag {
    /// Encoded length in bytes.
    pub const LEN: usize = 40;

    /// The origin number of a cluster's name: the low half of xxh3_64.
    pub fn origin_of(cluster: &str) -> u32 {
        xxhash_rust::xxh3::xxh3_64(cluster.as_bytes()) as u32
    }

    /// The bytes for `put_log_data`.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0..2].copy_from_slice(&MAGIC);
        out[2] = FORMAT;
        out[3] = self.kind as u8;
        out[4..8].copy_from_slice(&self.origin.to_le_bytes());
        out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[24..40].copy_from_slice(&self.marker.to_le_bytes());
        out
    }

    /// Reads what [`Tag::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, TagError> {
        let foreign = TagError::Foreign(bytes.len());
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Err(foreign) };
        if head[0..2] != MAGIC {
            return Err(foreign);
        }
        if head[2] != FORMAT {
            return Err(TagError::Version(head[2]));
        }
        let kind = match head[3] {
            0 => Kind::Data,
            1 => Kind::Heartbeat,
            2 => Kind::Barrier,
            3 => Kind::End,
            4 => Kind::Timeline,
            5 => Kind::View,
            6 => Kind::Reclaim,
            7 => Kind::Load,
            8 => Kind::Loaded,
            other => return Err(TagError::Kind(other)),
        };
        let Ok(rest) = <&[u8; Self::LEN - 4]>::try_from(rest) else { return Err(foreign) };
        let (origin, rest) = take::<4, _>(rest);
        let (epoch, rest) = take::<8, _>(rest);
        let (stamp, rest) = take::<8, _>(rest);
        let (marker, _) = take::<16, _>(rest);
        Ok(Self {
            kind,
            origin: u32::from_le_bytes(origin),
            epoch: u64::from_le_bytes(epoch),
            stamp: Hlc(u64::from_le_bytes(stamp)),
            marker: u128::from_le_bytes(marker),
        })
    }
}

fn take<const N: usize, B: AsRef<[u8]> + ?Sized>(bytes: &B) -> ([u8; N], &[u8]) {
    let (head, rest) = bytes.as_ref().split_first_chunk::<N>().expect("the length was checked");
    (*head, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_back_and_a_foreign_one_is_refused() {
        let tag = Tag {
            kind: Kind::End,
            origin: Tag::origin_of("a"),
            epoch: 7,
            stamp: Hlc::new(1_700_000_000_000, 3),
            marker: 0xfeed,
        };
        let bytes = tag.encode();
        assert_eq!(Tag::decode(&bytes), Ok(tag));
        assert_eq!(Tag::decode(&bytes[..39]), Err(TagError::Foreign(39)));
        assert_eq!(Tag::decode(b"kvrocks"), Err(TagError::Foreign(7)));
        let mut later = bytes;
        later[2] = 2;
        assert_eq!(Tag::decode(&later), Err(TagError::Version(2)));
        let mark =
            ViewMark { bound: Hlc::new(1_700_000_000_000, 9), horizon_ms: 1_699_999_940_000 };
        assert_eq!(ViewMark::of(mark.marker()), mark);
        later[2..4].copy_from_slice(&[1, 99]);
        assert_eq!(Tag::decode(&later), Err(TagError::Kind(99)));
    }
}
