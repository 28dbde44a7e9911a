//! Writes replies in the version that the client asked for. What RESP2 lacks falls back to what
//! Redis sends there (`addReply*` in `networking.c`).

use super::Double;
use crate::Version;

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// The version that it writes.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// A status, such as `OK`. Line breaks in it become spaces.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error: a code in capitals, a space, a sentence. Line breaks in it become spaces.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// No value, where a string could have been.
    pub fn null(&mut self) {
        self.either(b"$-1\r\n", b"_\r\n");
    }

    /// No value, where an array could have been.
    pub fn null_array(&mut self) {
        self.either(b"*-1\r\n", b"_\r\n");
    }

    /// An array; `count` replies follow.
    pub fn array(&mut self, count: usize) {
        self.length(b'*', count);
    }

    /// A map; `count` pairs of replies follow. RESP2: an array of twice as many.
    pub fn map(&mut self, count: usize) {
        match self.version {
            Version::V2 => self.length(b'*', count * 2),
            Version::V3 => self.length(b'%', count),
        }
    }

    /// A set; `count` replies follow. RESP2: an array.
    pub fn set(&mut self, count: usize) {
        self.length(if self.version == Version::V3 { b'~' } else { b'*' }, count);
    }

    /// A message that nobody asked for; `count` replies follow. RESP2: an array.
    pub fn push(&mut self, count: usize) {
        self.length(if self.version == Version::V3 { b'>' } else { b'*' }, count);
    }

    /// A number with a fraction. RESP2: a string.
    pub fn double(&mut self, value: f64) {
        let mut double = Double::new();
        let text = double.format(value);
        match self.version {
            Version::V2 => self.bulk(text),
            Version::V3 => {
                self.out.push(b',');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A number with a fraction, in these digits. RESP2: a string.
    pub fn decimal(&mut self, digits: &str) {
        match self.version {
            Version::V2 => self.bulk(digits.as_bytes()),
            Version::V3 => self.line(b',', digits),
        }
    }

    /// Yes or no. RESP2: the integer 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        match value {
            true => self.either(b":1\r\n", b"#t\r\n"),
            false => self.either(b":0\r\n", b"#f\r\n"),
        }
    }

    /// Text with a format of three letters, `txt` or `mkd`. RESP2: a string.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.version {
            Version::V2 => self.bulk(text),
            Version::V3 => {
                self.length(b'=', text.len() + 4);
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An integer of any size, in decimal digits. RESP2: a string.
    pub fn big_number(&mut self, digits: &str) {
        match self.version {
            Version::V2 => self.bulk(digits.as_bytes()),
            Version::V3 => self.line(b'(', digits),
        }
    }

    /// Replies that were written before, in the same version.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    fn either(&mut self, v2: &[u8], v3: &[u8]) {
        self.out.extend_from_slice(if self.version == Version::V2 { v2 } else { v3 });
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        if text.bytes().any(|b| matches!(b, b'\r' | b'\n')) {
            let clean = |b| if matches!(b, b'\r' | b'\n') { b' ' } else { b };
            self.out.extend(text.bytes().map(clean));
        } else {
            self.out.extend_from_slice(text.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, kind: u8, count: usize) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, value: i64) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}
