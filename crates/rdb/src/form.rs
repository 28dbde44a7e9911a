//! How a value is laid out: the byte before it.

/// A value's form, by its number in the format (Redis: `RDB_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// A text.
    String = 0,
    /// Elements.
    List = 1,
    /// Members.
    Set = 2,
    /// Members, and scores as texts, up to Redis 3.2.
    ZsetText = 3,
    /// Fields and values.
    Hash = 4,
    /// Members, and scores as doubles of eight bytes.
    Zset = 5,
    /// A zipmap, up to Redis 2.4.
    HashZipmap = 9,
    /// A ziplist, up to Redis 3.0.
    ListZiplist = 10,
    /// An intset.
    SetIntset = 11,
    /// A ziplist, up to Redis 6.2.
    ZsetZiplist = 12,
    /// A ziplist, up to Redis 6.2.
    HashZiplist = 13,
    /// Ziplists, as of Redis 3.2.
    ListQuicklist = 14,
    /// A stream as of Redis 5.
    Stream1 = 15,
    /// A listpack, as of Redis 7.0.
    HashListpack = 16,
    /// A listpack, as of Redis 7.0.
    ZsetListpack = 17,
    /// Listpacks and long elements, as of Redis 7.0.
    ListQuicklist2 = 18,
    /// A stream as of Redis 7.0.
    Stream2 = 19,
    /// A listpack, as of Redis 7.2.
    SetListpack = 20,
    /// A stream as of Redis 7.2.
    Stream3 = 21,
    /// A hash with fields that expire, as of Redis 7.4: the earliest time, then for each field its
    /// time, counted from the one before that (0: never).
    HashFields = 24,
    /// The earliest time, then a listpack with a time behind each value, as of Redis 7.4.
    HashListpackTimes = 25,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::ZsetText,
        Self::Hash,
        Self::Zset,
        Self::HashZipmap,
        Self::ListZiplist,
        Self::SetIntset,
        Self::ZsetZiplist,
        Self::HashZiplist,
        Self::ListQuicklist,
        Self::Stream1,
        Self::HashListpack,
        Self::ZsetListpack,
        Self::ListQuicklist2,
        Self::Stream2,
        Self::SetListpack,
        Self::Stream3,
        Self::HashFields,
        Self::HashListpackTimes,
    ];

    /// The form with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|form| *form as u8 == number)
    }

    /// The first version of the format that has it, and the least one that is written here: a Redis
    /// refuses what calls itself newer than what it knows.
    pub const fn version(self) -> u16 {
        match self {
            Self::HashFields | Self::HashListpackTimes => 12,
            Self::SetListpack | Self::Stream3 => 11,
            Self::HashListpack | Self::ZsetListpack | Self::ListQuicklist2 | Self::Stream2 => 10,
            _ => 9,
        }
    }

    /// Whether it is a stream.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Stream1 | Self::Stream2 | Self::Stream3)
    }
}
