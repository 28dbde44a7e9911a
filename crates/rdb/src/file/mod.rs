//! A snapshot, from its first byte to its checksum: `REDIS`, four digits of version, opcodes and
//! keys, `ff`, a CRC-64 of all before it (0: none was made).

mod source;
mod value;

use std::io::Read;

use crate::Form;
use crate::payload::{Dump, Load};
use source::Source;

/// A collection whose bytes come to more than this comes in parts of about this size.
pub const PART_BYTES: usize = 4 << 20;
/// The longest text, and the longest value that is handed out whole: what RESTORE takes of it.
pub const VALUE_BYTES_MAX: usize = 512 << 20;
/// The versions that are read.
const VERSIONS: std::ops::RangeInclusive<u16> = 1..=crate::payload::READ_VERSION_MAX;

/// Why a snapshot cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the bytes come from, or they end too early.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Other bytes.
    #[error("this is no snapshot of Redis: it does not begin with REDIS and a version")]
    Magic,
    /// Written by a Redis that is too new.
    #[error(
        "the snapshot has version {0} of the format, and versions up to {max} are known (Redis 8)",
        max = crate::payload::READ_VERSION_MAX
    )]
    Version(u16),
    /// What begins there is not known, so nobody can tell where it ends.
    #[error(
        "the snapshot has an item of type {number} at byte {at}, which is not known: it ends nobody knows where, so nothing behind it can be read"
    )]
    Unknown {
        /// The opcode or the form.
        number: u8,
        /// How many bytes were read before it.
        at: u64,
    },
    /// Bytes that make no sense.
    #[error("the snapshot is damaged near byte {at}: {what}")]
    Damaged {
        /// What was found there.
        what: &'static str,
        /// How many bytes were read.
        at: u64,
    },
    /// It changed on its way.
    #[error(
        "the snapshot is damaged: its bytes have the checksum {found:016x}, it says {said:016x}"
    )]
    Checksum {
        /// What its bytes come to.
        found: u64,
        /// What it says.
        said: u64,
    },
}

/// Whether a value is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first of several, which replaces what was there.
    First,
    /// One that is added to what came before.
    Next,
    /// The last one that is added.
    Last,
}

/// A key with its value or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// When it expires, in Unix milliseconds.
    pub expire_ms: Option<u64>,
    /// The value's form.
    pub form: Form,
    /// The form's byte and the value: [`payload::seal`](crate::payload::seal) makes of it what RESTORE
    /// takes. A part is a smaller collection of the same form.
    pub body: Vec<u8>,
    /// Which part of the value it is.
    pub part: Part,
}

/// What a snapshot says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Something about the snapshot, such as `redis-ver`.
    About(Vec<u8>, Vec<u8>),
    /// What follows is in this database.
    Database(u64),
    /// A library of functions: its text.
    Library(Vec<u8>),
    /// A key.
    Entry(Entry),
    /// A key whose value only a module can read; its bytes were passed over.
    OfModule {
        /// The key.
        key: Vec<u8>,
        /// The module's name for its type, of nine characters.
        kind: String,
    },
    /// What a module keeps beside the keys; passed over.
    ModuleNotes(String),
    /// A value that is more than [`VALUE_BYTES_MAX`] and cannot be parted; passed over.
    TooBig {
        /// The key.
        key: Vec<u8>,
        /// Its form.
        form: Form,
    },
    /// The end, and the checksum was right.
    End,
}

/// A collection of which parts were given out.
struct Parted {
    key: Vec<u8>,
    expire_ms: Option<u64>,
    form: Form,
    /// Items that are still to come.
    left: u64,
    /// The earliest time of a hash with fields that expire.
    earliest: Vec<u8>,
}

/// Reads a snapshot. Reads are small: give it something buffered.
pub struct Reader<R> {
    source: Source<R>,
    version: u16,
    parted: Option<Parted>,
    part_bytes: usize,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("version", &self.version).finish_non_exhaustive()
    }
}

mod opcode {
    pub(super) const SLOT_INFO: u8 = 244;
    pub(super) const LIBRARY: u8 = 245;
    pub(super) const MODULE_NOTES: u8 = 247;
    pub(super) const IDLE: u8 = 248;
    pub(super) const FREQUENCY: u8 = 249;
    pub(super) const ABOUT: u8 = 250;
    pub(super) const SIZES: u8 = 251;
    pub(super) const EXPIRE_MS: u8 = 252;
    pub(super) const EXPIRE_SECONDS: u8 = 253;
    pub(super) const DATABASE: u8 = 254;
    pub(super) const END: u8 = 255;
    /// A value that its module can be passed over by: `RDB_TYPE_MODULE_2`.
    pub(super) const OF_MODULE: u8 = 7;
}

impl<R: Read> Reader<R> {
    /// Reads the first bytes.
    pub fn new(inner: R) -> Result<Self, Error> {
        Self::with_parts(inner, PART_BYTES)
    }

