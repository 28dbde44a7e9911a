//! What a command does with each of its keys: Redis's key specifications (`key_specs` of its
//! `src/commands/*.json`), for ACLs and for COMMAND.

use super::{Args, Flags, Place, Spec};

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyFlags(u16);

impl KeyFlags {
    /// Reads the value or its metadata.
    const RO: Self = Self(1);
    /// Reads and writes.
    const RW: Self = Self(2);
    /// Overwrites whatever there was.
    const OW: Self = Self(4);
    /// Removes the key.
    const RM: Self = Self(8);
    /// Returns or copies user data from the value.
    pub(crate) const ACCESS: Self = Self(16);
    /// Changes data.
    pub(crate) const UPDATE: Self = Self(32);
    /// Adds data, changing none.
    pub(crate) const INSERT: Self = Self(64);
    /// Deletes data.
    pub(crate) const DELETE: Self = Self(128);
    /// What is done depends on the arguments.
    const VARIABLE: Self = Self(256);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::RO, "RO"),
        (Self::RW, "RW"),
        (Self::OW, "OW"),
        (Self::RM, "RM"),
        (Self::ACCESS, "access"),
        (Self::UPDATE, "update"),
        (Self::INSERT, "insert"),
        (Self::DELETE, "delete"),
        (Self::VARIABLE, "variable_flags"),
    ];

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has one of these.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Redis's names of them.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.meets(*flag)).map(|(_, name)| name)
    }

    /// Whether it reads user data.
    pub(crate) const fn reads(self) -> bool {
        self.meets(Self::ACCESS)
    }

    /// Whether it changes data.
    pub(crate) const fn writes(self) -> bool {
        self.meets(Self::UPDATE.and(Self::INSERT).and(Self::DELETE))
    }
}

type K = KeyFlags;

const READ: K = K::RO.and(K::ACCESS);
const LOOK: K = K::RO;
const SET: K = K::OW.and(K::UPDATE);
const CHANGE: K = K::RW.and(K::UPDATE);
const EXCHANGE: K = K::RW.and(K::ACCESS).and(K::UPDATE);
const TAKE: K = K::RW.and(K::ACCESS).and(K::DELETE);
const REMOVE: K = K::RW.and(K::DELETE);
const ADD: K = K::RW.and(K::INSERT);

/// One line: the commands, and what they do with the first, the later and the other keys.
type Row = (&'static [&'static str], [K; 3]);

/// Where reading commands do not only read, and writing ones do not only change.
const EXCEPTIONS: &[Row] = &[
    (
        &[
            "exists",
            "hexists",
            "hlen",
            "hstrlen",
            "llen",
            "memory|usage",
            "object|encoding",
            "object|freq",
            "object|idletime",
            "object|refcount",
            "scard",
            "sismember",
            "strlen",
            "touch",
            "type",
            "watch",
            "xlen",
            "zcard",
        ],
        [LOOK; 3],
    ),
    (
        &[
            "blmpop", "blpop", "brpop", "bzmpop", "bzpopmax", "bzpopmin", "getdel", "lmpop",
            "lpop", "rpop", "spop", "zmpop", "zpopmax", "zpopmin",
        ],
        [TAKE; 3],
    ),
    (
        &[
            "hdel",
            "lrem",
            "ltrim",
            "srem",
            "xautoclaim",
            "xdel",
            "xgroup|delconsumer",
            "xgroup|destroy",
            "xtrim",
            "zrem",
            "zremrangebylex",
            "zremrangebyrank",
            "zremrangebyscore",
        ],
        [REMOVE; 3],
    ),
    (
        &[
            "decr",
            "decrby",
            "getex",
            "getset",
            "hincrby",
            "hincrbyfloat",
            "incr",
            "incrby",
            "incrbyfloat",
            "move",
            "setbit",
            "zincrby",
        ],
        [EXCHANGE; 3],
    ),
    (
        &[
            "append",
            "hsetnx",
            "linsert",
            "lpush",
            "lpushx",
            "pfadd",
            "rpush",
            "rpushx",
            "sadd",
            "xgroup|create",
            "xgroup|createconsumer",
        ],
        [ADD; 3],
    ),
    (
        &[
            "bitop",
            "geosearchstore",
            "sdiffstore",
            "sunionstore",
            "zdiffstore",
            "zinterstore",
            "zrangestore",
            "zunionstore",
        ],
        [SET, READ, SET],
    ),
    (&["sinterstore"], [CHANGE, READ, SET]),
    (&["blmove", "brpoplpush", "lmove", "rpoplpush", "smove"], [TAKE, ADD, ADD]),
    (&["mset", "psetex", "restore", "setex"], [SET; 3]),
    (&["del", "unlink"], [K::RM.and(K::DELETE); 3]),
    (&["georadius", "georadiusbymember", "sort"], [READ, READ, SET]),
    (&["msetnx", "setnx"], [K::OW.and(K::INSERT); 3]),
    (&["bitfield"], [CHANGE.and(K::ACCESS).and(K::VARIABLE); 3]),
    (&["set"], [EXCHANGE.and(K::VARIABLE); 3]),
    (&["copy"], [READ, SET, SET]),
    (&["pfcount"], [K::RW.and(K::ACCESS); 3]),
    (&["pfmerge"], [ADD.and(K::ACCESS), READ, READ]),
    (&["rename"], [TAKE, SET, SET]),
    (&["renamenx"], [TAKE, K::OW.and(K::INSERT), SET]),
    (&["xreadgroup"], [READ; 3]),
];

