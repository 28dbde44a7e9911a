//! Categories of commands: by their group, their flags, and one table of exceptions.

use crate::command::{Flags, Spec, table};

/// A set of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Categories(u32);

/// Their names, in Redis's order; the position is the bit.
const NAMES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// What commands belong to beside what their flags say, where it is not what their group says.
const EXCEPTIONS: &[(&[&str], &[&str])] = &[
    (
        &[
            "command",
            "command|count",
            "command|docs",
            "command|getkeys",
            "command|getkeysandflags",
            "command|help",
            "command|info",
            "command|list",
            "readonly",
            "readwrite",
            "wait",
            "waitaof",
            "godwit.crossslot",
            "godwit.hold",
            "godwit.probe",
            "godwit.resume",
        ],
        &["connection"],
    ),
    (&["dbsize"], &["keyspace"]),
    (&["flushall", "flushdb", "keys", "migrate", "restore"], &["keyspace", "dangerous"]),
    (&["info"], &["dangerous"]),
    (&["lastsave", "role"], &["admin", "dangerous"]),
    (&["sort", "sort_ro"], &["set", "sortedset", "list", "dangerous"]),
    // What they contain belongs to their group.
    (&["client", "function", "object", "pubsub", "script", "xgroup", "xinfo"], &[]),
    (&["pubsub|help"], &[]),
];

impl Categories {
    const NONE: Self = Self(0);

    /// All names.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// The category of this name, in either case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let found = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|bit| Self(1 << bit))
    }

    fn with(self, name: &str) -> Self {
        Self(self.0 | Self::named(name.as_bytes()).unwrap_or(Self::NONE).0)
    }

    /// Whether it has one of these.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Its names.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'static str> + Clone {
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, n)| n)
    }

    /// What a command belongs to.
    pub(crate) fn of(spec: &Spec) -> Self {
        let mut all = Self::NONE;
        let exception = EXCEPTIONS.iter().find(|(names, _)| names.contains(&spec.name));
        all = match exception {
            Some((_, categories)) => categories.iter().fold(all, |all, name| all.with(name)),
            None => all.with(match spec.group {
                "generic" => "keyspace",
                "sorted-set" => "sortedset",
                "transactions" => "transaction",
                // Of a group that is no category, there is none.
                group => group,
            }),
        };
        let is_script = spec.group == "scripting";
        for (flag, categories) in [
            (Flags::WRITE, &["write"][..]),
            (Flags::READONLY, if is_script { &[] } else { &["read"] }),
            (Flags::ADMIN, &["admin", "dangerous"]),
            (Flags::PUBSUB, &["pubsub"]),
            (Flags::BLOCKING, &["blocking"]),
        ] {
            if spec.flags.has(flag) {
                all = categories.iter().fold(all, |all, name| all.with(name));
            }
        }
        all.with(if spec.flags.has(Flags::FAST) { "fast" } else { "slow" })
    }

    /// The commands of a category, with those that others contain.
    pub(crate) fn commands(self) -> impl Iterator<Item = &'static Spec> {
        table::everything().filter(move |spec| Self::of(spec).meets(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_redis() {
        let of = |name: &[u8]| {
            let spec = table::find_full(name).unwrap();
            Categories::of(spec).iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(b"get"), "read string fast");
        assert_eq!(of(b"keys"), "keyspace read slow dangerous");
        assert_eq!(of(b"flushall"), "keyspace write slow dangerous");
        assert_eq!(of(b"client"), "slow");
        assert_eq!(of(b"client|kill"), "admin slow dangerous connection");
        assert_eq!(of(b"config|get"), "admin slow dangerous");
        assert_eq!(of(b"subscribe"), "pubsub slow");
        assert_eq!(of(b"multi"), "fast transaction");
        assert_eq!(of(b"ping"), "fast connection");
        assert_eq!(of(b"object|encoding"), "keyspace read slow");
    }
}
