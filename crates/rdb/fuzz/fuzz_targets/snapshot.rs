//! Any bytes as a snapshot: no panic, nothing longer than the bytes, parts that come to the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb::file::{Item, Reader};

fuzz_target!(|bytes: &[u8]| {
    let part_bytes = bytes.first().map_or(1, |byte| usize::from(*byte) + 1);
    let whole = [b"REDIS0012".as_slice(), bytes].concat();
    let Ok(mut reader) = Reader::with_parts(&whole[..], part_bytes) else { return };
    while let Ok(item) = reader.next_item() {
        match item {
            Item::Entry(entry) => {
                assert!(entry.body.len() <= whole.len() + 32);
                let _ = rdb::elements(&entry.body);
            }
            Item::End => return,
            _ => {}
        }
    }
});
