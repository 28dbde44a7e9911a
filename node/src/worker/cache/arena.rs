//! Records one after the other in a ring of bytes: the newest at one end, the oldest at the other,
//! which makes room. An old record that was asked for is put to the newest again, once.

/// A record's place and size are counted in units of so many bytes.
const UNIT: usize = 8;
/// Size in units, length of the value, upper half of the hash, its tag, length of the key, flags.
const HEADER: usize = 17;
const FLAGS: usize = HEADER - 1;
/// Old records that are kept for having been asked for, each time that room is made.
const KEPT_MAX: usize = 8;

const VISITED: u8 = 1;
const ABSENT: u8 = 2;
const DEAD: u8 = 4;
const FAMILY_SHIFT: u8 = 4;

/// A ring of records.
#[derive(Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// The oldest record.
    head: u32,
    /// Where the next one goes.
    tail: u32,
    /// Where the records end that are not before the tail; only where it is behind the head.
    end: u32,
    wrapped: bool,
}

/// What a record is, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'k> {
    pub(super) hash: u64,
    /// Which column family.
    pub(super) family: u8,
    pub(super) key: &'k [u8],
}

/// A record that is to go.
pub(super) struct Oldest {
    pub(super) place: u32,
    /// Forgotten already.
    pub(super) dead: bool,
}

