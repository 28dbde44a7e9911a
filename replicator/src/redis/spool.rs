//! What was received of a Redis and is not applied yet, on disk: a slow target never makes the source
//! hold it in memory, and a sidecar that was killed goes on without asking for it again.
//!
//! `<state>/snapshot-<offset>-<id>.rdb` as it came, and `<state>/stream-<offset>` with the bytes of the
//! stream behind that offset, both described in `docs/formats.md`. Nothing here is needed for the
//! position, which is the target's; so nothing of the stream is synced, and a torn end is cut off.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::place::{Place, ReplId};

/// A file of the stream is followed by another from this size on.
const FILE_BYTES: u64 = 64 << 20;
/// The most bytes of one record.
pub const RECORD_BYTES: usize = 64 << 10;
const MAGIC: &[u8; 8] = b"GWREDIS1";
const HEADER_BYTES: usize = 8 + ReplId::LEN + 8 + 4;
const RECORD_HEAD_BYTES: usize = 4 + 4;

/// The disk, or what is on it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk.
    #[error("cannot {what} {path}: {why}. Nothing is lost: the position is with the target")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        why: io::Error,
    },
    /// A record that is not what was written.
    #[error("{path} is damaged near offset {offset}: what it held is asked of the source again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far it could be read.
        offset: u64,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |why| SpoolError::Io { what, path, why }
}

/// A file of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamFile {
    path: PathBuf,
    /// The history that its bytes belong to.
    id: ReplId,
    /// The offset before its first byte.
    start: u64,
}

/// The snapshot that is kept until it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// Where the stream goes on from it.
    pub place: Place,
}

/// What is received and not applied.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    files: Vec<StreamFile>,
    /// The last of them, to be written on.
    writer: Option<File>,
    /// Bytes of it.
    written: u64,
    /// The offset of the last byte received.
    end: u64,
    snapshot: Option<Snapshot>,
}

