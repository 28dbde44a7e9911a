//! How far a group has read: which one of all entries that were ever added it has come to.

use keyspace::stream::{Header, StreamId};

use super::group::Group;

impl Group<'_> {
    /// Counts an entry that is delivered for the first time, as far as its place among all that were
    /// ever added is known.
    pub(super) fn advance(&mut self, header: &Header, id: StreamId) {
        if id <= self.record.last {
            return;
        }
        self.record.read = match self.record.read {
            Some(read) if !has_gap_from(header, id) => Some(read.saturating_add(1)),
            read if header.added == 0 => read,
            _ => place(header, id),
        };
        self.record.last = id;
    }

    /// How many entries are still to be delivered, if that is known.
    pub(super) fn lag(&self, header: &Header) -> Option<i64> {
        if header.added == 0 {
            return Some(0);
        }
        let read = match self.record.read {
            Some(read) if !has_gap_from(header, self.record.last) => Some(read),
            _ => place(header, self.record.last),
        };
        read.map(|read| header.added.cast_signed().wrapping_sub(read.cast_signed()))
    }
}

/// Whether XDEL may have deleted an entry from this id on.
fn has_gap_from(header: &Header, id: StreamId) -> bool {
    let Header { length, first, max_deleted, .. } = *header;
    length > 0 && max_deleted != StreamId::MIN && first <= max_deleted && id <= max_deleted
}

/// Which one of all entries that were ever added has this id, or would be the last before it; `None`
/// if that cannot be told.
pub(super) fn place(header: &Header, id: StreamId) -> Option<u64> {
    let Header { length, added, first, last, max_deleted, .. } = *header;
    if added == 0 {
        return Some(0);
    }
    if length == 0 && id <= last || id == last {
        return Some(added);
    }
    let whole = max_deleted == StreamId::MIN || max_deleted < first;
    if id > last || !whole || id > first {
        return None;
    }
    Some(added.saturating_sub(length) + u64::from(id == first))
}
