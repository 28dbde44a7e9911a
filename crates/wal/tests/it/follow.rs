//! Follows the log files of a database as a sidecar does, and checks that they are one log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use wal::Sequence;
use wal::batch::BatchRef;
use wal::log::{Damage, LogDecoder};

pub(crate) struct Follow {
    dir: PathBuf,
    /// Held open, so that a file that RocksDB archives or deletes can be read on.
    files: BTreeMap<u64, File>,
    current: u64,
    decoder: LogDecoder,
    /// Where the next batch must start.
    expected: Sequence,
    /// What ended the current file.
    pub(crate) damage: Option<Damage>,
    pub(crate) batches: Vec<Vec<u8>>,
}

/// All batches of a database's log, checked to be without a gap.
pub(crate) fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut follow = Follow::new(dir);
    while follow.poll() > 0 {}
    follow.batches
}

impl Follow {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            files: BTreeMap::new(),
            current: 0,
            decoder: LogDecoder::new(),
            expected: Sequence(1),
            damage: None,
            batches: Vec::new(),
        }
    }

    /// Takes what has been written since; how many batches that was.
    pub(crate) fn poll(&mut self) -> usize {
        let before = self.batches.len();
        loop {
            self.open_new_files();
            let next = self.next_file();
            // After the next file was seen to go on: nothing is written to this one any more.
            self.read_current();
            let Some(next) = next.or_else(|| self.next_file()) else { break };
            if self.current != 0 && self.damage.is_none() && self.decoder.pending() > 0 {
                eprintln!("log {} ends inside a record", self.current);
            }
            self.current = next;
            self.decoder = LogDecoder::new();
            self.damage = None;
        }
        self.batches.len() - before
    }

    fn open_new_files(&mut self) {
        for dir in [self.dir.clone(), self.dir.join("archive")] {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                let Some(number) = path
                    .file_name()
                    .and_then(|name| name.to_str()?.strip_suffix(".log")?.parse::<u64>().ok())
                else {
                    continue;
                };
                // A file may go to the archive between the listing and here: then the next look
                // finds it there.
                if number > self.current
                    && !self.files.contains_key(&number)
                    && let Ok(file) = File::open(&path)
                {
                    self.files.insert(number, file);
                }
            }
        }
    }

    /// The file whose first batch is the one expected.
    fn next_file(&mut self) -> Option<u64> {
        let expected = self.expected;
        let later = self.files.range(self.current + 1..);
        later
            .map(|(number, file)| (*number, first_sequence(file)))
            .find_map(|(number, first)| (first == Some(expected)).then_some(number))
    }

    fn read_current(&mut self) {
        let Some(file) = self.files.get_mut(&self.current) else { return };
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                return;
            }
            self.decoder.feed(&buffer[..read]);
            loop {
                let record = match self.decoder.next() {
                    Ok(Some(record)) => record,
                    Ok(None) => break,
                    Err(damage) => {
                        self.damage = Some(damage);
                        return;
                    }
                };
                let batch = BatchRef::parse(record.bytes).unwrap();
                assert_eq!(batch.sequence(), self.expected, "a gap in log {}", self.current);
                self.expected = batch.end().next();
                self.batches.push(record.bytes.to_vec());
            }
        }
    }
}

fn first_sequence(file: &File) -> Option<Sequence> {
    use std::os::unix::fs::FileExt;
    let mut decoder = LogDecoder::new();
    let mut at = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read_at(&mut buffer, at).unwrap();
        if read == 0 {
            return None;
        }
        at += read as u64;
        decoder.feed(&buffer[..read]);
        if let Ok(Some(record)) = decoder.next() {
            return Some(BatchRef::parse(record.bytes).unwrap().sequence());
        }
    }
}