impl Spool {
    /// Takes up what an earlier run left in a directory. What does not hang together is removed.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let mut spool = Self {
            dir: dir.to_owned(),
            files: Vec::new(),
            writer: None,
            written: 0,
            end: 0,
            snapshot: None,
        };
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let path = entry.map_err(failed("list", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("stream-") {
                match read_header(&path) {
                    Some((id, start)) => spool.files.push(StreamFile { path, id, start }),
                    None => remove(&path)?,
                }
            } else if name.starts_with("snapshot-") {
                match snapshot_place(name) {
                    Some(place) if spool.snapshot.is_none() => {
                        spool.snapshot = Some(Snapshot { path, place });
                    }
                    _ => remove(&path)?,
                }
            }
        }
        spool.files.sort_by_key(|file| file.start);
        spool.keep_what_hangs_together()?;
        Ok(spool)
    }

    /// Keeps the last run of files without a hole, and cuts the last one where it is torn.
    fn keep_what_hangs_together(&mut self) -> Result<(), SpoolError> {
        let mut kept: Vec<StreamFile> = Vec::new();
        let mut end = 0;
        for file in std::mem::take(&mut self.files) {
            let (file_end, whole) = measure(&file)?;
            if !kept.is_empty() && file.start != end {
                kept.drain(..).try_for_each(|file| remove(&file.path))?;
            }
            let handle = File::options().write(true).open(&file.path);
            let handle = handle.map_err(failed("open", &file.path))?;
            handle.set_len(whole).map_err(failed("cut", &file.path))?;
            (end, self.written) = (file_end, whole);
            kept.push(file);
        }
        self.files = kept;
        self.end = end;
        if let Some(last) = self.files.last() {
            let file = File::options().append(true).open(&last.path);
            self.writer = Some(file.map_err(failed("open", &last.path))?);
        }
        // A snapshot whose stream is not here leads nowhere.
        if let Some(snapshot) = &self.snapshot
            && self.files.first().is_none_or(|first| first.start > snapshot.place.offset)
        {
            remove(&snapshot.path)?;
            self.snapshot = None;
        }
        Ok(())
    }

    /// The history and the offset of the last byte received; `None`: nothing is here.
    pub fn end(&self) -> Option<(ReplId, u64)> {
        self.files.last().map(|file| (file.id.clone(), self.end))
    }

    /// The snapshot, if there is one to be applied.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Whether what follows a place is here, to the end.
    pub fn follows(&self, place: &Place) -> bool {
        let offset = place.offset;
        let Some(at) = self.files.iter().rposition(|file| file.start <= offset) else {
            return false;
        };
        let same = |at: usize| self.files.get(at).is_some_and(|file| file.id == place.id);
        // Where one history goes over into another, the place may be named by either.
        let seam = self.files.get(at).is_some_and(|file| file.start == offset);
        offset <= self.end && (same(at) || (seam && at > 0 && same(at - 1)))
    }

    /// Forgets everything, and begins behind this offset.
    pub fn begin(&mut self, id: &ReplId, offset: u64) -> Result<(), SpoolError> {
        self.writer = None;
        self.files.drain(..).try_for_each(|file| remove(&file.path))?;
        if let Some(snapshot) = self.snapshot.take() {
            remove(&snapshot.path)?;
        }
        self.end = offset;
        self.next_file(id.clone())
    }

    /// Where a snapshot is to be written until it is whole.
    pub fn snapshot_part(&self) -> PathBuf {
        self.dir.join("snapshot.part")
    }

    /// The snapshot that was written there is whole, and belongs to where the stream begins.
    pub fn snapshot_is_whole(&mut self, id: &ReplId, offset: u64) -> Result<(), SpoolError> {
        let part = self.snapshot_part();
        let path = self.dir.join(format!("snapshot-{offset:020}-{id}.rdb"));
        fs::rename(&part, &path).map_err(failed("rename", &part))?;
        let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(failed("sync", &self.dir))?;
        self.snapshot =
            Some(Snapshot { path, place: Place { id: id.clone(), offset, database: 0 } });
        Ok(())
    }

    /// The snapshot was applied.
    pub fn snapshot_is_applied(&mut self) -> Result<(), SpoolError> {
        self.snapshot.take().map_or(Ok(()), |snapshot| remove(&snapshot.path))
    }

    /// The source goes on under another id from the end on.
    pub fn rename_history(&mut self, id: &ReplId) -> Result<(), SpoolError> {
        match self.files.last() {
            Some(last) if last.id == *id => Ok(()),
            _ => self.next_file(id.clone()),
        }
    }

    /// Adds bytes of the stream; returns the offset of the last one.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, SpoolError> {
        let Some(last) = self.files.last() else { return Ok(self.end) };
        if self.written >= FILE_BYTES {
            self.next_file(last.id.clone())?;
        }
        let (Some(writer), Some(last)) = (&mut self.writer, self.files.last()) else {
            return Ok(self.end);
        };
        for piece in bytes.chunks(RECORD_BYTES) {
            let mut record = Vec::with_capacity(RECORD_HEAD_BYTES + piece.len());
            record.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            record.extend_from_slice(&crc32c::crc32c(piece).to_le_bytes());
            record.extend_from_slice(piece);
            writer.write_all(&record).map_err(failed("write", &last.path))?;
            self.written += record.len() as u64;
            self.end += piece.len() as u64;
        }
        Ok(self.end)
    }

    fn next_file(&mut self, id: ReplId) -> Result<(), SpoolError> {
        let start = self.end;
        // Two histories may meet at an offset at which nothing was received.
        if let Some(last) = self.files.pop_if(|last| last.start == start) {
            remove(&last.path)?;
        }
        let path = self.dir.join(format!("stream-{start:020}"));
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(id.as_str().as_bytes());
        header.extend_from_slice(&start.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        let mut file = File::create(&path).map_err(failed("create", &path))?;
        file.write_all(&header).map_err(failed("write", &path))?;
        (self.writer, self.written) = (Some(file), HEADER_BYTES as u64);
        self.files.push(StreamFile { path, id, start });
        Ok(())
    }

    /// Removes files that end at or before this offset; the last one stays.
    pub fn applied(&mut self, offset: u64) -> Result<(), SpoolError> {
        while self.files.get(1).is_some_and(|second| second.start <= offset) {
            remove(&self.files.remove(0).path)?;
        }
        Ok(())
    }

    /// What it takes on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        let paths = self.files.iter().map(|file| &file.path);
        let paths = paths.chain(self.snapshot.as_ref().map(|snapshot| &snapshot.path));
        paths.map(|path| fs::metadata(path).map(|found| found.len()).unwrap_or(0)).sum()
    }

    /// Reads from an offset on; `None`: it is not here.
    pub fn reader(&self, offset: u64) -> Result<Option<Reader>, SpoolError> {
        let Some(file) = self.files.iter().rev().find(|file| file.start <= offset) else {
            return Ok(None);
        };
        let mut reader = Reader::open(self.dir.clone(), file.path.clone(), file.start)?;
        reader.skip_to = offset;
        Ok(Some(reader))
    }

    /// The history at an offset.
    pub fn history_at(&self, offset: u64) -> Option<&ReplId> {
        self.files.iter().rev().find(|file| file.start <= offset).map(|file| &file.id)
    }
}

