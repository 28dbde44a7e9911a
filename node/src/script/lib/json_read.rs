//! JSON as Lua's values.

use mlua::{Lua, Value};

use super::cjson::Settings;
use super::given::Failed;

/// JSON that is being read.
pub(super) struct Reader<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    depth: usize,
    settings: &'a Settings,
    /// A string with its escapes undone.
    scratch: Vec<u8>,
}

/// A token, with its place in the text.
struct Token {
    at: usize,
    kind: Kind,
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// The string is in the scratch.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Kind {
    /// As Lua CJSON's errors name it.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(what) => what,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(lua: &'a Lua, text: &'a [u8], settings: &'a Settings) -> Self {
        Self { lua, text, at: 0, depth: 0, settings, scratch: Vec::new() }
    }

    /// The one value of the text.
    pub(super) fn whole(mut self) -> Result<Value, Failed> {
        let token = self.next();
        let value = self.value(&token)?;
        let after = self.next();
        match after.kind {
            Kind::End => Ok(value),
            _ => Err(unexpected("the end", &after)),
        }
    }

    fn value(&mut self, token: &Token) -> Result<Value, Failed> {
        Ok(match token.kind {
            Kind::String => Value::String(self.lua.create_string(&self.scratch)?),
            Kind::Number(number) => Value::Number(number),
            Kind::Boolean(value) => Value::Boolean(value),
            Kind::ObjectBegin => self.object()?,
            Kind::ArrayBegin => self.array()?,
            Kind::Null => Value::NULL,
            _ => return Err(unexpected("value", token)),
        })
    }

    fn descend(&mut self) -> Result<(), Failed> {
        self.depth += 1;
        if self.depth <= self.settings.decode_depth_max {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        Err(format!("Found too many nested data structures ({depth}) at character {at}").into())
    }

    fn object(&mut self) -> Result<Value, Failed> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if !matches!(token.kind, Kind::ObjectEnd) {
            loop {
                let Kind::String = token.kind else {
                    return Err(unexpected("object key string", &token));
                };
                let key = self.lua.create_string(&self.scratch)?;
                token = self.next();
                let Kind::Colon = token.kind else { return Err(unexpected("colon", &token)) };
                token = self.next();
                let value = self.value(&token)?;
                table.raw_set(key, value)?;
                token = self.next();
                match token.kind {
                    Kind::ObjectEnd => break,
                    Kind::Comma => token = self.next(),
                    _ => return Err(unexpected("comma or object end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self) -> Result<Value, Failed> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if !matches!(token.kind, Kind::ArrayEnd) {
            for index in 1_i64.. {
                let value = self.value(&token)?;
                table.raw_set(index, value)?;
                token = self.next();
                match token.kind {
                    Kind::ArrayEnd => break,
                    Kind::Comma => token = self.next(),
                    _ => return Err(unexpected("comma or array end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    /// The byte here; a zero is the end, as it is for C.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Token {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.byte(0) {
            b'{' => Some(Kind::ObjectBegin),
            b'}' => Some(Kind::ObjectEnd),
            b'[' => Some(Kind::ArrayBegin),
            b']' => Some(Kind::ArrayEnd),
            b',' => Some(Kind::Comma),
            b':' => Some(Kind::Colon),
            0 => return Token { at, kind: Kind::End },
            _ => None,
        };
        if let Some(kind) = single {
            self.at += 1;
            return Token { at, kind };
        }
        let words = [
            (&b"true"[..], Kind::Boolean(true)),
            (b"false", Kind::Boolean(false)),
            (b"null", Kind::Null),
        ];
        let kind = match self.byte(0) {
            b'"' => match self.string() {
                Ok(()) => Kind::String,
                Err(what) => return Token { at: self.at, kind: Kind::Error(what) },
            },
            b'-' | b'0'..=b'9' => self.number(),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => {
                let rest = &self.text[self.at..];
                match words.into_iter().find(|(word, _)| rest.starts_with(word)) {
                    Some((word, kind)) => {
                        self.at += word.len();
                        kind
                    }
                    None if self.settings.decode_invalid && self.is_invalid_number() => {
                        self.number()
                    }
                    None => Kind::Error("invalid token"),
                }
            }
            _ => Kind::Error("invalid token"),
        };
        Token { at, kind }
    }

    /// A string, from its first quote to its last, into the scratch.
    fn string(&mut self) -> Result<(), &'static str> {
        self.at += 1;
        self.scratch.clear();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            self.scratch.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(0) {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err("unexpected end of string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        let byte = match self.byte(1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'u' => return self.unicode().ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        self.scratch.push(byte);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them that are a pair of surrogates.
    fn unicode(&mut self) -> Option<()> {
        let first = self.hexadecimal(2)?;
        let (code, length) = match first {
            0xd800..0xdc00 => {
                if (self.byte(6), self.byte(7)) != (b'\\', b'u') {
                    return None;
                }
                let second = self.hexadecimal(8).filter(|code| code & 0xfc00 == 0xdc00)?;
                (((first & 0x3ff) << 10 | second & 0x3ff) + 0x1_0000, 12)
            }
            other => (other, 6),
        };
        let character = char::from_u32(code)?;
        self.scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += length;
        Some(())
    }

    fn hexadecimal(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |code, index| {
            let digit = char::from(self.byte(ahead + index)).to_digit(16)?;
            Some(code << 4 | digit)
        })
    }

    /// What C reads as a number and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        let mut ahead = 0;
        match self.byte(0) {
            b'+' => return true,
            b'-' => ahead = 1,
            _ => {}
        }
        let rest = self.text.get(self.at + ahead..).unwrap_or_default();
        match rest {
            [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
            [first, ..] if *first <= b'9' => false,
            _ => [&b"inf"[..], b"nan"]
                .iter()
                .any(|word| rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word))),
        }
    }

    fn number(&mut self) -> Kind {
        if !self.settings.decode_invalid && self.is_invalid_number() {
            return Kind::Error("invalid number");
        }
        let rest = &self.text[self.at..];
        match parse(rest) {
            Some((number, length)) => {
                self.at += length;
                Kind::Number(number)
            }
            None => Kind::Error("invalid number"),
        }
    }
}

/// The longest number that the text begins with, as C's `strtod` reads it, and its length.
fn parse(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let negative = text.first() == Some(&b'-');
    let signed = |value: f64| if negative { -value } else { value };
    let rest = &text[sign..];
    let is = |word: &[u8]| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
    for (word, value) in
        [(&b"infinity"[..], f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)]
    {
        if is(word) {
            return Some((signed(value), sign + word.len()));
        }
    }
    if is(b"0x") {
        let digits = rest[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let value = rest[2..2 + digits].iter().fold(0.0, |value, &byte| {
            value * 16.0 + f64::from(char::from(byte).to_digit(16).unwrap_or(0))
        });
        return (digits > 0).then(|| (signed(value), sign + 2 + digits));
    }
    let digits = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    if rest.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(rest.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
        let exponent = if rest.len() > end + 1 + sign { digits(end + 1 + sign) } else { 0 };
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((signed(number), sign + end))
}

fn unexpected(wanted: &str, token: &Token) -> Failed {
    let (found, at) = (token.kind.name(), token.at + 1);
    format!("Expected {wanted} but found {found} at character {at}").into()
}
