//! Keyspace notifications: which of them are wanted, in the letters of Redis's setting
//! `notify-keyspace-events`.

/// A class of events, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(u32);

impl Class {
    /// Published under the key's name.
    pub const KEYSPACE: Self = Self(1);
    /// Published under the event's name.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// Commands of all types: DEL, EXPIRE, RENAME ...
    pub const GENERIC: Self = Self(1 << 2);
    /// Strings.
    pub const STRING: Self = Self(1 << 3);
    /// Lists.
    pub const LIST: Self = Self(1 << 4);
    /// Sets.
    pub const SET: Self = Self(1 << 5);
    /// Hashes.
    pub const HASH: Self = Self(1 << 6);
    /// Sorted sets.
    pub const ZSET: Self = Self(1 << 7);
    /// A key's time has come.
    pub const EXPIRED: Self = Self(1 << 8);
    /// A key made room for others: never here, and accepted as Redis does.
    pub const EVICTED: Self = Self(1 << 9);
    /// Streams.
    pub const STREAM: Self = Self(1 << 10);
    /// A read found no key.
    pub const MISS: Self = Self(1 << 11);
    /// Modules: never here, and accepted as Redis does.
    pub const MODULE: Self = Self(1 << 12);
    /// A key is new.
    pub const NEW: Self = Self(1 << 13);

    /// Letters in the order in which Redis shows them.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::MISS),
    ];
    /// How many of them the letter A stands for.
    const OF_ALL: usize = 10;

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    fn all() -> Self {
        Self(Self::LETTERS[..Self::OF_ALL].iter().fold(0, |all, (_, class)| all | class.0))
    }

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of these are among them.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Reads the setting; `None`: a letter stands for nothing.
    pub fn parse(text: &[u8]) -> Option<Self> {
        text.iter().try_fold(Self::default(), |found, &letter| {
            let named = Self::LETTERS.iter().find(|(known, _)| *known == letter);
            let class =
                if letter == b'A' { Some(Self::all()) } else { named.map(|(_, class)| *class) };
            class.map(|class| found.and(class))
        })
    }

    /// The setting, as Redis shows it.
    pub fn letters(self) -> String {
        let all = self.has(Self::all());
        let shown = Self::LETTERS.iter().enumerate().filter(|(at, (_, class))| {
            // Redis's A hides what it stands for, and n.
            self.has(*class) && !(all && *at <= Self::OF_ALL)
        });
        let letters = shown.map(|(_, (letter, _))| char::from(*letter));
        all.then_some('A').into_iter().chain(letters).collect()
    }

    /// What workers compare with: nothing, if nothing would be published.
    pub(super) const fn wanted(self) -> u32 {
        if self.0 & (Self::KEYSPACE.0 | Self::KEYEVENT.0) == 0 { 0 } else { self.bits() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_as_by_redis() {
        for (said, shown) in [
            ("", ""),
            ("gKE", "gKE"),
            ("$lshzxeKE", "$lshzxeKE"),
            ("KA", "AK"),
            ("EA", "AE"),
            ("mKEn", "nKEm"),
        ] {
            assert_eq!(Class::parse(said.as_bytes()).map(Class::letters).as_deref(), Some(shown));
        }
        assert_eq!(Class::parse(b"Kq"), None);
        assert_eq!(Class::parse(b"A").map(Class::wanted), Some(0), "neither K nor E");
    }
}