/// Reads the stream's bytes, file after file. It must not be asked for more than was received.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    path: PathBuf,
    file: BufReader<File>,
    /// The offset of the last byte read.
    offset: u64,
    /// Bytes before this offset are not wanted.
    skip_to: u64,
}

impl Reader {
    fn open(dir: PathBuf, path: PathBuf, start: u64) -> Result<Self, SpoolError> {
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(failed("read", &path))?;
        let file = BufReader::with_capacity(RECORD_BYTES * 2, file);
        Ok(Self { dir, path, file, offset: start, skip_to: start })
    }

    /// The offset of the last byte that was read.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends the next record's bytes, none where they are not wanted; there must be one, at an offset
    /// that was received.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        loop {
            let damaged = |reader: &Self| SpoolError::Damaged {
                path: reader.path.clone(),
                offset: reader.offset,
            };
            let before = out.len();
            match read_record(&mut self.file, out) {
                Ok(Some(length)) => {
                    let from = self.offset;
                    self.offset += length as u64;
                    let unwanted = self.skip_to.saturating_sub(from).min(length as u64) as usize;
                    out.drain(before..before + unwanted);
                    return Ok(());
                }
                // The end of this file: another one begins there.
                Ok(None) => {
                    let next = self.dir.join(format!("stream-{:020}", self.offset));
                    if next == self.path || !next.exists() {
                        return Err(damaged(self));
                    }
                    let skip_to = self.skip_to;
                    *self = Self::open(self.dir.clone(), next, self.offset)?;
                    self.skip_to = skip_to;
                }
                Err(_) => return Err(damaged(self)),
            }
        }
    }
}

/// The next record: its length, with its bytes behind what `out` holds. `None`: the end, perhaps torn.
fn read_record(file: &mut impl Read, out: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut head = [0; RECORD_HEAD_BYTES];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (length, crc) = head.split_at(4);
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let (length, crc) = (number(length) as usize, number(crc));
    if length == 0 || length > RECORD_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let before = out.len();
    out.resize(before + length, 0);
    let bytes = out.get_mut(before..).unwrap_or_default();
    let right = file.read_exact(bytes).map(|()| crc32c::crc32c(bytes) == crc);
    match right {
        Ok(true) => Ok(Some(length)),
        Ok(false) => {
            out.truncate(before);
            Err(io::ErrorKind::InvalidData.into())
        }
        Err(error) => {
            out.truncate(before);
            Err(error)
        }
    }
}

/// The offset of a file's last whole record, and how many bytes that is of the file.
fn measure(file: &StreamFile) -> Result<(u64, u64), SpoolError> {
    let opened = File::open(&file.path).map_err(failed("open", &file.path))?;
    let mut reader = BufReader::with_capacity(RECORD_BYTES * 2, opened);
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).map_err(failed("read", &file.path))?;
    let (mut end, mut whole) = (file.start, HEADER_BYTES as u64);
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    while let Ok(Some(length)) = read_record(&mut reader, &mut bytes) {
        end += length as u64;
        whole += (RECORD_HEAD_BYTES + length) as u64;
        bytes.clear();
    }
    Ok((end, whole))
}

fn read_header(path: &Path) -> Option<(ReplId, u64)> {
    let mut header = [0; HEADER_BYTES];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    let (body, crc) = header.split_at(HEADER_BYTES - 4);
    let right = crc32c::crc32c(body) == u32::from_le_bytes(crc.try_into().ok()?);
    let body = body.strip_prefix(MAGIC).filter(|_| right)?;
    let (id, start) = body.split_at_checked(ReplId::LEN)?;
    let id = ReplId::parse(std::str::from_utf8(id).ok()?)?;
    Some((id, u64::from_le_bytes(start.try_into().ok()?)))
}

fn snapshot_place(name: &str) -> Option<Place> {
    let (offset, id) = name.strip_prefix("snapshot-")?.strip_suffix(".rdb")?.split_once('-')?;
    Some(Place { id: ReplId::parse(id)?, offset: offset.parse().ok()?, database: 0 })
}

fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ReplId {
        ReplId::parse(&digit.to_string().repeat(40)).unwrap()
    }

    fn place(digit: char, offset: u64) -> Place {
        Place { id: id(digit), offset, database: 0 }
    }

    fn all(spool: &Spool, from: u64) -> Vec<u8> {
        let mut reader = spool.reader(from).unwrap().unwrap();
        let (mut out, end) = (Vec::new(), spool.end().unwrap().1);
        while reader.offset() < end {
            reader.read(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn a_restart_goes_on_where_the_bytes_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.end(), None);
        spool.begin(&id('a'), 100).unwrap();
        assert_eq!(spool.append(b"hello ").unwrap(), 106);
        assert_eq!(spool.append(b"world").unwrap(), 111);
        drop(spool);
        // The process ended in the middle of a record.
        let path = dir.path().join(format!("stream-{:020}", 100));
        let torn = File::options().append(true).open(&path).unwrap().write_all(&[9, 0, 0, 0, 1]);
        torn.unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.end(), Some((id('a'), 111)));
        spool.append(b"!").unwrap();
        assert_eq!(all(&spool, 100), b"hello world!");
        assert_eq!(all(&spool, 103), b"lo world!");
        // Where it ends nothing is there yet: that is no damage.
        assert_eq!(all(&spool, 112), b"");
        assert!(spool.follows(&place('a', 100)) && spool.follows(&place('a', 112)));
        assert!(!spool.follows(&place('a', 99)) && !spool.follows(&place('a', 113)));
        assert!(!spool.follows(&place('b', 105)));
    }

    #[test]
    fn histories_meet_at_a_seam_and_applied_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        spool.begin(&id('a'), 0).unwrap();
        spool.append(b"old").unwrap();
        spool.rename_history(&id('b')).unwrap();
        spool.append(b"new").unwrap();
        let spool_again = Spool::open(dir.path()).unwrap();
        assert_eq!(spool_again.end(), Some((id('b'), 6)));
        for (digit, offset, here) in
            [('a', 2, true), ('a', 3, true), ('b', 3, true), ('b', 5, true), ('a', 5, false)]
        {
            assert_eq!(spool_again.follows(&place(digit, offset)), here, "{digit} {offset}");
        }
        assert_eq!(all(&spool_again, 1), b"ldnew");
        spool.applied(4).unwrap();
        assert!(!spool.follows(&place('a', 2)) && spool.follows(&place('b', 4)));
        // A history of which nothing came leaves no file.
        spool.rename_history(&id('c')).unwrap();
        spool.rename_history(&id('d')).unwrap();
        assert_eq!(spool.end(), Some((id('d'), 6)));
        assert_eq!(Spool::open(dir.path()).unwrap().end(), Some((id('d'), 6)));
    }

    #[test]
    fn a_hole_and_damage_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        spool.begin(&id('a'), 0).unwrap();
        spool.append(b"one").unwrap();
        let first = dir.path().join(format!("stream-{:020}", 0));
        let mut bytes = fs::read(&first).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&first, &bytes).unwrap();
        let mut reader = spool.reader(0).unwrap().unwrap();
        assert!(matches!(reader.read(&mut Vec::new()), Err(SpoolError::Damaged { .. })));
        // It is as if those bytes had not come.
        assert_eq!(Spool::open(dir.path()).unwrap().end(), Some((id('a'), 0)));
        spool.rename_history(&id('b')).unwrap();
        spool.append(b"two").unwrap();
        let after_a_hole = Spool::open(dir.path()).unwrap();
        assert!(!first.exists() && after_a_hole.follows(&place('b', 3)));
        assert!(!after_a_hole.follows(&place('a', 0)));
    }

    #[test]
    fn a_snapshot_is_kept_with_its_stream_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        spool.begin(&id('a'), 50).unwrap();
        fs::write(spool.snapshot_part(), b"REDIS").unwrap();
        spool.snapshot_is_whole(&id('a'), 50).unwrap();
        spool.append(b"more").unwrap();
        let mut again = Spool::open(dir.path()).unwrap();
        assert_eq!(again.snapshot().map(|s| s.place.clone()), Some(place('a', 50)));
        again.snapshot_is_applied().unwrap();
        assert!(Spool::open(dir.path()).unwrap().snapshot().is_none());
        spool.begin(&id('b'), 9).unwrap();
        assert_eq!(Spool::open(dir.path()).unwrap().end(), Some((id('b'), 9)));
    }
}
