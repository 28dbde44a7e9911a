//! What the proxy knows of each command: its keys, and who answers it.

mod keys;
mod table;

use std::ops::Range;
use std::sync::LazyLock;

use hashbrown::HashMap;

pub(crate) use keys::{KeyError, Keys};
pub(crate) use table::TABLE;

/// Who answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The primary of its slot; changes nothing, so it may be asked again.
    Read,
    /// The primary of its slot; never sent again once it may have run.
    Write,
    /// The proxy itself.
    Local(Local),
    /// Several primaries; the answers are merged.
    Fan(Fan),
    /// Nobody: a connection that many clients share cannot carry it. The reason, in words.
    Refused(&'static str),
}

/// What the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Ping,
    Echo,
    Quit,
    Reset,
    Select,
    Hello,
    Auth,
    Client,
    Command,
    Info,
    Config,
    Time,
    Cluster,
    Proxy,
    Ok,
    Lolwut,
    Role,
    Acl,
    Slowlog,
}

/// How a command goes to several primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fan {
    /// Split by shard; the values come back in the order of the keys.
    Mget,
    /// Split by shard in pairs; `OK` if all said so.
    Mset,
    /// Split by shard; the counts are added. Changes keys.
    SumWrite,
    /// Split by shard; the counts are added. Changes nothing.
    SumRead,
    /// To every primary; the counts are added.
    AllSum,
    /// To every primary; the first answer stands for all. Changes keys.
    AllWrite,
    /// To every primary; the arrays are joined.
    AllJoin,
    /// To every primary; one of the answers that are not null.
    AllAny,
    /// One primary after another, as the cursor says.
    Scan,
}

impl Fan {
    /// Whether it changes anything.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Mset | Self::SumWrite | Self::AllWrite)
    }

    /// Whether it goes to every primary, whatever its arguments are.
    pub(crate) const fn to_all(self) -> bool {
        matches!(self, Self::AllSum | Self::AllWrite | Self::AllJoin | Self::AllAny)
    }
}

/// A command of the table.
#[derive(Debug)]
pub(crate) struct Command {
    /// In capitals.
    pub(crate) name: &'static str,
    /// How many arguments with the name; negative: at least so many.
    pub(crate) arity: i32,
    /// Who answers.
    pub(crate) class: Class,
    /// Where its keys are.
    pub(crate) keys: Keys,
}

impl Command {
    /// Whether it may have this many arguments, its name included.
    pub(crate) fn accepts(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let arity = i64::from(self.arity);
        if arity < 0 { count >= -arity } else { count == arity }
    }

    /// Whether it changes anything.
    pub(crate) const fn writes(&self) -> bool {
        match self.class {
            Class::Write => true,
            Class::Fan(fan) => fan.writes(),
            Class::Read | Class::Local(_) | Class::Refused(_) => false,
        }
    }
}

type Index = HashMap<&'static [u8], &'static Command, foldhash::fast::RandomState>;

static INDEX: LazyLock<Index> =
    LazyLock::new(|| TABLE.iter().map(|command| (command.name.as_bytes(), command)).collect());

/// The longest name in the table fits.
const NAME_BYTES_MAX: usize = 24;

/// The command of this name, in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut upper = [0; NAME_BYTES_MAX];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    INDEX.get(&*upper).copied()
}

/// A command as it stands in a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Where it stands, from its first byte.
    pub(crate) buf: &'a [u8],
    /// Its arguments in `buf`, the name first; never empty.
    pub(crate) args: &'a [Range<usize>],
}

impl<'a> Request<'a> {
    /// An argument; empty beyond the last.
    pub(crate) fn arg(&self, at: usize) -> &'a [u8] {
        self.args.get(at).map_or(&[], |range| &self.buf[range.clone()])
    }

    /// The arguments from `first` on.
    pub(crate) fn args_from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let buf = self.buf;
        self.args.get(first..).unwrap_or_default().iter().map(move |range| &buf[range.clone()])
    }

    /// How many arguments it has, its name included.
    pub(crate) const fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether an argument is this word, in any case.
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.arg(at).eq_ignore_ascii_case(word.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_capitals_and_found_in_any_case() {
        for command in TABLE {
            let upper = command.name.to_ascii_uppercase();
            assert_eq!(command.name, upper);
            assert!(
                std::ptr::eq(find(upper.to_ascii_lowercase().as_bytes()).unwrap(), command),
                "{upper}"
            );
        }
        assert!(find(b"nosuch").is_none());
        assert!(find(&[b'a'; 100]).is_none());
    }

    #[test]
    fn every_command_that_is_routed_has_keys() {
        for command in TABLE {
            let split =
                matches!(command.class, Class::Fan(fan) if !fan.to_all() && fan != Fan::Scan);
            if matches!(command.class, Class::Read | Class::Write) || split {
                assert_ne!(command.keys, Keys::None, "{}", command.name);
            }
        }
    }
}
