//! The slots of a cluster's shards, from how many there are to be.

use keyspace::{SLOTS, SlotSet};
use topology::Record;
use topology::record::Cluster;

/// So many shards of equal size (one slot more or less).
fn equal(shards: u16) -> Vec<SlotSet> {
    let bound = |n: u16| u32::from(n) * u32::from(SLOTS) / u32::from(shards);
    let range = |n| format!("{}-{}", bound(n), bound(n + 1) - 1);
    let slots = (0..shards).map(|n| range(n).parse());
    slots.map(|slots| slots.expect("a range of slots in order")).collect()
}

/// The slots of each primary, in order of their shards.
fn present(record: &Record) -> Vec<SlotSet> {
    record.primaries.iter().filter_map(|p| record.slots_of(p).cloned()).collect()
}

/// A cluster of so many shards. As many as there are now have the slots of now, so that a seed is a
/// checkpoint and not a copy record by record.
pub(crate) fn of(record: &Record, shards: u16) -> Cluster {
    let now = present(record);
    with(if now.len() == usize::from(shards) { now } else { equal(shards) })
}

/// A cluster of shards with these slots.
pub(crate) fn with(slots: Vec<SlotSet>) -> Cluster {
    Cluster::of(slots)
}

/// Whether a cluster has the shape of the primaries.
pub(crate) fn is_same(record: &Record, cluster: &Cluster) -> bool {
    let slots: Vec<_> = cluster.shards.iter().map(|s| s.slots.clone()).collect();
    present(record) == slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_equal_size_hold_each_slot_once() {
        for shards in [1, 2, 3, 7, 60, 1024] {
            let slots = equal(shards);
            assert_eq!(slots.len(), usize::from(shards));
            let all = slots.iter().fold(SlotSet::default(), |all, s| all.union(s));
            assert_eq!(all, SlotSet::all());
            assert_eq!(slots.iter().map(SlotSet::len).sum::<usize>(), usize::from(SLOTS));
            let sizes: Vec<_> = slots.iter().map(SlotSet::len).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }
}
