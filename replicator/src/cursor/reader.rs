//! One log file, record after record, while it grows.

use std::fs::File;
use std::os::unix::fs::FileExt;

use wal::batch::BatchRef;
use wal::log::{Damage, LogDecoder};

use super::CursorError;
use crate::spool::{LogFile, SpoolError};

/// Bytes read at a time.
const READ: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct FileReader {
    file: LogFile,
    handle: File,
    decoder: LogDecoder,
    buf: Vec<u8>,
    record: Vec<u8>,
}

impl FileReader {
    pub(super) fn open(file: &LogFile) -> Result<Self, CursorError> {
        let handle = File::open(&file.path).map_err(SpoolError::io("open", &file.path))?;
        let file = file.clone();
        Ok(Self { file, handle, decoder: LogDecoder::new(), buf: Vec::new(), record: Vec::new() })
    }

    pub(super) fn file(&self) -> &LogFile {
        &self.file
    }

    pub(super) fn unread(&self) -> u64 {
        self.len().saturating_sub(self.decoder.end())
    }

    /// The end of the last record.
    pub(super) fn end(&self) -> u64 {
        self.decoder.end()
    }

    fn len(&self) -> u64 {
        self.handle.metadata().map(|m| m.len()).unwrap_or(0)
    }

    /// Whether there is something that was not fed yet.
    pub(super) fn grew(&self) -> bool {
        self.len() > self.decoder.offset()
    }

    /// Goes to the next record; `false` at the end of what there is.
    pub(super) fn advance(&mut self) -> Result<bool, Damage> {
        loop {
            if let Some(record) = self.decoder.next()? {
                self.record.clear();
                self.record.extend_from_slice(record.bytes);
                return Ok(true);
            }
            self.buf.resize(READ, 0);
            // A disk that cannot be read looks like the end of the file: the reader stands still,
            // which health shows, and tries again.
            let got = self.handle.read_at(&mut self.buf, self.decoder.offset()).unwrap_or(0);
            if got == 0 {
                return Ok(false);
            }
            self.decoder.feed(&self.buf[..got]);
        }
    }

    pub(super) fn batch(&self) -> Result<BatchRef<'_>, CursorError> {
        BatchRef::parse(&self.record).map_err(|error| CursorError::Foreign {
            path: self.file.path.clone(),
            why: error.to_string(),
        })
    }
}
