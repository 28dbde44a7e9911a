//! What the breaker has counted, on disk: a sidecar that is killed goes on with the minute that it was
//! in. It is written before what was counted is applied, in place and without a sync: the end of a
//! process loses nothing of it, and after a power cut a damaged file counts as none.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use wal::Sequence;

const MAGIC: [u8; 4] = *b"GWBW";
const FORMAT: u32 = 1;
/// Magic, format, number of entries, of which four bytes are padding, sequence.
const HEAD: usize = 24;
const ENTRY: usize = 16;
/// A minute has so many seconds that something was deleted in, and the one that it began in.
const ENTRIES_MAX: usize = 61;

/// What is kept: the end of the last frame counted, and deletes by the stamp of their second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) counted: Sequence,
    pub(super) window: Vec<(u64, u64)>,
}

/// The file.
#[derive(Debug)]
pub(super) struct WindowFile {
    path: PathBuf,
    file: Option<File>,
}

impl WindowFile {
    /// Beside the state of the hold.
    pub(super) fn beside(state: &Path) -> Self {
        Self { path: state.with_extension("window"), file: None }
    }

    /// What a former run has counted; none where that is not known.
    pub(super) fn read(&self) -> Option<Kept> {
        decode(&std::fs::read(&self.path).ok()?)
    }

    /// Replaces it.
    pub(super) fn write(&mut self, kept: &Kept) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                std::fs::create_dir_all(dir)?;
                let open =
                    OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
                none.insert(open)
            }
        };
        file.write_all_at(&encode(kept), 0)
    }
}

/// The newest entries, as many as there may be.
fn encode(kept: &Kept) -> Vec<u8> {
    let skip = kept.window.len().saturating_sub(ENTRIES_MAX);
    let window = &kept.window[skip..];
    let mut bytes = Vec::with_capacity(HEAD + window.len() * ENTRY + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(window.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&kept.counted.0.to_le_bytes());
    for (at_ms, count) in window {
        bytes.extend_from_slice(&at_ms.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 8)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let head = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
    let entries = usize::try_from(number(8)?).ok().filter(|count| *count <= ENTRIES_MAX)?;
    // What a longer one left behind it does not count.
    let end = HEAD + entries * ENTRY;
    let sum = u32::from_le_bytes(*bytes.get(end..end + 4)?.first_chunk::<4>()?);
    if !bytes.starts_with(&head) || crc32c::crc32c(&bytes[..end]) != sum {
        return None;
    }
    let entry = |n: usize| Some((number(HEAD + n * ENTRY)?, number(HEAD + n * ENTRY + 8)?));
    let window = (0..entries).map(entry).collect::<Option<Vec<_>>>()?;
    Some(Kept { counted: Sequence(number(16)?), window })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_also_after_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("holds/a-0.json");
        let mut file = WindowFile::beside(&state);
        assert_eq!(file.read(), None);
        let many: Vec<_> = (0..100).map(|n| (n * 1000, n)).collect();
        let long = Kept { counted: Sequence(9), window: many.clone() };
        file.write(&long).unwrap();
        assert_eq!(file.read().unwrap().window, many[100 - ENTRIES_MAX..]);
        let short = Kept { counted: Sequence(10), window: vec![(5, 6)] };
        file.write(&short).unwrap();
        assert_eq!(WindowFile::beside(&state).read(), Some(short));
    }

    #[test]
    fn a_damaged_one_is_none() {
        let bytes = encode(&Kept { counted: Sequence(10), window: vec![(5, 6), (7, 8)] });
        assert!(decode(&bytes).is_some());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None);
        }
    }
}
