//! What the table says of a command.

use std::iter::StepBy;
use std::ops::Range;

use keyspace::Slot;

use super::{Args, AsideHandler, DataHandler};
use crate::server::SessionHandler;

/// Properties of a command, as COMMAND names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Nothing to be said.
    pub const NONE: Self = Self(0);
    /// Changes keys.
    pub const WRITE: Self = Self(1);
    /// Reads keys.
    pub const READONLY: Self = Self(2);
    /// Takes constant or logarithmic time.
    pub const FAST: Self = Self(4);
    /// May need more memory or disk.
    pub const DENYOOM: Self = Self(8);
    /// For operators.
    pub const ADMIN: Self = Self(16);
    /// Answered while the data is loading.
    pub const LOADING: Self = Self(32);
    /// Answered by a standby that lost its primary.
    pub const STALE: Self = Self(64);
    /// Where its keys are has to be found out argument by argument.
    pub const MOVABLE_KEYS: Self = Self(128);
    /// Publishes or subscribes.
    pub const PUBSUB: Self = Self(256);
    /// Not for scripts.
    pub const NO_SCRIPT: Self = Self(512);
    /// Not inside of a transaction.
    pub const NO_MULTI: Self = Self(1024);
    /// Answered while a script holds the server.
    pub const ALLOW_BUSY: Self = Self(2048);
    /// Changes what its connection is subscribed to; no name of Redis's.
    pub const SUBSCRIBES: Self = Self(4096);
    /// May wait for another client.
    pub const BLOCKING: Self = Self(8192);
    /// Options that name a pattern read keys that are not among its arguments; no name of Redis's.
    pub const PATTERNS: Self = Self(16384);
    /// Runs before the client has said who it is.
    pub const NO_AUTH: Self = Self(32768);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::FAST, "fast"),
        (Self::MOVABLE_KEYS, "movablekeys"),
        (Self::PUBSUB, "pubsub"),
        (Self::NO_SCRIPT, "noscript"),
        (Self::NO_AUTH, "no_auth"),
        (Self::NO_MULTI, "no_multi"),
        (Self::ALLOW_BUSY, "allow_busy"),
        (Self::BLOCKING, "blocking"),
    ];

    /// Both sets of properties.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all of these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key's index; 0: there is none.
    pub first: i32,
    /// The last key's index; negative ones count from the end.
    pub last: i32,
    /// From one key to the next.
    pub step: i32,
    /// Keys that stand elsewhere.
    pub also: Also,
}

/// Keys that are not in the range of a command's others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Also {
    /// There are none.
    Nothing,
    /// The first argument, whatever the others say.
    First,
    /// What follows the last of these words among the options behind the first key (SORT's STORE).
    After(&'static [&'static str]),
    /// The first half of all that follows this word (XREAD's STREAMS); no others are keys.
    HalfAfter(&'static str),
}

impl Also {
    /// The indices of these keys among `args`.
    fn indices(self, args: &Args<'_>) -> Range<usize> {
        let is = |index: usize, word: &str| args.at(index).eq_ignore_ascii_case(word.as_bytes());
        match self {
            Self::Nothing => 0..0,
            Self::First => 1..2,
            Self::After(words) => {
                let mut options = (2..args.len().saturating_sub(1)).rev();
                let found = options.find(|&index| words.iter().any(|word| is(index, word)));
                found.map_or(0..0, |index| index + 1..index + 2)
            }
            Self::HalfAfter(word) => {
                // What an option is given may be that word too, such as the name of a group.
                let given = |index: usize| match () {
                    () if is(index, "group") => 2,
                    () if is(index, "count") || is(index, "block") => 1,
                    () => 0,
                };
                let mut index = 1;
                while index < args.len() && !is(index, word) {
                    index += 1 + given(index);
                }
                let after = (index + 1).min(args.len());
                after..after + (args.len() - after) / 2
            }
        }
    }
}

impl Keys {
    /// No keys.
    pub const NONE: Self = Self::range(0, 0, 0);
    /// One key, the first argument.
    pub const ONE: Self = Self::range(1, 1, 1);
    /// Two keys, the first arguments.
    pub const TWO: Self = Self::range(1, 2, 1);
    /// All arguments.
    pub const ALL: Self = Self::range(1, -1, 1);
    /// All arguments from the second on are keys, and so is the first.
    pub const PAIRS: Self = Self::range(1, -1, 2);
    /// The first argument says how many keys follow.
    pub const COUNTED: Self = Self::range(2, 0, 1);
    /// The first argument is a key, the second says how many more follow.
    pub const TO_COUNTED: Self = Self { also: Also::First, ..Self::range(3, 0, 1) };

    /// From one argument to another.
    pub const fn range(first: i32, last: i32, step: i32) -> Self {
        Self { first, last, step, also: Also::Nothing }
    }

    /// Whether the argument before the first key says how many there are.
    pub const fn are_counted(self) -> bool {
        self.first > 1 && self.last == 0
    }

    /// Whether there are none.
    pub const fn is_none(self) -> bool {
        self.first == 0 && matches!(self.also, Also::Nothing)
    }

    /// The indices of the keys among `args`; empty if a count among the arguments makes no sense.
    pub fn indices(self, args: &Args<'_>) -> impl Iterator<Item = usize> + Clone + use<> {
        let (before, keys, after) = self.ranges(args);
        before.chain(keys).chain(after)
    }

    /// The same, with the place that each stands at.
    pub(crate) fn places(self, args: &Args<'_>) -> impl Iterator<Item = (usize, Place)> + use<> {
        let (before, keys, after) = self.ranges(args);
        let first = self.first as usize;
        let place = move |index| if index == first { Place::First } else { Place::Later };
        let keys = keys.map(move |index| (index, place(index)));
        let also = |index| (index, Place::Also);
        before.map(also).chain(keys).chain(after.map(also))
    }

