//! What an old primary wrote past the fork: kept in a segment file, and the keys that it touched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use keyspace::data::DataKey;
use keyspace::score::ScoreKey;
use keyspace::{Cf, SlotSet, meta};
use wal::batch::{BatchRef, Record};
use wal::frame::{Codec, FrameBuilder};
use wal::segment::SegmentHeader;
use wal::{Chain, Position};

use crate::cursor::Cursor;

/// The most keys of a rewind; beyond it a seed is cheaper.
const KEYS_MAX: usize = 1_000_000;
/// The most bytes of their names.
const KEY_BYTES_MAX: usize = 256 << 20;
/// A frame of the ledger is finished at this size.
const FRAME_BYTES: usize = 1 << 20;

/// What is stranded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stranded {
    /// The keys whose records were changed.
    pub keys: BTreeSet<Vec<u8>>,
    /// The batches that hold more than node-local state.
    pub batches: u64,
    bytes: usize,
}

/// Adds the keys that a batch changed. In words, why they cannot be told.
pub fn stranded_keys(batch: &BatchRef<'_>, into: &mut Stranded) -> Result<(), String> {
    if batch.tags().any(|tag| tag.is_ok_and(|tag| tag.kind == wal::Kind::Load)) {
        into.batches += 1;
        return Err("it took in a load past the fork, whose keys its log does not name".to_owned());
    }
    if batch.is_local() {
        return Ok(());
    }
    into.batches += 1;
    for record in batch.records() {
        let (cf, key) = match record {
            Record::LogData(_) => continue,
            Record::DeleteRange { cf: Cf::System, .. } => continue,
            Record::DeleteRange { .. } => {
                return Err("it deleted a whole range (FLUSHALL) past the fork".to_owned());
            }
            Record::Put { cf, key, .. }
            | Record::Delete { cf, key }
            | Record::SingleDelete { cf, key }
            | Record::Merge { cf, key, .. } => (cf, key),
        };
        let user_key = match cf {
            Cf::System => continue,
            Cf::Meta => meta::decode_key(key).map(|(_, key)| key),
            Cf::Data if keyspace::library::is_of_shard(key) => {
                return Err("it changed a library of functions past the fork".to_owned());
            }
            Cf::Data => DataKey::decode(key).map(|key| key.key),
            Cf::Score => ScoreKey::decode(key).map(|key| key.key),
        };
        let user_key = user_key.map_err(|error| error.to_string())?;
        if !into.keys.contains(user_key) {
            into.bytes += user_key.len();
            into.keys.insert(user_key.to_vec());
        }
        if into.keys.len() > KEYS_MAX || into.bytes > KEY_BYTES_MAX {
            return Err(format!("it changed more than {KEYS_MAX} keys past the fork"));
        }
    }
    Ok(())
}

/// Reads the node's own log from the fork (where the cursor stands) to `end`, writes it to the
/// ledger, synced, and answers what it touched and where it is written. The ledger is whole also
/// where the keys cannot be told: then the node is seeded, and it is all that is left of them.
pub fn write_ledger(
    mut cursor: Cursor,
    end: Position,
    slots: &SlotSet,
    service: &str,
    shard: &str,
    dir: &Path,
) -> Result<(Stranded, PathBuf), String> {
    let fork = cursor.position();
    let mut stranded = Stranded::default();
    fs::create_dir_all(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    let name = format!("{}-{}-{}.seg", fork.timeline, fork.sequence, end.sequence);
    let (path, new) = (dir.join(&name), dir.join(format!("{name}.new")));
    let failed =
        |error: std::io::Error| format!("cannot write the ledger {}: {error}", new.display());
    let mut file = File::create(&new).map_err(failed)?;
    let header = SegmentHeader {
        service: SegmentHeader::service_of(service),
        source: shard.to_owned(),
        start: fork,
        chain: Chain::START,
    };
    file.write_all(&header.encode().map_err(|e| e.to_string())?).map_err(failed)?;
    let (epoch, stamp) = cursor.highest();
    let mut builder = FrameBuilder::new(fork, Chain::START, epoch, stamp);
    let mut chain = cursor.chain();
    let mut untold = None;
    while cursor.position().sequence < end.sequence {
        if !cursor.advance().map_err(|error| error.to_string())? {
            return Err(format!("its log ends at {} and not at {end}", cursor.position()));
        }
        let batch = cursor.batch().map_err(|error| error.to_string())?;
        let started = cursor.started().and_then(|h| h.current()).map(|s| s.timeline);
        if started.is_some() || builder.raw_len() >= FRAME_BYTES {
            if let Some(frame) = builder.finish(Codec::Zstd, chain) {
                file.write_all(&frame).map_err(failed)?;
            }
            if let Some(timeline) = started {
                builder.begin_timeline(timeline).map_err(|error| error.to_string())?;
            }
        }
        builder.push(&batch, slots).map_err(|error| error.to_string())?;
        if untold.is_none() {
            untold = stranded_keys(&batch, &mut stranded).err();
        }
        chain = cursor.chain();
    }
    if let Some(frame) = builder.finish(Codec::Zstd, chain) {
        file.write_all(&frame).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    match untold {
        None => Ok((stranded, path)),
        Some(why) => Err(format!("{why}; the ledger {} has all of it", path.display())),
    }
}
