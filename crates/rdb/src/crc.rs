//! CRC-64 as Redis has it (`crc64.c`): Jones's polynomial, reflected, started at 0.

/// Tables for eight bytes at a time: the first one is the table for one byte.
const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u64 = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

static TABLES: [[u64; 256]; 8] = tables();

/// The checksum of these bytes behind others whose checksum is `crc` (0 where there are none).
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut crc = crc;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")) ^ crc;
        let folded = word.to_le_bytes().into_iter().zip(TABLES.iter().rev());
        crc = folded.fold(0, |crc, (byte, table)| crc ^ table[usize::from(byte)]);
    }
    let rest = words.remainder().iter();
    rest.fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn pieces_come_to_the_same(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100), at in 0usize..100,
        ) {
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let one_by_one = bytes.iter().fold(0, |crc, byte| crc64(crc, &[*byte]));
            assert_eq!(crc64(crc64(0, head), tail), one_by_one);
            assert_eq!(crc64(0, &bytes), one_by_one);
        }
    }

    #[test]
    fn it_is_redis_s() {
        // The check value of Redis's own crc64.c.
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