    /// Keys that stand elsewhere, before and after those of the range.
    fn ranges(self, args: &Args<'_>) -> (Range<usize>, StepBy<Range<usize>>, Range<usize>) {
        let len = args.len();
        let first = self.first as usize;
        let end = if self.are_counted() {
            let count = args.get(first - 1).and_then(resp::integer).unwrap_or(0);
            usize::try_from(count).ok().and_then(|n| n.checked_add(first)).filter(|&n| n <= len)
        } else if self.last < 0 {
            len.checked_sub(self.last.unsigned_abs() as usize - 1)
        } else {
            Some(self.last as usize + 1)
        };
        let end = end.unwrap_or(first).min(len);
        let keys = first..if first == 0 { first } else { end.max(first) };
        let also = if keys.is_empty() && first > 0 { 0..0 } else { self.also.indices(args) };
        // In the order of the arguments.
        let (before, after) = if also.start > first { (0..0, also) } else { (also, 0..0) };
        (before, keys.step_by(self.step.max(1) as usize), after)
    }
}

/// Which of a command's keys one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first of its range.
    First,
    /// A later one of its range.
    Later,
    /// One that stands elsewhere ([`Also`]).
    Also,
}

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// The I/O thread of its connection, in the order of the connection's commands.
    Session(SessionHandler),
    /// The same, once all that came before it on its connection is answered.
    Late(SessionHandler),
    /// The worker of its slot, or one worker while those of all its slots wait.
    Data(DataHandler),
    /// A thread of its own, on a snapshot that has all that came before.
    Aside(AsideHandler),
    /// The workers of its keys, which from then on tell of writes to them.
    Watch,
    /// The workers of all that its transaction touches.
    Exec,
    /// The workers of a script's keys, or all: one of them runs it, with Lua of its own.
    Script(Scripted),
}

/// What is asked of scripts and functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripted {
    /// Runs a script that comes with it.
    Eval,
    /// Runs a script that is known by its hash.
    EvalSha,
    /// Runs a function.
    Call,
    /// SCRIPT.
    Scripts,
    /// FUNCTION.
    Functions,
}

/// One line of the table.
pub struct Spec {
    /// Its name, in lower case.
    pub name: &'static str,
    /// How many arguments with the name; negative: at least so many.
    pub arity: i32,
    /// Its properties.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// The family that COMMAND DOCS names.
    pub group: &'static str,
    /// What runs it.
    pub handler: Handler,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Spec {
    /// A command that workers run.
    pub const fn data(
        group: &'static str,
        name: &'static str,
        arity: i32,
        flags: Flags,
        keys: Keys,
        handler: DataHandler,
    ) -> Self {
        Self { name, arity, flags, keys, group, handler: Handler::Data(handler) }
    }

    /// A command that looks at every key beside the workers.
    pub const fn aside(
        group: &'static str,
        name: &'static str,
        arity: i32,
        handler: AsideHandler,
    ) -> Self {
        let handler = Handler::Aside(handler);
        Self { name, arity, flags: Flags::READONLY, keys: Keys::NONE, group, handler }
    }

    /// A command that the connection's I/O thread runs.
    pub const fn session(
        group: &'static str,
        name: &'static str,
        arity: i32,
        flags: Flags,
        handler: SessionHandler,
    ) -> Self {
        Self { name, arity, flags, keys: Keys::NONE, group, handler: Handler::Session(handler) }
    }

    /// A command that the connection's I/O thread runs once all before it is answered.
    pub const fn late(
        group: &'static str,
        name: &'static str,
        arity: i32,
        flags: Flags,
        handler: SessionHandler,
    ) -> Self {
        let handler = Handler::Late(handler);
        Self { name, arity, flags, keys: Keys::NONE, group, handler }
    }

    /// Whether I/O threads run it.
    pub const fn is_of_io(&self) -> bool {
        matches!(self.handler, Handler::Session(_) | Handler::Late(_))
    }

    /// Whether I/O threads run it, but in a transaction a worker does, in its place between the
    /// others: what it answers or forgets is of the node, not of its connection.
    pub fn runs_in_place(&self) -> bool {
        const OF_NODE: [&str; 5] = ["command", "info", "latency", "slowlog", "time"];
        let name = self.name.split_once('|').map_or(self.name, |(container, _)| container);
        self.is_of_io() && self.group == "server" && OF_NODE.contains(&name)
    }

    /// Whether it may read any key at all: it has no keys of its own, or patterns name more.
    pub fn sees_all(&self, args: &Args<'_>) -> bool {
        let is_pattern =
            |word: &[u8]| [&b"by"[..], b"get"].iter().any(|w| word.eq_ignore_ascii_case(w));
        self.keys.is_none() || self.flags.has(Flags::PATTERNS) && args.from(2).any(is_pattern)
    }

    /// Whether so many arguments, the name among them, are right.
    pub const fn accepts(&self, count: usize) -> bool {
        let bound = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= bound } else { count == bound }
    }

    /// The slots of its keys; `first` is that of the first one, so that one key is hashed once.
    pub fn slots<'s>(
        &self,
        args: &'s Args<'s>,
        first: Option<Slot>,
    ) -> impl Iterator<Item = Slot> + 's {
        let indices = self.keys.indices(args).skip(usize::from(first.is_some()));
        first.into_iter().chain(indices.map(|index| Slot::of_key(args.at(index))))
    }
}