/// What commands do with the keys at each place, whatever their arguments say.
pub(crate) fn of(spec: &Spec, place: Place) -> KeyFlags {
    let row = EXCEPTIONS.iter().find(|(names, _)| names.contains(&spec.name));
    let flags = match row {
        Some((_, flags)) => *flags,
        None if spec.flags.has(Flags::READONLY) => [READ; 3],
        None if spec.flags.has(Flags::WRITE) => [CHANGE; 3],
        None => [EXCHANGE; 3],
    };
    // A count stands before the first of a range, and the range's keys are all alike.
    match place {
        Place::First if !spec.keys.are_counted() => flags[0],
        Place::First | Place::Later => flags[1],
        Place::Also => flags[2],
    }
}

/// The keys of a command and what it does with each, some by their arguments.
pub(crate) fn each(
    spec: &Spec,
    args: &Args<'_>,
) -> impl Iterator<Item = (usize, KeyFlags)> + use<> {
    let by_arguments = match spec.name {
        "set" => Some(if (3..args.len()).any(|at| args.is(at, "get")) { EXCHANGE } else { SET }),
        "bitfield" => Some(if only_gets(args) { READ } else { EXCHANGE }),
        _ => None,
    };
    let at = [Place::First, Place::Later, Place::Also].map(|place| of(spec, place));
    spec.keys
        .places(args)
        .map(move |(index, place)| (index, by_arguments.unwrap_or(at[place as usize])))
}

/// BITFIELD without SET and INCRBY.
fn only_gets(args: &Args<'_>) -> bool {
    let mut at = 2;
    while at < args.len() {
        at += match () {
            () if args.is(at, "get") => 3,
            () if args.is(at, "overflow") => 2,
            () => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn no_exception_is_said_twice() {
        let mut names: Vec<_> = EXCEPTIONS.iter().flat_map(|(names, _)| *names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_is_done_follows_the_place() {
        let of = |name: &[u8], place| of(table::find(name).unwrap(), place);
        assert_eq!(of(b"get", Place::First), READ);
        assert_eq!(of(b"hset", Place::First), CHANGE);
        assert_eq!(of(b"lmove", Place::First), TAKE);
        assert_eq!(of(b"lmove", Place::Later), ADD);
        assert_eq!(of(b"zunionstore", Place::Also), SET);
        assert_eq!(of(b"zunionstore", Place::First), READ);
        assert_eq!(of(b"lmpop", Place::First), TAKE);
    }
}
