//! Which keys the log touches, read on a thread of its own.

use std::collections::BTreeSet;

use keyspace::data::DataKey;
use keyspace::{Cf, library, meta, shard};
use tokio::sync::mpsc;
use wal::Position;
use wal::batch::{BatchRef, Record};

use crate::cursor::{Cursor, CursorError, Growth};

/// Touched keys are handed on at this number, or as soon as the log has nothing more.
const KEYS_MAX: usize = 512;
/// Such groups that wait to be carried.
const QUEUE: usize = 4;

/// What a run of batches touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Keys that were written or deleted.
    pub keys: BTreeSet<Vec<u8>>,
    /// Whole ranges of keys were deleted: nobody knows which.
    pub ranges: bool,
    /// Libraries of functions were changed.
    pub libraries: bool,
    /// Files of a bulk load came in: nobody knows which keys are in them.
    pub load: bool,
}

impl Touched {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, batch: &BatchRef<'_>) {
        for record in batch.records() {
            let (cf, key) = match record {
                Record::DeleteRange { cf: Cf::Meta, .. } => {
                    self.ranges = true;
                    continue;
                }
                Record::DeleteRange { cf: Cf::Data, begin, .. } if library::is_key(begin) => {
                    self.libraries = true;
                    continue;
                }
                Record::Put { cf, key, .. }
                | Record::Delete { cf, key }
                | Record::SingleDelete { cf, key }
                | Record::Merge { cf, key, .. } => (cf, key),
                Record::DeleteRange { .. } | Record::LogData(_) => continue,
            };
            match cf {
                Cf::Data if library::is_key(key) => self.libraries = true,
                // Users: whom a Redis lets in is its own affair.
                Cf::Data if shard::is_of_shard(key) => {}
                Cf::Meta => {
                    if let Ok((_, key)) = meta::decode_key(key) {
                        self.keys.insert(key.to_vec());
                    }
                }
                Cf::Data => {
                    if let Ok(data) = DataKey::decode(key)
                        && !self.keys.contains(data.key)
                    {
                        self.keys.insert(data.key.to_vec());
                    }
                }
                // Members in the order of scores stand beside their data records.
                Cf::Score | Cf::System => {}
            }
        }
    }
}

/// A run of batches.
#[derive(Debug)]
pub struct Run {
    /// What it touched.
    pub touched: Touched,
    /// Where it ends.
    pub end: Position,
    /// The number of the log file that its end is in.
    pub file: u64,
}

/// Reads the log behind a cursor. Dropping the receiver ends the thread.
pub fn follow(cursor: Cursor) -> std::io::Result<mpsc::Receiver<Result<Run, CursorError>>> {
    let (sender, runs) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("touched".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                Err(error) = read(cursor, &sender) => {
                    // Nobody listens any more if this fails.
                    let _ = sender.send(Err(error)).await;
                }
                () = sender.closed() => {}
            }
        });
    })?;
    Ok(runs)
}

async fn read(
    mut cursor: Cursor,
    sender: &mpsc::Sender<Result<Run, CursorError>>,
) -> Result<(), CursorError> {
    let (mut touched, mut growth) = (Touched::default(), Growth::default());
    let mut told = cursor.position();
    loop {
        let more = cursor.advance_live().await?;
        if more {
            growth.flowed();
            touched.load |= cursor.load().is_some();
            touched.add(&cursor.batch()?);
        }
        let full = touched.keys.len() >= KEYS_MAX;
        let end = cursor.position();
        // Heartbeats alone move the position too, but not at once.
        if full || (!more && end != told && (!touched.is_empty() || sender.capacity() == QUEUE)) {
            let run =
                Run { touched: std::mem::take(&mut touched), end, file: cursor.file().number };
            // Nobody listens any more: the caller is about to be dropped.
            let _ = sender.send(Ok(run)).await;
            told = end;
        }
        if !more {
            growth.wait(&cursor).await;
        }
    }
}
