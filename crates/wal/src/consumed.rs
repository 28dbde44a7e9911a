//! Holes in a log that are none: sequences that RocksDB used without a record of them in its log,
//! when a node took in the files of a load. The batch after them says so.

use keyspace::{Cf, system};

use crate::batch::{BatchRef, Record};
use crate::{Kind, Sequence};

/// The most sequences that taking in one load may consume: RocksDB uses one for each run of files
/// that overlap, and a crash may have it done again.
const CONSUMED_MAX: u32 = 1 << 20;

/// Sequences that a load consumed, between the batch that announced it and the batch that says this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The first of them: the one after the batch that announced the load.
    pub first: Sequence,
    /// How many; 0 where RocksDB needed none.
    pub count: u32,
}

impl Consumed {
    /// What a batch says was consumed before it; `None` for one that does not follow on a load, or
    /// whose words do not lead up to it.
    pub fn before(batch: &BatchRef<'_>) -> Option<Self> {
        let says = batch.tags().any(|tag| tag.is_ok_and(|tag| tag.kind == Kind::Loaded));
        if !says {
            return None;
        }
        let value = batch.records().find_map(|record| match record {
            Record::Put { cf: Cf::System, key: system::CONSUMED, value } => Some(value),
            _ => None,
        })?;
        let consumed = Self::decode(value)?;
        let end = consumed.first.advance(u64::from(consumed.count))?;
        (end == batch.sequence()).then_some(consumed)
    }

    /// The value of [`system::CONSUMED`].
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.first.0.to_be_bytes());
        out[8..].copy_from_slice(&u64::from(self.count).to_be_bytes());
        out
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (first, count) = value.split_first_chunk::<8>()?;
        let count = u64::from_be_bytes(count.try_into().ok()?);
        let count = u32::try_from(count).ok().filter(|count| *count <= CONSUMED_MAX)?;
        Some(Self { first: Sequence(u64::from_be_bytes(*first)), count })
    }

    /// From the end of the batch that announced a load to the end of the tree; `None` if that is
    /// more than any load consumes.
    pub fn between(announced: Sequence, now: Sequence) -> Option<Self> {
        let count = u32::try_from(now.0.checked_sub(announced.0)?).ok()?;
        (count <= CONSUMED_MAX).then_some(Self { first: announced.next(), count })
    }
}

#[cfg(test)]
mod tests {
    use keyspace::Hlc;

    use super::*;
    use crate::Tag;
    use crate::batch::BatchBuilder;

    fn done(kind: Kind, at: u64, consumed: Consumed) -> Vec<u8> {
        let mut batch = BatchBuilder::new(Sequence(at));
        batch.put(Cf::System, system::CONSUMED, &consumed.encode());
        let tag = Tag { kind, origin: 1, epoch: 1, stamp: Hlc(9), marker: 7 };
        batch.log_data(&tag.encode());
        batch.finish()
    }

    #[test]
    fn a_hole_is_explained_by_the_batch_that_follows_it_and_by_no_other() {
        let consumed = Consumed { first: Sequence(11), count: 3 };
        let said =
            |kind, at| Consumed::before(&BatchRef::parse(&done(kind, at, consumed)).unwrap());
        assert_eq!(said(Kind::Loaded, 14), Some(consumed));
        assert_eq!(said(Kind::Loaded, 15), None);
        assert_eq!(said(Kind::Data, 14), None);
        let many = Consumed { first: Sequence(11), count: CONSUMED_MAX + 1 };
        let at = 11 + u64::from(many.count);
        assert_eq!(
            Consumed::before(&BatchRef::parse(&done(Kind::Loaded, at, many)).unwrap()),
            None
        );
        assert_eq!(Consumed::between(Sequence(10), Sequence(13)), Some(consumed));
        assert_eq!(Consumed::between(Sequence(10), Sequence(9)), None);
    }
}
