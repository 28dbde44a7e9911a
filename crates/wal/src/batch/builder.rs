//! Writes the bytes of a batch.

use keyspace::Cf;

use super::HEADER;
use super::reader::tag;
use crate::Sequence;

/// Builds a batch in a buffer of its own.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new(Sequence(0))
    }
}

impl BatchBuilder {
    /// An empty batch whose first record has this sequence. A batch that is handed to RocksDB to
    /// write gets its sequence there.
    pub fn new(sequence: Sequence) -> Self {
        let mut bytes = Vec::with_capacity(256);
        begin(&mut bytes, sequence);
        Self { bytes, count: 0 }
    }

    /// Sets a key.
    pub fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> &mut Self {
        head(&mut self.bytes, cf, tag::PUT, tag::CF_PUT);
        slice(&mut self.bytes, key);
        slice(&mut self.bytes, value);
        self.counted()
    }

    /// Removes a key.
    pub fn delete(&mut self, cf: Cf, key: &[u8]) -> &mut Self {
        head(&mut self.bytes, cf, tag::DELETE, tag::CF_DELETE);
        slice(&mut self.bytes, key);
        self.counted()
    }

    /// Removes the keys from `begin` up to `end`, which is not included.
    pub fn delete_range(&mut self, cf: Cf, begin: &[u8], end: &[u8]) -> &mut Self {
        delete_range(&mut self.bytes, cf, begin, end);
        self.counted()
    }

    /// Adds bytes that are in the log only; they use no sequence.
    pub fn log_data(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.push(tag::LOG_DATA);
        slice(&mut self.bytes, data);
        self
    }

    /// How many records there are, log data not counted.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The size of the batch so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The batch.
    pub fn finish(mut self) -> Vec<u8> {
        set_count(&mut self.bytes, self.count);
        self.bytes
    }

    fn counted(&mut self) -> &mut Self {
        self.count += 1;
        self
    }
}

/// Appends the header of a batch with no record yet.
pub(super) fn begin(out: &mut Vec<u8>, sequence: Sequence) {
    out.extend_from_slice(&sequence.0.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
}

/// Writes the count into the header at the start of `batch`.
pub(super) fn set_count(batch: &mut [u8], count: u32) {
    batch[8..HEADER].copy_from_slice(&count.to_le_bytes());
}

/// Appends a range delete.
pub(super) fn delete_range(out: &mut Vec<u8>, cf: Cf, begin: &[u8], end: &[u8]) {
    head(out, cf, tag::DELETE_RANGE, tag::CF_DELETE_RANGE);
    slice(out, begin);
    slice(out, end);
}

/// The tag, and the id of the column family where that is not the default one.
fn head(out: &mut Vec<u8>, cf: Cf, default: u8, named: u8) {
    if cf.id() == 0 {
        out.push(default);
    } else {
        out.push(named);
        varint(out, cf.id());
    }
}

fn slice(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("RocksDB's keys and values are below 4 GiB");
    varint(out, len);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
