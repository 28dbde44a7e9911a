//! `return redis.call(...)` as `return (redis.call(...))`, which is the same value.
//!
//! Without the brackets it is a tail call, for which Lua gives up the frame of whoever calls: an error
//! of the command could not say on which line it was. In Redis `redis.call` is C's, which is called
//! without that.

use std::borrow::Cow;

/// A script's code in which no `redis.call` is a tail call. Lines stay where they are; code whose
/// brackets do not match is left as it is, for Lua to refuse.
pub(super) fn avoid(code: &[u8]) -> Cow<'_, [u8]> {
    const WORD: &[u8] = b"redis";
    if !code.windows(WORD.len()).any(|word| word == WORD) {
        return Cow::Borrowed(code);
    }
    match places(code) {
        Some(mut places) if !places.is_empty() => {
            places.sort_unstable();
            let mut out = Vec::with_capacity(code.len() + places.len());
            let mut from = 0;
            for (at, bracket) in places {
                out.extend_from_slice(&code[from..at]);
                out.push(bracket);
                from = at;
            }
            out.extend_from_slice(&code[from..]);
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(code),
    }
}

/// Where which brackets go; `None`: those that are there do not match.
fn places(code: &[u8]) -> Option<Vec<(usize, u8)>> {
    let mut tokens = Tokens { code, at: 0 };
    let (mut places, mut open) = (Vec::new(), Vec::new());
    // How far `return redis . call` has been seen, and where `redis` began.
    let (mut seen, mut start) = (0, 0);
    while let Some((from, token)) = tokens.next() {
        if token == b"(" {
            let wrap = seen == 4;
            if wrap {
                places.push((start, b'('));
            }
            open.push(wrap);
        } else if token == b")" && open.pop()? {
            places.push((tokens.at, b')'));
        }
        seen = match (seen, token) {
            (_, b"return") => 1,
            (1, b"redis") => {
                start = from;
                2
            }
            (2, b".") => 3,
            (3, b"call") => 4,
            _ => 0,
        };
    }
    open.is_empty().then_some(places)
}

/// Words, and every other byte by itself; no comments, and strings as one byte.
struct Tokens<'c> {
    code: &'c [u8],
    at: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'c> Tokens<'c> {
    /// Where the next one begins, and what it is.
    fn next(&mut self) -> Option<(usize, &'c [u8])> {
        loop {
            let rest = self.code.get(self.at..).filter(|rest| !rest.is_empty())?;
            let from = self.at;
            if rest[0].is_ascii_whitespace() {
                self.at += 1;
            } else if let Some(comment) = rest.strip_prefix(b"--") {
                let line = || comment.iter().position(|&byte| byte == b'\n');
                let length = long(comment).or_else(line).unwrap_or(comment.len());
                self.at += 2 + length;
            } else {
                self.at += match rest[0] {
                    b'[' => long(rest).unwrap_or(1),
                    quote @ (b'"' | b'\'') => quoted(rest, quote),
                    byte if is_word(byte) => {
                        rest.iter().position(|&byte| !is_word(byte)).unwrap_or(rest.len())
                    }
                    _ => 1,
                };
                let token = &self.code[from..self.at];
                return Some((from, if is_word(rest[0]) { token } else { &token[..1] }));
            }
        }
    }
}

/// The length of a long string, or of a long comment behind its dashes; `None`: it is none.
fn long(text: &[u8]) -> Option<usize> {
    let level = text.strip_prefix(b"[")?.iter().take_while(|&&byte| byte == b'=').count();
    if text.get(level + 1) != Some(&b'[') {
        return None;
    }
    let end = [b"]", &vec![b'='; level][..], b"]"].concat();
    let body = &text[level + 2..];
    let found = body.windows(end.len()).position(|part| part == end);
    Some(found.map_or(text.len(), |at| level + 2 + at + end.len()))
}

/// The length of a string in quotes; one that does not end, ends with its text.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == quote {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::avoid;

    fn check(code: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&avoid(code.as_bytes())), expected);
    }

    #[test]
    fn calls_that_are_returned_are_in_brackets() {
        check("return redis.call('get',KEYS[1])", "return (redis.call('get',KEYS[1]))");
        check("return redis . call\n(f(1), ')')", "return (redis . call\n(f(1), ')'))");
        check(
            "return redis.call('a', (function() return redis.call('b') end)())",
            "return (redis.call('a', (function() return (redis.call('b')) end)()))",
        );
        check("return --[[x)]] redis.call([==[)]==])", "return --[[x)]] (redis.call([==[)]==]))");
        check("if x then return redis.call('x') end", "if x then return (redis.call('x')) end");
        check("return redis.call('a')..'b'", "return (redis.call('a'))..'b'");
    }

    #[test]
    fn all_else_is_left_as_it_is() {
        for code in [
            "",
            "return redis.pcall('get','x')",
            "local x = redis.call('get','x') return x",
            "return 'return redis.call(1)'",
            "-- return redis.call('x')\nreturn 1",
            "--[[ return redis.call('x') ]] return [[return redis.call('x')]]",
            "return \"\\\"return redis.call('x')\"",
            "return myredis.call('x')",
            "return redis.call",
            // Lua is to refuse these as they came.
            "return redis.call('x'",
            "return redis.call('x'))",
            "return redis.call('x",
            "return redis.call([[x",
            "redis '\\",
        ] {
            check(code, code);
        }
    }
}
