//! Inline commands: a line of words, with quotes as redis-cli has them (`sdssplitargs` in `sds.c`).

use std::ops::Range;

use super::Limits;
use crate::ProtocolError;

/// One line at the start of `buf`; its words are unescaped in place, which never makes them longer.
pub(super) fn parse(
    buf: &mut [u8],
    limits: &Limits,
    args: &mut Vec<Range<usize>>,
) -> Result<Option<usize>, ProtocolError> {
    let window = &buf[..buf.len().min(limits.inline_bytes)];
    let Some(newline) = memchr::memchr(b'\n', window) else {
        let full = buf.len() >= limits.inline_bytes;
        return if full { Err(ProtocolError::InlineTooBig) } else { Ok(None) };
    };
    // Redis reads the line as a C string: a zero byte ends it.
    let end = memchr::memchr(0, &buf[..newline]).unwrap_or(newline);
    split(&mut buf[..end], args)?;
    Ok(Some(newline + 1))
}

fn split(line: &mut [u8], args: &mut Vec<Range<usize>>) -> Result<(), ProtocolError> {
    let mut read = 0;
    loop {
        while line.get(read).is_some_and(|&b| is_space(b)) {
            read += 1;
        }
        if read == line.len() {
            return Ok(());
        }
        let start = read;
        let mut write = read;
        let mut quote = None;
        loop {
            let byte = line.get(read).copied();
            let (out, taken) = match (quote, byte) {
                (None, None | Some(b' ' | b'\n' | b'\r' | b'\t')) => break,
                (Some(_), None) => return Err(ProtocolError::UnbalancedQuotes),
                (None, Some(b'"' | b'\'')) => {
                    quote = byte;
                    read += 1;
                    continue;
                }
                (Some(open), Some(b)) if b == open => {
                    // A closing quote ends the word.
                    read += 1;
                    if line.get(read).is_some_and(|&b| !is_space(b)) {
                        return Err(ProtocolError::UnbalancedQuotes);
                    }
                    break;
                }
                (Some(b'"'), Some(b'\\')) if read + 1 < line.len() => escape(&line[read..]),
                (Some(b'\''), Some(b'\\')) if line.get(read + 1) == Some(&b'\'') => (b'\'', 2),
                (_, Some(b)) => (b, 1),
            };
            line[write] = out;
            write += 1;
            read += taken;
        }
        args.push(start..write);
    }
}

/// The byte that an escape in double quotes stands for, and how many bytes it takes. `text` begins
/// with a backslash and has at least two bytes.
fn escape(text: &[u8]) -> (u8, usize) {
    let hex = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match text {
        [_, b'x', high, low, ..] => match (hex(high), hex(low)) {
            (Some(high), Some(low)) => (high << 4 | low, 4),
            _ => (b'x', 2),
        },
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (0x08, 2),
        [_, b'a', ..] => (0x07, 2),
        [_, other, ..] => (*other, 2),
        _ => (b'\\', 1),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}
