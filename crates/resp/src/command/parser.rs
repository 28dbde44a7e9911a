//! Finds one command at the start of a buffer, without copying it.

use std::ops::Range;

use super::{Limits, inline};
use crate::{ProtocolError, integer};

/// Finds commands in a growing buffer. It remembers how far it got in an incomplete command, so
/// that a command of a million arguments is looked at once and not at each read.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// Where to go on, from the start of the command; 0: at the start.
    at: usize,
    /// Arguments of the multibulk command that are still to come.
    left: usize,
}

impl Parser {
    /// A parser at the start of a command.
    pub const fn new() -> Self {
        Self { at: 0, left: 0 }
    }

    /// One command at the start of `buf`: how many bytes it takes, with its arguments as ranges of
    /// `buf` in `args` (none for an empty line or an empty multibulk, which are to be skipped).
    ///
    /// `None`: it is incomplete; call again with more bytes after the same start and the same
    /// `args`. After `Some` and after an error the parser is at a start again. An inline command
    /// with quotes is unescaped in place; nothing else of `buf` changes.
    pub fn next(
        &mut self,
        buf: &mut [u8],
        limits: &Limits,
        args: &mut Vec<Range<usize>>,
    ) -> Result<Option<usize>, ProtocolError> {
        let found = self.advance(buf, limits, args);
        if !matches!(found, Ok(None)) {
            *self = Self::new();
        }
        found
    }

    /// How many bytes the command takes at least, as far as is known: what a reader should make
    /// room for. Never more than the limits allow.
    pub const fn at_least(&self) -> usize {
        self.at
    }

    fn advance(
        &mut self,
        buf: &mut [u8],
        limits: &Limits,
        args: &mut Vec<Range<usize>>,
    ) -> Result<Option<usize>, ProtocolError> {
        if self.at == 0 {
            args.clear();
            match buf.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return inline::parse(buf, limits, args),
            }
            let Some((line, after)) = line(buf, 1, limits, ProtocolError::MultibulkLine)? else {
                return Ok(None);
            };
            let count = integer(&buf[line]).ok_or(ProtocolError::MultibulkLength)?;
            // Redis takes a negative count as an empty command.
            self.left = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
            if self.left > limits.args {
                return Err(ProtocolError::MultibulkLength);
            }
            self.at = after;
        }
        while self.left > 0 {
            let Some(first) = buf.get(self.at) else { return Ok(None) };
            let first = *first;
            let Some((line, start)) = line(buf, self.at + 1, limits, ProtocolError::BulkLine)?
            else {
                return Ok(None);
            };
            if first != b'$' {
                return Err(ProtocolError::ExpectedBulk(first));
            }
            let length = integer(&buf[line])
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n <= limits.bulk_bytes)
                .ok_or(ProtocolError::BulkLength)?;
            let end = start.saturating_add(length);
            if end > limits.command_bytes {
                return Err(ProtocolError::CommandTooBig);
            }
            // The two bytes after an argument are skipped unseen, as Redis does.
            if buf.len() < end + 2 {
                return Ok(None);
            }
            args.push(start..end);
            self.at = end + 2;
            self.left -= 1;
        }
        Ok(Some(self.at))
    }
}

/// The line from `from` to the next CR, and where what follows it begins. `None`: incomplete.
pub(crate) fn line(
    buf: &[u8],
    from: usize,
    limits: &Limits,
    too_long: ProtocolError,
) -> Result<Option<(Range<usize>, usize)>, ProtocolError> {
    // Lengths are short: looking byte by byte is faster than a vectorised search here.
    let rest = buf.get(from..).unwrap_or_default();
    let Some(cr) = rest.iter().take(limits.inline_bytes).position(|&b| b == b'\r') else {
        return if rest.len() >= limits.inline_bytes { Err(too_long) } else { Ok(None) };
    };
    let after = from + cr + 2;
    Ok((buf.len() >= after).then_some((from..from + cr, after)))
}

/// One command at the start of `buf`, for whoever always has all of it: [`Parser::next`] without
/// memory. The ranges of its arguments replace what was in `args`.
pub fn parse(
    buf: &mut [u8],
    limits: &Limits,
    args: &mut Vec<Range<usize>>,
) -> Result<Option<usize>, ProtocolError> {
    Parser::new().next(buf, limits, args)
}
