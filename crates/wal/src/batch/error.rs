//! Why a batch is refused.

/// A batch that cannot be used. Nothing of it has been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a batch's header.
    #[error("a batch of {0} bytes, shorter than the 12 of its header: the log is damaged")]
    Short(usize),
    /// Sequences that RocksDB cannot hold.
    #[error(
        "a batch of {count} records at sequence {sequence}: past RocksDB's greatest sequence, the log is damaged"
    )]
    Sequence {
        /// The sequence of its header.
        sequence: u64,
        /// The count of its header.
        count: u32,
    },
    /// A header that counts other records than there are.
    #[error("a batch that says it has {said} records and has {found}: the log is damaged")]
    Count {
        /// What the header says.
        said: u32,
        /// What there is.
        found: u32,
    },
    /// A length that leads past the end of the batch.
    #[error("a record of a batch is cut off at byte {offset}: the log is damaged")]
    Cut {
        /// Where the record begins.
        offset: usize,
    },
    /// A record that RocksDB knows and Godwit does not ship.
    #[error(
        "a batch holds a record of type {tag} ({name}) at byte {offset}, which Godwit does not \
         ship: the database is written with an option or a program that Godwit does not support"
    )]
    Unsupported {
        /// The tag byte.
        tag: u8,
        /// RocksDB's name for it.
        name: &'static str,
        /// Where the record begins.
        offset: usize,
    },
    /// A record type that this version has never heard of.
    #[error(
        "a batch holds a record of unknown type {tag} at byte {offset}: the log is damaged, or \
         from a later RocksDB; upgrade this program"
    )]
    Unknown {
        /// The tag byte.
        tag: u8,
        /// Where the record begins.
        offset: usize,
    },
    /// A column family that no node creates.
    #[error(
        "a batch changes column family {id}, which no node creates: another program writes to this \
         database, or a later version did; upgrade this program"
    )]
    Family {
        /// The id.
        id: u32,
        /// Where the record begins.
        offset: usize,
    },
    /// A key of a shipped column family that does not begin with a slot.
    #[error(
        "a batch changes a key that begins with no slot, in record {record}: another program writes to this database"
    )]
    NoSlot {
        /// Which record of the batch, from 0.
        record: usize,
    },
}
