//! A checkpoint of this sidecar's node, read where it is.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use admin::{Digest, SlotDigest};
use keyspace::{Cf, Hlc, SlotSet};
use rocksdb::{DB, Options};
use wal::Position;

/// Table files of it that are open at a time: their indexes are in memory.
const OPEN_FILES_MAX: i32 = 64;

/// Opens it, to be read only.
///
/// # Errors
/// RocksDB cannot open it.
pub(crate) fn open(path: &Path) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.set_max_open_files(OPEN_FILES_MAX);
    // As its node has it: where a manifest has tracked logs and this is off, RocksDB 11.8 writes a note of
    // that down, and crashes where it was opened to be read only (`DBImpl::Recover`).
    options.set_track_and_verify_wals_in_manifest(true);
    DB::open_cf_for_read_only(&options, path, Cf::ALL.map(Cf::name), false)
}

/// Digests what is live in it at `stamp`, which a standby's log has no barrier for. Blocks for as long as
/// reading all of it takes; `stop` ends it early.
///
/// # Errors
/// It cannot be opened or read, or it was stopped: a sentence.
pub(crate) fn digest(
    path: &Path,
    position: Position,
    stamp: Hlc,
    slots: &SlotSet,
    stop: &AtomicBool,
) -> Result<Digest, String> {
    let db = open(path).map_err(|why| format!("opening the checkpoint: {why}"))?;
    let snapshot = db.snapshot();
    let slots = digest::Reader { db: &db, snapshot: &snapshot, stamp, stop }.slots(slots)?;
    let mut total = SlotDigest::default();
    slots.values().for_each(|slot| total.add(slot));
    Ok(Digest { position, stamp, slots, total })
}
