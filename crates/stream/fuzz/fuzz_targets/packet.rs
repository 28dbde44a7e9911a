//! Whatever a peer sends is a packet, an error, or not yet whole; never a panic.
#![no_main]

use bytes::BytesMut;
use stream::message::Incoming;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    while let Ok(Some(packet)) = stream::wire::take(&mut buf) {
        let _ = Incoming::of(packet);
    }
});
