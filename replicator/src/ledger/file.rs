//! A ledger's file: a head, entries, and an end that counts them.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use keyspace::Hlc;
use wal::{Position, Sequence, TimelineId};

use super::entry::{Entry, EntryError};

const MAGIC: &[u8; 4] = b"GWLG";
const FORMAT: u16 = 1;
const HEAD: usize = 56;
/// The longest record: a batch of all that a key may be kept with, its name, and room.
const RECORD_BYTES_MAX: u32 = 1 << 30;
/// The kind of the record at the end.
const END: u8 = 0;

/// What a ledger begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The service, hashed as in a segment.
    pub service: u64,
    /// The shard whose log was left, `a/0`.
    pub source: String,
    /// The last common position.
    pub fork: Position,
    /// The end of what that shard wrote as a primary.
    pub end: Sequence,
    /// No stamp up to the fork is above it, and each given by the new primary is.
    pub stamp: Hlc,
}

/// Why a ledger cannot be written or read. What it speaks of is in the segment beside it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk.
    #[error("cannot {what} the ledger {path}: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        why: io::Error,
    },
    /// Not what was written.
    #[error(
        "the ledger {path} is damaged: {why}; the stranded batches are in the segment beside it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        why: String,
    },
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> LedgerError + use<> {
    let path = path.to_owned();
    move |why| LedgerError::Io { what, path: path.clone(), why }
}

/// Writes a ledger under another name, which it gets when it is whole and on disk.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    new: PathBuf,
    file: BufWriter<File>,
    count: u64,
    body: Vec<u8>,
}

impl Writer {
    /// Begins the ledger at `path`.
    pub fn create(path: &Path, head: &Head) -> Result<Self, LedgerError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = BufWriter::new(File::create(&new).map_err(failed("create", &new))?);
        file.write_all(&encode(head)).map_err(failed("write", &new))?;
        Ok(Self { path: path.to_owned(), new, file, count: 0, body: Vec::new() })
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        self.body.clear();
        entry.encode(&mut self.body);
        self.count += 1;
        self.record()
    }

    fn record(&mut self) -> Result<(), LedgerError> {
        let length = u32::try_from(self.body.len()).ok().filter(|l| *l <= RECORD_BYTES_MAX);
        let too_long = || io::Error::other(format!("a record of {} bytes", self.body.len()));
        let length = length.ok_or_else(too_long).map_err(failed("write", &self.new))?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), &self.body);
        let parts = [&length.to_le_bytes()[..], &crc.to_le_bytes(), &self.body];
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        written.map_err(failed("write", &self.new))
    }

    /// Ends it: synced, renamed, and the directory synced.
    pub fn finish(mut self) -> Result<u64, LedgerError> {
        self.body.clear();
        self.body.push(END);
        self.body.extend_from_slice(&self.count.to_le_bytes());
        self.record()?;
        let failed = failed("write", &self.new);
        self.file.flush().map_err(&failed)?;
        self.file.get_ref().sync_all().map_err(&failed)?;
        fs::rename(&self.new, &self.path).map_err(&failed)?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(&failed)?;
        Ok(self.count)
    }
}

/// Reads a ledger, entry after entry; the end must be there.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    head: Head,
    left: u64,
    count: u64,
    ended: bool,
}

impl Reader {
    /// Opens the ledger at `path`.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let failed = failed("read", path);
        let file = File::open(path).map_err(&failed)?;
        let size = file.metadata().map_err(&failed)?.len();
        let mut file = BufReader::new(file);
        let damaged = |why: String| LedgerError::Damaged { path: path.to_owned(), why };
        let mut fixed = [0; HEAD];
        file.read_exact(&mut fixed).map_err(|_| damaged("its head is cut off".to_owned()))?;
        let name = u16::from_le_bytes([fixed[6], fixed[7]]);
        let mut rest = vec![0; usize::from(name) + 4];
        file.read_exact(&mut rest).map_err(|_| damaged("its head is cut off".to_owned()))?;
        let head = decode(&fixed, &rest).map_err(damaged)?;
        let left = size - (HEAD + rest.len()) as u64;
        Ok(Self { path: path.to_owned(), file, head, left, count: 0, ended: false })
    }

    /// What it begins with.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next entry; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Entry>, LedgerError> {
        if self.ended {
            return Ok(None);
        }
        let at = format!("behind entry {}", self.count);
        let damaged = |why: String| LedgerError::Damaged { path: self.path.clone(), why };
        let mut fixed = [0; 8];
        self.file.read_exact(&mut fixed).map_err(|_| damaged(format!("it is cut off {at}")))?;
        let [length, crc] = [0, 4]
            .map(|i| u32::from_le_bytes([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]));
        self.left = self.left.saturating_sub(8);
        // A length is believed only as far as there are bytes.
        if length > RECORD_BYTES_MAX || u64::from(length) > self.left {
            return Err(damaged(format!("it is cut off {at}")));
        }
        let mut body = vec![0; length as usize];
        self.file.read_exact(&mut body).map_err(|_| damaged(format!("it is cut off {at}")))?;
        self.left -= u64::from(length);
        if crc32c::crc32c_append(crc32c::crc32c(&fixed[..4]), &body) != crc {
            return Err(damaged(format!("the checksum {at} does not match")));
        }
        if let [END, count @ ..] = body.as_slice() {
            let count = <[u8; 8]>::try_from(count).ok().map(u64::from_le_bytes);
            if count != Some(self.count) || self.left > 0 {
                return Err(damaged(format!("it ends {at}, and its end says {count:?}")));
            }
            self.ended = true;
            return Ok(None);
        }
        let entry =
            Entry::decode(&body).map_err(|EntryError(why)| damaged(format!("{at}: {why}")))?;
        self.count += 1;
        Ok(Some(entry))
    }
}

fn encode(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + head.source.len() + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    let length = u16::try_from(head.source.len()).expect("a shard's name has up to 74 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&head.service.to_le_bytes());
    out.extend_from_slice(&head.fork.timeline.0.to_le_bytes());
    for number in [head.fork.sequence.0, head.end.0, head.stamp.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(head.source.as_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(fixed: &[u8; HEAD], rest: &[u8]) -> Result<Head, String> {
    if &fixed[..4] != MAGIC {
        return Err("it is no ledger".to_owned());
    }
    let format = u16::from_le_bytes([fixed[4], fixed[5]]);
    if format != FORMAT {
        return Err(format!("format {format}, and this version reads {FORMAT}: upgrade"));
    }
    let (name, crc) = rest.split_last_chunk::<4>().ok_or("its head is cut off")?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(fixed), name);
    if sum != u32::from_le_bytes(*crc) {
        return Err("the checksum of its head does not match".to_owned());
    }
    let number = |at: usize| {
        u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes of the head"))
    };
    let timeline = fixed[16..32].try_into().expect("sixteen bytes of the head");
    Ok(Head {
        service: number(8),
        source: String::from_utf8(name.to_vec()).map_err(|why| why.to_string())?,
        fork: Position {
            timeline: TimelineId(u128::from_le_bytes(timeline)),
            sequence: Sequence(number(32)),
        },
        end: Sequence(number(40)),
        stamp: Hlc(number(48)),
    })
}
