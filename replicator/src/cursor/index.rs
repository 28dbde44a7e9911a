//! What was read of each log file, once: log files only grow, so nobody need read them again to learn
//! how they begin, where they end and which timelines start in them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::facts::Facts;
use super::reader::FileReader;
use super::{CursorError, Head, history_in};
use crate::identity::DatabaseId;
use crate::spool::LogFile;

/// What is remembered of the files of a spool, for as long as they are in it.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<BTreeMap<(DatabaseId, u64, u64), Entry>>);

#[derive(Debug, Default)]
struct Entry {
    head: Option<Head>,
    account: Option<Account>,
}

/// How far a file was read, and what it said.
#[derive(Debug)]
struct Account {
    said: Facts,
    /// `None`: to its end, and nothing more is written to it.
    reader: Option<FileReader>,
}

impl Index {
    /// How a file begins; `None` if it has no batch (yet).
    pub(super) fn head(
        &self,
        database: &DatabaseId,
        file: &LogFile,
    ) -> Result<Option<Head>, CursorError> {
        let key = key(database, file);
        if let Some(head) = self.locked().get(&key).and_then(|entry| entry.head) {
            return Ok(Some(head));
        }
        let head = Head::read(file)?;
        if head.is_some() {
            self.locked().entry(key).or_default().head = head;
        }
        Ok(head)
    }

    /// What a file says from its beginning to where it ends now. `closed`: nothing more is written
    /// to it.
    pub(super) fn account(
        &self,
        database: &DatabaseId,
        file: &LogFile,
        closed: bool,
    ) -> Result<Facts, CursorError> {
        let key = key(database, file);
        // Taken out while it is read on: who asks meanwhile reads for itself.
        let held = self.locked().get_mut(&key).and_then(|entry| entry.account.take());
        let mut account = match held {
            Some(account) => account,
            None => Account { said: Facts::default(), reader: Some(FileReader::open(file)?) },
        };
        let clean = account.read_on()?;
        let said = account.said.clone();
        if closed {
            account.reader = None;
        }
        // A piece that was looked at while it was being written is looked at again from the start.
        if clean || closed {
            self.locked().entry(key).or_default().account = Some(account);
        }
        Ok(said)
    }

    /// The file is in the spool no more.
    pub(crate) fn forget(&self, database: &DatabaseId, file: &LogFile) {
        self.locked().remove(&key(database, file));
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<(DatabaseId, u64, u64), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Reads to the end of what there is; `false` if it met damage. At the end of a log that is
    /// where it ends for now; who follows it finds out more.
    fn read_on(&mut self) -> Result<bool, CursorError> {
        let Some(reader) = &mut self.reader else { return Ok(true) };
        loop {
            match reader.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(_) => return Ok(false),
            }
            let batch = reader.batch()?;
            self.said.end = Some(batch.end());
            for tag in batch.tags().flatten() {
                self.said.stamp = self.said.stamp.max(tag.stamp);
            }
            if let Some(history) = history_in(&batch) {
                self.said.history = Some(history);
            }
        }
    }
}

fn key(database: &DatabaseId, file: &LogFile) -> (DatabaseId, u64, u64) {
    (database.clone(), file.number, file.inode)
}
