//! The keys of the `system` column family: what a node knows about itself. Never applied elsewhere,
//! seeded, exported or flushed. Values are JSON but for [`CLOCK`] and the marks. Listed in
//! `docs/formats.md`, "Node-local state".

use crate::Hlc;

/// The timelines of the node's log: `wal::History`.
pub const TIMELINES: &[u8] = b"timelines";
/// What the node is: role, epoch, the end of what it wrote as a primary.
pub const STANDING: &[u8] = b"standing";
/// A stamp that none given so far is above: eight bytes, big endian. Written ahead, in the log
/// before any record that uses a stamp near it.
pub const CLOCK: &[u8] = b"clock";
/// The stamp of the last heartbeat: eight bytes, big endian.
pub const HEARTBEAT: &[u8] = b"heartbeat";
/// The last barrier's id: sixteen bytes, big endian.
pub const BARRIER: &[u8] = b"barrier";
/// The marker of the last reclaim view or its release: sixteen bytes, big endian.
pub const VIEW: &[u8] = b"view";
/// Up to where space was reclaimed: synced before a reclaim view is used.
pub const RECLAIMED: &[u8] = b"reclaimed";

/// The load that is being taken in: `admin::Intent`. Only between its intent and its done batch.
pub const LOAD: &[u8] = b"load";
/// In a done batch: the first sequence that taking in a load consumed, and how many, eight bytes
/// each, big endian.
pub const CONSUMED: &[u8] = b"consumed";
/// How far a directory has been restored, until a node opens it.
pub const RESTORED: &[u8] = b"restored";

const APPLIED: &str = "applied/";
const LOADED: &str = "loaded/";

/// The key of how far the node is with a source, by the source's name (`a/0`).
pub fn applied(source: &str) -> Vec<u8> {
    format!("{APPLIED}{source}").into_bytes()
}

/// The source's name, if this is a key of [`applied`].
pub fn applied_source(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix(APPLIED)
}

/// The key of what is remembered of a load that was taken in, by its id.
pub fn loaded(id: &str) -> Vec<u8> {
    format!("{LOADED}{id}").into_bytes()
}

/// The load's id, if this is a key of [`loaded`]. What was loaded is a fact about the data: a node
/// that gets its data from elsewhere keeps these records of it.
pub fn loaded_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix(LOADED)
}

/// The value of [`CLOCK`] and of [`HEARTBEAT`].
pub const fn encode_stamp(stamp: Hlc) -> [u8; 8] {
    stamp.0.to_be_bytes()
}

/// Reads what [`encode_stamp`] wrote.
pub fn decode_stamp(value: &[u8]) -> Option<Hlc> {
    Some(Hlc(u64::from_be_bytes(value.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_stamps_read_back() {
        assert_eq!(applied_source(&applied("a/0")), Some("a/0"));
        assert_eq!(applied_source(TIMELINES), None);
        let stamp = Hlc::new(1_700_000_000_000, 7);
        assert_eq!(decode_stamp(&encode_stamp(stamp)), Some(stamp));
        assert_eq!(decode_stamp(b"short"), None);
    }
}
