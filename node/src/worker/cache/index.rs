//! Where records are in the arena, by hash: buckets of one cache line, so that a look costs one.
//!
//! Nothing is ever moved to make room, so no insertion takes long; what a bucket has no room for goes
//! to one of the next, and is lost to the cache where they are full too.

use super::pages;

/// Places of a bucket.
const WAYS: usize = 10;
/// Words of a bucket: the places, their tags by twos, and how many of its records are elsewhere.
const WORDS: usize = 16;
/// Buckets that a record may be in.
const PROBES: u32 = 4;
const OVERFLOW: usize = WORDS - 1;

/// A hash table of a fixed size. A place is any number but `u32::MAX`.
#[derive(Default)]
pub(super) struct Index {
    words: Vec<u32>,
    /// Words before the first whole cache line.
    skew: usize,
    buckets: u32,
}

impl Index {
    /// Bytes of a bucket.
    pub(super) const BUCKET_BYTES: usize = WORDS * 4;

    /// So many buckets; their memory is used as they are.
    pub(super) fn new(buckets: u32) -> Self {
        let mut words = vec![0; (buckets as usize + 1) * WORDS];
        pages::large(&mut words);
        let line = Self::BUCKET_BYTES;
        let skew = (line - words.as_ptr().addr() % line) % line / 4;
        Self { words, skew, buckets }
    }

    /// Takes its memory at once.
    pub(super) fn take(&mut self) {
        pages::take(&mut self.words);
    }

    /// The start of the bucket that a record with this hash is in after so many others.
    fn bucket(&self, hash: u64, step: u32) -> usize {
        let home = (((hash >> 32) * u64::from(self.buckets)) >> 32) as u32;
        self.skew + (home + step) as usize % self.buckets as usize * WORDS
    }

    fn has_tag(&self, bucket: usize, way: usize, tag: u16) -> bool {
        (self.words[bucket + WAYS + way / 2] >> (way % 2 * 16)) as u16 == tag
    }

    /// The place of a record with this hash that `is` the right one.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut found = None;
        self.look(hash, |place| {
            let right = is(place);
            found = right.then_some(place);
            right
        });
        found
    }

    /// Where in `words` the place is that `is` the right one, and how far from home.
    fn look(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        if self.buckets == 0 {
            return None;
        }
        let home = self.bucket(hash, 0);
        let others = if self.words[home + OVERFLOW] == 0 { 1 } else { PROBES };
        for step in 0..others {
            let bucket = self.bucket(hash, step);
            for way in 0..WAYS {
                let at = bucket + way;
                if self.has_tag(bucket, way, hash as u16)
                    && self.words[at] != 0
                    && is(self.words[at] - 1)
                {
                    return Some((at, step));
                }
            }
        }
        None
    }

    /// Adds a place. An error: there is no room before this other one goes.
    pub(super) fn insert(&mut self, hash: u64, place: u32) -> Result<(), u32> {
        let home = self.bucket(hash, 0);
        for step in 0..PROBES {
            let bucket = self.bucket(hash, step);
            let free = (0..WAYS).find(|way| self.words[bucket + way] == 0);
            if let Some(way) = free {
                self.words[bucket + way] = place + 1;
                let (tags, shift) = (bucket + WAYS + way / 2, way % 2 * 16);
                let others = self.words[tags] & !(0xffff << shift);
                self.words[tags] = others | u32::from(hash as u16) << shift;
                self.words[home + OVERFLOW] += u32::from(step > 0);
                return Ok(());
            }
        }
        Err(self.words[home] - 1)
    }

    /// Takes a place out.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let home = self.bucket(hash, 0);
        if let Some((at, step)) = self.look(hash, |found| found == place) {
            self.words[at] = 0;
            self.words[home + OVERFLOW] -= u32::from(step > 0);
        }
    }

    /// A record has moved.
    pub(super) fn replace(&mut self, hash: u64, place: u32, new: u32) {
        if let Some((at, _)) = self.look(hash, |found| found == place) {
            self.words[at] = new + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of one home, and of one tag.
    const HASH: u64 = 7;

    #[test]
    fn what_a_bucket_has_no_room_for_is_found_in_the_next() {
        let mut index = Index::new(8);
        let room = WAYS as u32 * PROBES;
        for place in 0..room {
            assert_eq!(index.insert(HASH, place), Ok(()));
        }
        assert_eq!(index.insert(HASH, room), Err(0));
        for place in 0..room {
            assert_eq!(index.find(HASH, |found| found == place), Some(place));
        }
        index.remove(HASH, 3);
        assert_eq!(index.find(HASH, |found| found == 3), None);
        assert_eq!(index.insert(HASH, room), Ok(()));
        index.replace(HASH, room, 1_000);
        assert_eq!(index.find(HASH, |found| found == 1_000), Some(1_000));
        for place in (0..room).chain([1_000]) {
            index.remove(HASH, place);
        }
        assert!(index.words.iter().enumerate().all(|(at, word)| {
            *word == 0 || (at - index.skew) % WORDS >= WAYS && (at - index.skew) % WORDS != OVERFLOW
        }));
    }
}