    /// The same with parts of another size.
    pub fn with_parts(inner: R, part_bytes: usize) -> Result<Self, Error> {
        let mut source = Source::new(inner);
        let head: [u8; 9] = source.array()?;
        let digits = head.strip_prefix(b"REDIS").and_then(|d| std::str::from_utf8(d).ok());
        let version: u16 = digits.and_then(|d| d.parse().ok()).ok_or(Error::Magic)?;
        if !VERSIONS.contains(&version) {
            return Err(Error::Version(version));
        }
        Ok(Self { source, version, parted: None, part_bytes })
    }

    /// The version of the format.
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// How many bytes were read.
    pub const fn bytes_read(&self) -> u64 {
        self.source.position()
    }

    /// What comes next. Call it until it says [`Item::End`] or fails; not after that.
    pub fn next_item(&mut self) -> Result<Item, Error> {
        if let Some(parted) = self.parted.take() {
            return self.go_on(parted);
        }
        let mut expire_ms = None;
        loop {
            self.source.forget();
            let code = self.source.byte()?;
            match code {
                opcode::EXPIRE_MS => expire_ms = Some(u64::from_le_bytes(self.source.array()?)),
                opcode::EXPIRE_SECONDS => {
                    let seconds = u32::from_le_bytes(self.source.array()?);
                    expire_ms = Some(u64::from(seconds) * 1000);
                }
                opcode::IDLE => _ = self.source.length()?,
                opcode::FREQUENCY => _ = self.source.byte()?,
                opcode::SIZES => _ = (self.source.length()?, self.source.length()?),
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.source.length()?;
                    }
                }
                opcode::ABOUT => return Ok(Item::About(self.text()?, self.text()?)),
                opcode::DATABASE => return Ok(Item::Database(self.source.length()?)),
                opcode::LIBRARY => return Ok(Item::Library(self.text()?)),
                opcode::MODULE_NOTES => {
                    let kind = value::module_kind(self.source.length()?);
                    // When it is to be read, as two numbers, then what it is.
                    self.source.length()?;
                    self.source.length()?;
                    value::pass_module(&mut self.source)?;
                    return Ok(Item::ModuleNotes(kind));
                }
                opcode::END => return self.end(),
                _ => return self.key(code, expire_ms),
            }
        }
    }

    fn end(&mut self) -> Result<Item, Error> {
        // Before version 5 there was no checksum.
        if self.version >= 5 {
            let found = self.source.crc();
            let said = u64::from_le_bytes(self.source.array()?);
            if said != 0 && said != found {
                return Err(Error::Checksum { found, said });
            }
        }
        Ok(Item::End)
    }

    /// A text, decoded.
    fn text(&mut self) -> Result<Vec<u8>, Error> {
        self.source.forget();
        self.source.string()?;
        let text = Load::bare(self.source.kept()).string();
        text.ok_or_else(|| self.source.damaged("a text that is not one"))
    }

    fn key(&mut self, code: u8, expire_ms: Option<u64>) -> Result<Item, Error> {
        let form = Form::from_number(code);
        if form.is_none() && code != opcode::OF_MODULE {
            return Err(Error::Unknown { number: code, at: self.source.position() - 1 });
        }
        let key = self.text()?;
        self.source.forget();
        let Some(form) = form else {
            let kind = value::module_kind(self.source.length()?);
            value::pass_module(&mut self.source)?;
            return Ok(Item::OfModule { key, kind });
        };
        if value::is_counted(form) {
            let earliest = match form {
                Form::HashFields => self.source.array::<8>()?.to_vec(),
                _ => Vec::new(),
            };
            let left = self.source.length()?;
            self.source.forget();
            return self.parts(Parted { key, expire_ms, form, left, earliest }, Part::First);
        }
        value::pass(&mut self.source, form)?;
        if self.source.overflowed() {
            return Ok(Item::TooBig { key, form });
        }
        let mut body = Vec::with_capacity(1 + self.source.kept().len());
        body.push(form as u8);
        body.extend_from_slice(self.source.kept());
        Ok(Item::Entry(Entry { key, expire_ms, form, body, part: Part::Whole }))
    }

    fn go_on(&mut self, parted: Parted) -> Result<Item, Error> {
        self.source.forget();
        self.parts(parted, Part::Next)
    }

    /// The next items of a collection, as many as make a part.
    fn parts(&mut self, mut parted: Parted, part: Part) -> Result<Item, Error> {
        let mut count = 0;
        while parted.left > 0 && self.source.kept().len() < self.part_bytes {
            value::pass_item(&mut self.source, parted.form)?;
            if self.source.overflowed() {
                return Err(self.source.damaged("an element longer than any Redis stores"));
            }
            count += 1;
            parted.left -= 1;
        }
        let mut body = Dump::new(parted.form);
        body.bytes(&parted.earliest);
        body.length(count);
        body.bytes(self.source.kept());
        let part = match (part, parted.left) {
            (Part::First, 0) => Part::Whole,
            (Part::Next, 0) => Part::Last,
            (part, _) => part,
        };
        let (key, expire_ms, form) = match part {
            Part::Whole | Part::Last => (parted.key, parted.expire_ms, parted.form),
            Part::First | Part::Next => {
                let again = (parted.key.clone(), parted.expire_ms, parted.form);
                self.parted = Some(parted);
                again
            }
        };
        let body = body.into_bytes();
        Ok(Item::Entry(Entry { key, expire_ms, form, body, part }))
    }
}
