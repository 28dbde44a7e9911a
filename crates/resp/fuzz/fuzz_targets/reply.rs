//! Any bytes as replies: no panic; what parses is as long as what was measured.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resp::reply::{Reply, scan};

fuzz_target!(|bytes: &[u8]| {
    let measured = scan(bytes);
    if let Ok(Some((_, length))) = Reply::parse(bytes) {
        assert_eq!(measured, Ok(Some(length)));
    }
});
