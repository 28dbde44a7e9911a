//! The column families, by name and by the id that RocksDB's log carries.

/// A column family of a node's database.
///
/// The ids are part of the log format: raw batches name column families by id, so every node
/// creates them in this order, at once, and never drops or adds one while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Cf {
    /// One entry a key: type, expiry, version, size; a string's bytes. RocksDB's `default`.
    Meta = 0,
    /// Fields, members, elements, under their key's version.
    Data = 1,
    /// Members of sorted sets in the order of their scores.
    Score = 2,
    /// Node-local state: never applied elsewhere, seeded, exported or flushed by FLUSHALL.
    System = 3,
}

impl Cf {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Data, Self::Score, Self::System];

    /// The name that RocksDB knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "default",
            Self::Data => "data",
            Self::Score => "score",
            Self::System => "system",
        }
    }

    /// The id that the log carries.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The column family of an id read from a log; `None` for one that no node creates.
    pub const fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(Self::Meta),
            1 => Some(Self::Data),
            2 => Some(Self::Score),
            3 => Some(Self::System),
            _ => None,
        }
    }

    /// Whether entries begin with their slot and travel to other clusters.
    pub const fn is_shipped(self) -> bool {
        !matches!(self, Self::System)
    }
}
