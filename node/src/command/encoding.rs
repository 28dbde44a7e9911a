//! OBJECT ENCODING and the thresholds that it follows. Nothing is stored differently on either side
//! of a threshold: the names tell clients how large a collection is, as they do of Redis.

use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};

use keyspace::Cf;
use keyspace::meta::{Collection, Type};

use super::Fail;
use crate::worker::{Direction, Entry, Key, View};

/// A threshold that CONFIG can change.
pub(crate) struct Threshold {
    /// Redis's name for it.
    pub(crate) name: &'static str,
    /// Its name before Redis 7, which still works.
    pub(crate) old_name: Option<&'static str>,
    value: AtomicI64,
    default: i64,
}

impl Threshold {
    const fn new(name: &'static str, old_name: Option<&'static str>, value: i64) -> Self {
        Self { name, old_name, value: AtomicI64::new(value), default: value }
    }

    /// What it is.
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// What it is when nobody has said anything.
    pub(crate) const fn default(&self) -> i64 {
        self.default
    }

    /// Changes it.
    pub(crate) fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }
}

static HASH_ENTRIES: Threshold =
    Threshold::new("hash-max-listpack-entries", Some("hash-max-ziplist-entries"), 128);
static HASH_VALUE: Threshold =
    Threshold::new("hash-max-listpack-value", Some("hash-max-ziplist-value"), 64);
static ZSET_ENTRIES: Threshold =
    Threshold::new("zset-max-listpack-entries", Some("zset-max-ziplist-entries"), 128);
static ZSET_VALUE: Threshold =
    Threshold::new("zset-max-listpack-value", Some("zset-max-ziplist-value"), 64);
static SET_ENTRIES: Threshold = Threshold::new("set-max-listpack-entries", None, 128);
static SET_VALUE: Threshold = Threshold::new("set-max-listpack-value", None, 64);
static SET_INTEGERS: Threshold = Threshold::new("set-max-intset-entries", None, 512);
static LIST_SIZE: Threshold =
    Threshold::new("list-max-listpack-size", Some("list-max-ziplist-size"), -2);
/// The longest sparse HyperLogLog, in bytes.
pub(super) static HLL_SPARSE_BYTES: Threshold = Threshold::new("hll-sparse-max-bytes", None, 3000);
/// How many entries of a stream one block takes: `MAXLEN ~` takes whole blocks off. 0: any number.
pub(super) static STREAM_NODE_ENTRIES: Threshold =
    Threshold::new("stream-node-max-entries", None, 100);
/// How many bytes of entries one block takes; 0: any number.
pub(super) static STREAM_NODE_BYTES: Threshold =
    Threshold::new("stream-node-max-bytes", None, 4096);

/// All of them, for CONFIG.
pub(crate) static THRESHOLDS: [&Threshold; 11] = [
    &HASH_ENTRIES,
    &HASH_VALUE,
    &ZSET_ENTRIES,
    &ZSET_VALUE,
    &SET_ENTRIES,
    &SET_VALUE,
    &SET_INTEGERS,
    &LIST_SIZE,
    &HLL_SPARSE_BYTES,
    &STREAM_NODE_ENTRIES,
    &STREAM_NODE_BYTES,
];

/// The most entries that are looked at to tell; larger collections have the general encoding.
const LOOKED_AT_MAX: u64 = 1024;

/// Redis's name for how it would store this.
pub(super) fn name(view: &mut View<'_>, key: Key<'_>, entry: &Entry) -> Result<&'static str, Fail> {
    const EMBSTR_BYTES_MAX: usize = 44;
    let Some(at) = entry.at else {
        return Ok(match view.string(key)? {
            Some(text) if resp::integer(&text).is_some() => "int",
            Some(text) if text.len() <= EMBSTR_BYTES_MAX => "embstr",
            _ => "raw",
        });
    };
    let packed = |entries: &Threshold, value: &Threshold| Small {
        entries: u64::try_from(entries.get()).unwrap_or(0),
        bytes: usize::try_from(value.get()).unwrap_or(0),
    };
    Ok(match at.kind {
        Type::Hash if fits(view, key, &at, packed(&HASH_ENTRIES, &HASH_VALUE))? => "listpack",
        Type::Zset if fits(view, key, &at, packed(&ZSET_ENTRIES, &ZSET_VALUE))? => "listpack",
        Type::Zset => "skiplist",
        Type::Set if integers(view, key, &at)? => "intset",
        Type::Set if fits(view, key, &at, packed(&SET_ENTRIES, &SET_VALUE))? => "listpack",
        Type::List if list_fits(view, key, &at)? => "listpack",
        Type::List => "quicklist",
        Type::Stream => "stream",
        Type::Hash | Type::Set | Type::String => "hashtable",
    })
}

/// What a small collection is.
struct Small {
    entries: u64,
    bytes: usize,
}

/// Whether `holds` for all entries of a collection of at most so many.
fn all(
    view: &mut View<'_>,
    key: Key<'_>,
    at: &Collection,
    entries_max: u64,
    mut holds: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<bool, Fail> {
    if at.size > entries_max.min(LOOKED_AT_MAX) {
        return Ok(false);
    }
    let ends = (Bound::Unbounded, Bound::Unbounded);
    let mut entries = view.iterate(Cf::Data, key, at.version, ends.0, ends.1, Direction::Up)?;
    while let Some((subkey, value)) = entries.step()? {
        if !holds(subkey, value) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fits(view: &mut View<'_>, key: Key<'_>, at: &Collection, small: Small) -> Result<bool, Fail> {
    // A sorted set's values are scores, which have their own size.
    let values = at.kind == Type::Hash;
    all(view, key, at, small.entries, |subkey, value| {
        subkey.len() <= small.bytes && (!values || value.len() <= small.bytes)
    })
}

fn integers(view: &mut View<'_>, key: Key<'_>, at: &Collection) -> Result<bool, Fail> {
    let most = u64::try_from(SET_INTEGERS.get()).unwrap_or(0);
    all(view, key, at, most, |member, _| resp::integer(member).is_some())
}

/// A positive size is a number of elements, a negative one a number of bytes: 4 KiB for -1, twice
/// as many for each further one.
fn list_fits(view: &mut View<'_>, key: Key<'_>, at: &Collection) -> Result<bool, Fail> {
    const LEAST_BYTES: usize = 4 << 10;
    const DEFAULT_BYTES: usize = 8 << 10;
    let size = LIST_SIZE.get();
    let (entries, bytes) = match size {
        1.. => (size.unsigned_abs(), DEFAULT_BYTES),
        _ => (LOOKED_AT_MAX, LEAST_BYTES << (size.unsigned_abs().clamp(1, 5) - 1)),
    };
    let mut total = 0;
    all(view, key, at, entries, |_, element| {
        total += element.len();
        total <= bytes
    })
}