impl Arena {
    /// So many bytes; their memory is used as they are.
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).min(u32::MAX as usize - 1);
        // It fills from one end to the other: small pages, each of which is there in no time.
        Self { bytes: vec![0; units * UNIT], ..Self::default() }
    }

    fn units(&self) -> u32 {
        (self.bytes.len() / UNIT) as u32
    }

    /// The size of a record, in units; `None`: it is too great to be kept.
    pub(super) fn size_of(bytes: usize, name: &Name<'_>, value: usize) -> Option<u32> {
        const PART: usize = 16;
        let size = HEADER + name.key.len() + value;
        let fits = name.key.len() <= usize::from(u16::MAX) && size <= bytes / PART;
        fits.then_some(size.div_ceil(UNIT) as u32)
    }

    fn header(&self, place: u32) -> &[u8; HEADER] {
        let header = self.bytes[place as usize * UNIT..].first_chunk();
        header.expect("a place is that of a record")
    }

    fn flags(&mut self, place: u32) -> &mut u8 {
        &mut self.bytes[place as usize * UNIT + FLAGS]
    }

    fn number(&self, place: u32, at: usize) -> u32 {
        let header = self.header(place);
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    }

    fn size(&self, place: u32) -> u32 {
        self.number(place, 0)
    }

    fn half(&self, place: u32, at: usize) -> u16 {
        let header = self.header(place);
        u16::from_le_bytes([header[at], header[at + 1]])
    }

    fn key_len(&self, place: u32) -> usize {
        usize::from(self.half(place, 14))
    }

    /// The hash of a record as far as an index needs it.
    pub(super) fn hash(&self, place: u32) -> u64 {
        u64::from(self.number(place, 8)) << 32 | u64::from(self.half(place, 12))
    }

    pub(super) fn key(&self, place: u32) -> &[u8] {
        let from = place as usize * UNIT + HEADER;
        &self.bytes[from..from + self.key_len(place)]
    }

    /// The family of a record.
    pub(super) fn family(&self, place: u32) -> u8 {
        self.header(place)[FLAGS] >> FAMILY_SHIFT
    }

    pub(super) fn is(&self, place: u32, name: &Name<'_>) -> bool {
        self.family(place) == name.family && self.key(place) == name.key
    }

    /// Where the value is among the bytes; `None`: the record says that there is none.
    pub(super) fn value(&self, place: u32) -> Option<(usize, usize)> {
        if self.header(place)[FLAGS] & ABSENT != 0 {
            return None;
        }
        let from = place as usize * UNIT + HEADER + self.key_len(place);
        Some((from, from + self.number(place, 4) as usize))
    }

    pub(super) fn slice(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }

    pub(super) fn visit(&mut self, place: u32) {
        let flags = self.flags(place);
        // Most are visited already: a line that is only read stays shared with nobody waiting.
        if *flags & VISITED == 0 {
            *flags |= VISITED;
        }
    }

    pub(super) fn kill(&mut self, place: u32) {
        *self.flags(place) |= DEAD;
    }

    /// Writes another value where the old one is. False: it does not fit there.
    pub(super) fn overwrite(&mut self, place: u32, value: Option<&[u8]>) -> bool {
        let len = value.map_or(0, <[u8]>::len);
        let room = self.size(place) as usize * UNIT - HEADER - self.key_len(place);
        // Room for twice as much would be wasted.
        if len > room || value.is_some() && room > len * 2 + HEADER {
            return false;
        }
        let from = place as usize * UNIT + HEADER + self.key_len(place);
        self.bytes[from..from + len].copy_from_slice(value.unwrap_or_default());
        let start = place as usize * UNIT;
        self.bytes[start + 4..start + 8].copy_from_slice(&(len as u32).to_le_bytes());
        let flags = self.flags(place);
        *flags = *flags & !ABSENT | if value.is_none() { ABSENT } else { 0 };
        true
    }

    /// Adds a record if there is room for its size; the place that it has then.
    pub(super) fn append(
        &mut self,
        name: &Name<'_>,
        value: Option<&[u8]>,
        size: u32,
    ) -> Option<u32> {
        if !self.wrapped && self.units() - self.tail < size {
            (self.end, self.tail, self.wrapped) = (self.tail, 0, true);
        }
        let free = if self.wrapped { self.head - self.tail } else { self.units() - self.tail };
        if free < size {
            return None;
        }
        let place = self.tail;
        self.tail += size;
        let bytes = value.unwrap_or_default();
        let start = place as usize * UNIT;
        let record = &mut self.bytes[start..start + size as usize * UNIT];
        record[0..4].copy_from_slice(&size.to_le_bytes());
        record[4..8].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        record[8..12].copy_from_slice(&((name.hash >> 32) as u32).to_le_bytes());
        record[12..14].copy_from_slice(&(name.hash as u16).to_le_bytes());
        record[14..16].copy_from_slice(&(name.key.len() as u16).to_le_bytes());
        record[FLAGS] = name.family << FAMILY_SHIFT | if value.is_none() { ABSENT } else { 0 };
        let after = HEADER + name.key.len();
        record[HEADER..after].copy_from_slice(name.key);
        record[after..after + bytes.len()].copy_from_slice(bytes);
        Some(place)
    }

    /// The record to go next, after those before it that are kept have moved; `None`: try again to
    /// append before any goes. `moved` is told of each: hash, old place, new place.
    pub(super) fn oldest(&mut self, mut moved: impl FnMut(u64, u32, u32)) -> Option<Oldest> {
        for kept in 0.. {
            if self.wrapped && self.head == self.end {
                (self.head, self.wrapped) = (0, false);
            }
            // There may be room at the end again.
            if !self.wrapped {
                return None;
            }
            let place = self.head;
            let flags = *self.flags(place);
            if flags & DEAD != 0 || flags & VISITED == 0 || kept >= KEPT_MAX {
                return Some(Oldest { place, dead: flags & DEAD != 0 });
            }
            *self.flags(place) &= !VISITED;
            let (hash, size) = (self.hash(place), self.size(place));
            let from = place as usize * UNIT;
            let to = self.tail as usize * UNIT;
            self.bytes.copy_within(from..from + size as usize * UNIT, to);
            moved(hash, place, self.tail);
            self.tail += size;
            self.head += size;
        }
        None
    }

    /// Lets the oldest record go.
    pub(super) fn drop_oldest(&mut self) {
        self.head += self.size(self.head);
    }
}
