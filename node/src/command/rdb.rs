//! Redis's serialised values (crate [`rdb`](::rdb)), and libraries of functions as FUNCTION DUMP gives
//! them.

pub(super) use ::rdb::Form;
pub(super) use ::rdb::payload::{Dump, Load};

/// A library of functions, with the name of its engine in its text (Redis: `RDB_OPCODE_FUNCTION2`).
const LIBRARY: u8 = 245;

/// Libraries of functions, as FUNCTION DUMP gives them.
pub(crate) fn dump_libraries<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut dump = Dump::part();
    for text in texts {
        dump.bytes(&[LIBRARY]);
        dump.string(text);
    }
    dump.end()
}

/// The texts that FUNCTION RESTORE is given, or what is wrong with them.
pub(crate) fn load_libraries(bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut load = Load::new(bytes).ok_or("DUMP payload version or checksum are wrong")?;
    let mut texts = Vec::new();
    while load.end().is_none() {
        if load.number::<1>() != Some([LIBRARY]) {
            return Err("given type is not a function");
        }
        texts.push(load.string().ok_or("Failed loading library payload")?);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_back() {
        let texts = [&b"one"[..], b"two"];
        let mut bytes = dump_libraries(texts.into_iter());
        assert_eq!(load_libraries(&bytes), Ok(texts.map(<[u8]>::to_vec).to_vec()));
        assert_eq!(load_libraries(&dump_libraries(std::iter::empty())), Ok(vec![]));
        bytes[2] ^= 1;
        assert!(load_libraries(&bytes).is_err());
        assert_eq!(
            load_libraries(&Dump::new(Form::Set).end()),
            Err("given type is not a function")
        );
    }

    proptest::proptest! {
        /// Whatever the bytes are: the checksum says nothing of who made them.
        #[test]
        fn no_sealed_bytes_panic(
            form in 0usize..Form::ALL.len(),
            mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..120),
            known in 0usize..4, at in 0usize..40,
        ) {
            // Some that are nearly right get further.
            let bodies: [&[u8]; 4] = [
                &bytes.clone(),
                b"\x1d\x1d\0\0\0\x04\0\x85field\x06\x01\x01\x84text\x05\x85value\x06\xff",
                b"\x14\x14\0\0\0\x0f\0\0\0\x03\0\0\x01a\x03\xf3\x02\xc0\xd4\xfe\xff",
                b"\xc3\x10\x40\x50\x08abcdefgha\xe0\x3c\x07\x01gh",
            ];
            let mut body = bodies[known].to_vec();
            let index = at % body.len();
            body[index] = bytes[0];
            bytes = vec![Form::ALL[form] as u8];
            bytes.extend_from_slice(&body);
            let sealed = ::rdb::payload::seal(bytes);
            let mut load = Load::new(&sealed).unwrap();
            let _ = super::super::dump::read(&mut load);
        }
    }
}
