//! Any bytes as commands: no panic, and the same commands however the bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resp::command::{Limits, Parser, parse};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { bulk_bytes: 4096, args: 64, inline_bytes: 256, command_bytes: 8192 };
    let mut whole = bytes.to_vec();
    let mut args = Vec::new();
    let expected = parse(&mut whole, &limits, &mut args);
    let mut parser = Parser::new();
    let mut again = Vec::new();
    let mut grown = Vec::new();
    for &byte in bytes {
        grown.push(byte);
        match parser.next(&mut grown, &limits, &mut again) {
            Ok(None) => {}
            found => {
                assert!(found == expected || expected.is_err() || found.is_err());
                if found.is_ok() && expected.is_ok() {
                    assert_eq!(args, again);
                }
                return;
            }
        }
    }
});
