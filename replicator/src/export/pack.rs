//! Packing pieces, where that is worth it: blocks of table files are compressed already, often.

/// What of a piece is tried first.
const SAMPLES: usize = 4;
/// The bytes of each.
const SAMPLE_BYTES: usize = 16 << 10;
/// Packed bytes of a thousand above which a piece is sent as it is.
const WORTH_PERMILLE: usize = 970;
/// More effort finds little more in what a database has compressed, and costs its node's machine.
const LEVEL: i32 = 1;

/// The bytes to send, and whether they are one Zstandard frame.
pub(super) fn pack(plain: Vec<u8>) -> (bool, Vec<u8>) {
    if permille(&plain) > WORTH_PERMILLE {
        return (false, plain);
    }
    match zstd::bulk::compress(&plain, LEVEL) {
        Ok(packed) if packed.len() * 1000 < plain.len() * WORTH_PERMILLE => (true, packed),
        _ => (false, plain),
    }
}

/// What a sample of these bytes takes when it is packed, of a thousand.
pub(super) fn permille(plain: &[u8]) -> usize {
    if plain.len() <= SAMPLES * SAMPLE_BYTES {
        // As short as a sample: it is packed, and seen then.
        return 0;
    }
    let step = (plain.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    let packed: usize = (0..SAMPLES)
        .map(|n| &plain[n * step..n * step + SAMPLE_BYTES])
        .map(|sample| zstd::bulk::compress(sample, LEVEL).map_or(SAMPLE_BYTES, |p| p.len()))
        .sum();
    packed * 1000 / (SAMPLES * SAMPLE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packs_is_packed_and_what_does_not_is_sent_as_it_is() {
        let text = b"godwit ".repeat(100_000);
        let (is_zstd, packed) = pack(text.clone());
        assert!(is_zstd && packed.len() < text.len() / 10);
        assert_eq!(zstd::bulk::decompress(&packed, text.len()).unwrap(), text);
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..700_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(pack(noise.clone()), (false, noise.clone()));
        // Short ones are no exception.
        assert_eq!(pack(noise[..100].to_vec()), (false, noise[..100].to_vec()));
        assert!(pack(text[..1000].to_vec()).0 && !pack(Vec::new()).0);
    }
}
