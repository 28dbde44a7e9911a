//! Where a command's keys are among its arguments.

use keyspace::Slot;

use super::Request;

/// Where keys are; positions count the name as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// It has none.
    None,
    /// From `first` to `last` (negative: from the end) in steps.
    Range {
        /// The first.
        first: usize,
        /// The last; -1 is the last argument.
        last: isize,
        /// From one to the next.
        step: usize,
    },
    /// As many as the argument at `count` says, after it; `also` is one more.
    Counted {
        /// Where the count is.
        count: usize,
        /// A key that stands apart, such as the destination.
        also: Option<usize>,
    },
    /// After the word `STREAMS`, the first half of what is left.
    Streams,
    /// The first, and the one after each `STORE` or `STOREDIST`.
    Store,
}

/// Why a command's keys cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// Its arguments make no sense; the error to answer.
    Syntax(&'static str),
    /// Its keys are in different slots.
    CrossSlot,
}

const COUNT: KeyError =
    KeyError::Syntax("ERR numkeys should be greater than 0 and within the arguments");
const BLOCKS: KeyError = KeyError::Syntax(
    "ERR BLOCK is not carried: it would block a connection that other clients share; leave it out",
);
const SYNTAX: KeyError = KeyError::Syntax("ERR syntax error");

const UNBALANCED: KeyError = KeyError::Syntax(
    "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
);
const UNBALANCED_GROUP: KeyError = KeyError::Syntax(
    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
);

/// Where the word `STREAMS` is among the options: what one of them is given may be that word too.
fn streams_at(request: &Request<'_>) -> Result<usize, KeyError> {
    let mut at = 1;
    while at < request.len() {
        if request.is(at, "STREAMS") {
            return Ok(at);
        }
        if request.is(at, "BLOCK") {
            return Err(BLOCKS);
        }
        at += match () {
            () if request.is(at, "GROUP") => 3,
            () if request.is(at, "COUNT") => 2,
            () => 1,
        };
    }
    Err(SYNTAX)
}

impl Keys {
    /// Calls `with` for each key, in the order of the arguments.
    pub(crate) fn each<'a>(
        self,
        request: &Request<'a>,
        mut with: impl FnMut(&'a [u8]) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        match self {
            Self::None => Ok(()),
            Self::Range { first, last, step } => {
                let last = if last < 0 {
                    request.len().saturating_sub(last.unsigned_abs())
                } else {
                    last.unsigned_abs()
                };
                let mut at = first;
                while at <= last && at < request.len() {
                    with(request.arg(at))?;
                    at += step;
                }
                Ok(())
            }
            Self::Counted { count, also } => {
                if let Some(also) = also {
                    with(request.arg(also))?;
                }
                let keys = resp::integer(request.arg(count)).and_then(|n| usize::try_from(n).ok());
                let keys = keys.filter(|n| *n < request.len() - count).ok_or(COUNT)?;
                request.args_from(count + 1).take(keys).try_for_each(with)
            }
            Self::Streams => {
                let at = streams_at(request)?;
                let rest = request.len() - at - 1;
                if rest == 0 {
                    return Err(SYNTAX);
                }
                if !rest.is_multiple_of(2) {
                    let of_group = request.is(0, "XREADGROUP");
                    return Err(if of_group { UNBALANCED_GROUP } else { UNBALANCED });
                }
                request.args_from(at + 1).take(rest / 2).try_for_each(with)
            }
            Self::Store => {
                with(request.arg(1))?;
                for at in 2..request.len().saturating_sub(1) {
                    if request.is(at, "STORE") || request.is(at, "STOREDIST") {
                        with(request.arg(at + 1))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The slot of its keys; `None` if it has none. Where `one` is set they must all be in one.
    pub(crate) fn slot(self, request: &Request<'_>, one: bool) -> Result<Option<Slot>, KeyError> {
        // Nearly every command has one key.
        if let Self::Range { first, last, .. } = self
            && (usize::try_from(last) == Ok(first) || !one)
        {
            return Ok(Some(Slot::of_key(request.arg(first))));
        }
        let mut slot = None;
        self.each(request, |key| {
            let of_key = Slot::of_key(key);
            if one && slot.is_some_and(|slot| slot != of_key) {
                return Err(KeyError::CrossSlot);
            }
            slot.get_or_insert(of_key);
            Ok(())
        })?;
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::command::find;

    fn keys(line: &str) -> Result<Vec<String>, KeyError> {
        let mut args: Vec<Range<usize>> = Vec::new();
        for word in line.split(' ') {
            let start = args.last().map_or(0, |last| last.end + 1);
            args.push(start..start + word.len());
        }
        let request = Request { buf: line.as_bytes(), args: &args };
        let mut found = Vec::new();
        find(request.arg(0)).unwrap().keys.each(&request, |key| {
            found.push(String::from_utf8_lossy(key).into_owned());
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn keys_are_where_redis_has_them() {
        for (line, expected) in [
            ("get k", &["k"][..]),
            ("mset a 1 b 2", &["a", "b"]),
            ("del a b c", &["a", "b", "c"]),
            ("bitop and d a b", &["d", "a", "b"]),
            ("zunionstore d 2 a b weights 1 2", &["d", "a", "b"]),
            ("zinter 2 a b withscores", &["a", "b"]),
            ("eval script 1 k v", &["k"]),
            ("eval script 0 v", &[]),
            ("xread count 2 streams a b 0 0", &["a", "b"]),
            ("xread noack streams a b 0 0", &["a", "b"]),
            ("xreadgroup group streams block count 5 streams a b > >", &["a", "b"]),
            ("xreadgroup group g c noack streams a >", &["a"]),
            ("xadd s maxlen ~ 10 * f v", &["s"]),
            ("xgroup create s g $", &["s"]),
            ("xinfo stream s full", &["s"]),
            ("xautoclaim s g c 0 -", &["s"]),
            ("sort k by x store d", &["k", "d"]),
            ("object encoding k", &["k"]),
            ("rename a b", &["a", "b"]),
        ] {
            assert_eq!(keys(line).unwrap(), expected, "{line}");
        }
        for bad in [
            "zinter 3 a b",
            "zinter x a",
            "eval s -1 k",
            "xread streams a",
            "xread streams a b 0",
            "xread a b",
            "xread block 0 streams a 0",
            "xreadgroup group streams c a >",
        ] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }
}
