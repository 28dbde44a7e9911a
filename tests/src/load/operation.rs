//! The checked writes: each can be told from every other by what it leaves behind.

use keyspace::Slot;

/// How many counters a connection has, and elements a list gets before the next list.
pub const COUNTERS: u32 = 4;
/// Elements of one list.
pub const LIST_LEN: u32 = 400;
/// Fields of one hash.
pub const HASH_LEN: u32 = 200;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SET of a key that is never written again.
    Set,
    /// INCR of one of the connection's counters.
    Incr,
    /// RPUSH of an element that is pushed once.
    Push,
    /// HSET of a field that is set once.
    Field,
}

/// One checked write: the `number`th of connection `writer` of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The connection.
    pub writer: u32,
    /// The number.
    pub number: u32,
}

impl Operation {
    /// What it does: by its number, so that nothing needs to be remembered.
    pub const fn kind(self) -> Kind {
        match self.number % 8 {
            0..=2 => Kind::Set,
            3 | 4 => Kind::Incr,
            5 | 6 => Kind::Push,
            _ => Kind::Field,
        }
    }

    /// The key it writes.
    pub fn key(self, run: &str) -> String {
        let Self { writer, number } = self;
        match self.kind() {
            Kind::Set => format!("check:{run}:{writer}:set:{number}"),
            Kind::Incr => counter(run, writer, number % COUNTERS),
            Kind::Push => format!("check:{run}:{writer}:list:{}", number / LIST_LEN),
            Kind::Field => format!("check:{run}:{writer}:hash:{}", number / HASH_LEN),
        }
    }

    /// The value, element or field's value.
    pub fn value(self, run: &str) -> String {
        // Long enough that the bytes written mean something.
        format!("{run}/{}/{}/{}", self.writer, self.number, "godwit ".repeat(12))
    }

    /// Its element in a list, its field in a hash.
    pub fn member(self) -> String {
        self.number.to_string()
    }

    /// The command.
    pub fn command(self, run: &str) -> Vec<String> {
        let key = self.key(run);
        match self.kind() {
            Kind::Set => vec!["SET".to_owned(), key, self.value(run)],
            Kind::Incr => vec!["INCR".to_owned(), key],
            Kind::Push => vec!["RPUSH".to_owned(), key, self.member()],
            Kind::Field => vec!["HSET".to_owned(), key, self.member(), self.value(run)],
        }
    }

    /// The slot of its key.
    pub fn slot(self, run: &str) -> Slot {
        Slot::of_key(self.key(run).as_bytes())
    }
}

/// A connection's counter.
pub fn counter(run: &str, writer: u32, number: u32) -> String {
    format!("check:{run}:{writer}:counter:{number}")
}
