//! Any bytes as every form: no panic, no entry that is longer than the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for entries in [packed::listpack(bytes), packed::ziplist(bytes), packed::zipmap(bytes)] {
        let entries = entries.unwrap_or_default();
        assert!(entries.iter().all(|entry| entry.len() <= bytes.len().max(20)));
    }
    let _ = packed::intset(bytes);
    let length = bytes.first().map_or(0, |byte| usize::from(*byte) * 8);
    if let Ok(text) = packed::lzf(bytes, length) {
        assert_eq!(text.len(), length);
    }
});
