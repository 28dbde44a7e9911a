//! Finding table files that are mostly garbage: RocksDB compacts by size and age, and knows nothing
//! of what the filters would drop.

use std::collections::BTreeMap;

use keyspace::data::{self, DataKey};
use keyspace::{Cf, Slot};
use rand::Rng;
use rocksdb::{BottommostLevelCompaction, CompactOptions, LiveFile, ReadOptions};

use super::Reclaim;
use crate::store::Store;

/// Records of a file that are looked at, at most: its first, its last, and some between.
const SAMPLES: usize = 16;
/// Where the search is in the files.
#[derive(Debug, Default)]
pub struct Search {
    files: Vec<LiveFile>,
}

impl Store {
    /// Looks at the next table file of data, and compacts it if it is mostly garbage by the view in
    /// use. Blocks for as long as that takes. True: it was.
    pub fn reclaim_next_file(&self, search: &mut Search) -> Result<bool, rocksdb::Error> {
        if !self.reclaim.is_on() || self.is_latched() {
            search.files.clear();
            return Ok(false);
        }
        if search.files.is_empty() {
            search.files = self.db.live_files()?;
        }
        let families = [Cf::Data, Cf::Score];
        while let Some(file) = search.files.pop() {
            let cf = families.into_iter().find(|cf| cf.name() == file.column_family_name);
            let (Some(cf), Some(first), Some(last)) = (cf, &file.start_key, &file.end_key) else {
                continue;
            };
            if self.garbage_between(cf, first, last)? < file.size as u64 / 2 {
                return Ok(false);
            }
            let mut options = CompactOptions::default();
            options.set_exclusive_manual_compaction(false);
            options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            let range = (Some(first.as_slice()), Some(last.as_slice()));
            self.db.compact_range_cf_opt(self.cf(cf), range.0, range.1, &options);
            tracing::debug!(file = file.name, size = file.size, "compacted for its garbage");
            return Ok(true);
        }
        Ok(false)
    }

    /// About how many bytes between two keys are garbage: each collection that is met counts with
    /// its size, and the part of the others that those are.
    fn garbage_between(&self, cf: Cf, first: &[u8], last: &[u8]) -> Result<u64, rocksdb::Error> {
        let after = [last, &[0]].concat();
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_iterate_upper_bound(after.clone());
        let mut records = self.db.raw_iterator_cf_opt(self.cf(cf), options);
        let slots = Slot::of_encoded(first).zip(Slot::of_encoded(last));
        let mut seen = BTreeMap::new();
        let (mut met, mut garbage) = (0, 0);
        for sample in 0..SAMPLES {
            match (sample, slots) {
                (0, _) => records.seek(first),
                (1, _) => records.seek(last),
                (_, Some((from, to))) if from < to => {
                    let slot = rand::rng().random_range(from.number() + 1..=to.number());
                    records.seek(slot.to_be_bytes());
                }
                _ => break,
            }
            records.status()?;
            let Some(Ok(record)) = records.key().map(DataKey::decode) else { continue };
            let mut prefix = Vec::new();
            data::encode_prefix(record.slot, record.key, record.version, &mut prefix);
            let is_garbage = self.reclaim.is_garbage(&record);
            (met, garbage) = (met + 1, garbage + u64::from(is_garbage));
            seen.insert(prefix, is_garbage);
        }
        // The records of one collection stand together, so that their size can be asked for.
        let size = |prefix: &Vec<u8>| {
            let end = [&prefix[..], &[u8::MAX; 8]].concat();
            let range = rocksdb::Range::new(prefix.as_slice().max(first), &end);
            self.db.get_approximate_sizes_cf(self.cf(cf), &[range]).first().copied().unwrap_or(0)
        };
        let all =
            self.db.get_approximate_sizes_cf(self.cf(cf), &[rocksdb::Range::new(first, &after)]);
        let all = all.first().copied().unwrap_or(0);
        let (mut known, mut known_garbage) = (0, 0);
        for (prefix, is_garbage) in &seen {
            let size = size(prefix);
            known += size;
            known_garbage += if *is_garbage { size } else { 0 };
        }
        let rest = all.saturating_sub(known);
        Ok(known_garbage + rest.saturating_mul(garbage) / u64::max(met, 1))
    }
}

impl Reclaim {
    /// Whether the view in use does not name the collection of a data or score record.
    fn is_garbage(&self, record: &DataKey<'_>) -> bool {
        let judged = self.view_of(record.slot, |view| {
            record.version < view.mark.bound
                && !view.names(record.slot, record.key, record.version, &mut Vec::new())
        });
        judged.unwrap_or(false)
    }
}
