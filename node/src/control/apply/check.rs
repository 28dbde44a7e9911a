//! What a frame may hold.

use keyspace::{Slot, SlotSet};
use wal::batch::Record;
use wal::frame::FrameBatch;

/// A target never holds slots that it does not own.
pub(super) fn check_slots(batch: &FrameBatch<'_>, slots: &SlotSet) -> Result<(), String> {
    let stranger = |slot: Option<Slot>| {
        let slot = slot.map_or("beyond the last".to_owned(), |slot| slot.to_string());
        format!("a record of slot {slot}, which this node does not hold")
    };
    for record in batch.batch.records() {
        match record {
            Record::Put { key, .. } | Record::Delete { key, .. } => {
                let slot = Slot::of_encoded(key);
                if !keyspace::shard::is_of_shard(key)
                    && !slot.is_some_and(|slot| slots.contains(slot))
                {
                    return Err(stranger(slot));
                }
            }
            Record::DeleteRange { begin, end, .. } => {
                let (first, last) = (Slot::of_encoded(begin), last_touched(end));
                let (Some(first), Some(last)) = (first, last) else { return Err(stranger(None)) };
                let held = |range: &keyspace::SlotRange| range.first <= first && last <= range.last;
                if begin < end && !slots.ranges().iter().any(held) {
                    return Err(stranger(Some(first)));
                }
            }
            Record::SingleDelete { .. } | Record::Merge { .. } => {
                return Err("a record that no node of this version writes".to_owned());
            }
            Record::LogData(_) => {}
        }
    }
    Ok(())
}

/// The last slot with keys below `end`, which is not included.
fn last_touched(end: &[u8]) -> Option<Slot> {
    let (prefix, rest) = end.split_first_chunk::<2>()?;
    let number = u16::from_be_bytes(*prefix);
    Slot::new(if rest.is_empty() { number.checked_sub(1)? } else { number })
}
