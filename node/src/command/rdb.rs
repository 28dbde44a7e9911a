//! Redis's serialised values, as DUMP gives and RESTORE takes them: a type, the value, a version of
//! two bytes and a CRC-64 of eight, both little-endian (Redis: rdb.h, rdb.c, crc64.c).
//!
//! Written are the general forms, which every Redis reads, and streams as Redis 7.2 has them. Read is
//! what any Redis writes, up to 7.4.

/// RDB's version in Redis 7.4: later ones are not read.
const READ_VERSION_MAX: u16 = 12;
/// RDB's version in Redis 7.2, of which streams are written.
const STREAM_VERSION: u16 = 11;
/// RDB's version in Redis 5: what is written means the same since, and every later Redis reads it.
const WRITTEN_VERSION: u16 = 9;
/// The version and the checksum.
const FOOTER_BYTES: usize = 2 + 8;

/// A value's type in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    String = 0,
    List = 1,
    Set = 2,
    Hash = 4,
    /// Scores are doubles of eight bytes.
    Zset = 5,
    /// A stream as of Redis 5.
    Stream1 = 15,
    /// A stream as of Redis 7.0.
    Stream2 = 19,
    /// A stream as of Redis 7.2.
    Stream3 = 21,
    /// A hash with fields that expire, as of Redis 7.4: the earliest time, then for each field its
    /// time, counted from the one before that (0: never).
    HashFields = 24,
    /// A sorted set with scores as texts, up to Redis 3.2.
    ZsetText = 3,
    HashZipmap = 9,
    ListZiplist = 10,
    SetIntset = 11,
    ZsetZiplist = 12,
    HashZiplist = 13,
    /// Ziplists, as of Redis 3.2.
    ListQuicklist = 14,
    HashListpack = 16,
    ZsetListpack = 17,
    /// Listpacks and long elements, as of Redis 7.0.
    ListQuicklist2 = 18,
    SetListpack = 20,
    /// With a time behind each value, as of Redis 7.4.
    HashListpackTimes = 25,
}

impl Form {
    const ALL: [Self; 21] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::Hash,
        Self::Zset,
        Self::Stream1,
        Self::Stream2,
        Self::Stream3,
        Self::HashFields,
        Self::ZsetText,
        Self::HashZipmap,
        Self::ListZiplist,
        Self::SetIntset,
        Self::ZsetZiplist,
        Self::HashZiplist,
        Self::ListQuicklist,
        Self::HashListpack,
        Self::ZsetListpack,
        Self::ListQuicklist2,
        Self::SetListpack,
        Self::HashListpackTimes,
    ];
}

/// Jones's polynomial, reflected, as Redis has it.
const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

static TABLE: [u64; 256] = table();

fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// Writes a serialised value.
pub(super) struct Dump(Vec<u8>);

impl Dump {
    pub(super) fn new(form: Form) -> Self {
        Self(vec![form as u8])
    }

    /// A part of one, to be appended.
    pub(super) fn part() -> Self {
        Self(Vec::new())
    }

    pub(super) fn append(&mut self, part: &Self) {
        self.0.extend_from_slice(&part.0);
    }

    #[cfg(test)]
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes as they are, without their length.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn length(&mut self, length: u64) {
        match length {
            0..0x40 => self.0.push(length as u8),
            0x40..0x4000 => self.0.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
            _ => {
                self.0.push(0x81);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
    }

    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.length(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A time in Unix milliseconds.
    pub(super) fn time(&mut self, ms: u64) {
        self.0.extend_from_slice(&ms.to_le_bytes());
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        let version = match self.0.first() {
            Some(&form) if form == Form::HashFields as u8 => READ_VERSION_MAX,
            Some(&form) if form == Form::Stream3 as u8 => STREAM_VERSION,
            _ => WRITTEN_VERSION,
        };
        self.0.extend_from_slice(&version.to_le_bytes());
        let crc = crc64(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Reads a serialised value whose checksum is right. `None`: its bytes make no sense.
pub(super) struct Load<'a> {
    rest: &'a [u8],
    /// Bytes that compressed texts may still become.
    unpacked_left: usize,
}

/// What all compressed texts of one value may come to: more does not go into the log.
const UNPACKED_BYTES_MAX: usize = wal::batch::MAX_BATCH;

impl<'a> Load<'a> {
    /// `None`: a later version, or damaged on the way.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (body, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
        let (version, crc) = footer.split_first_chunk::<2>()?;
        let right = u64::from_le_bytes(crc.try_into().ok()?) == crc64(&bytes[..body.len() + 2]);
        (right && u16::from_le_bytes(*version) <= READ_VERSION_MAX)
            .then_some(Self { rest: body, unpacked_left: UNPACKED_BYTES_MAX })
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn form(&mut self) -> Option<Form> {
        let number = self.number::<1>()?[0];
        Form::ALL.into_iter().find(|form| *form as u8 == number)
    }

    pub(super) fn length(&mut self) -> Option<u64> {
        let first = self.number::<1>()?[0];
        Some(match (first >> 6, first) {
            (0, _) => u64::from(first),
            (1, _) => u64::from(first & 0x3f) << 8 | u64::from(self.number::<1>()?[0]),
            (_, 0x80) => u64::from(u32::from_be_bytes(self.number()?)),
            (_, 0x81) => u64::from_be_bytes(self.number()?),
            _ => return None,
        })
    }

    pub(super) fn string(&mut self) -> Option<Vec<u8>> {
        let integer = match self.rest.first()? {
            0xc0 => i64::from(i8::from_le_bytes(self.tagged()?)),
            0xc1 => i64::from(i16::from_le_bytes(self.tagged()?)),
            0xc2 => i64::from(i32::from_le_bytes(self.tagged()?)),
            0xc3 => return self.compressed(),
            _ => {
                let length = usize::try_from(self.length()?).ok()?;
                return self.take(length).map(<[u8]>::to_vec);
            }
        };
        Some(integer.to_string().into_bytes())
    }

    fn compressed(&mut self) -> Option<Vec<u8>> {
        self.take(1)?;
        let packed = usize::try_from(self.length()?).ok()?;
        let length = usize::try_from(self.length()?).ok()?;
        let packed = self.take(packed)?;
        self.unpacked_left = self.unpacked_left.checked_sub(length)?;
        packed::lzf(packed, length).ok()
    }

    fn tagged<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(1)?;
        self.number()
    }

    pub(super) fn double(&mut self) -> Option<f64> {
        self.number().map(f64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// A library of functions, with the name of its engine in its text (Redis: `RDB_OPCODE_FUNCTION2`).
const LIBRARY: u8 = 245;

/// Libraries of functions, as FUNCTION DUMP gives them.
pub(crate) fn dump_libraries<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut dump = Dump(Vec::new());
    for text in texts {
        dump.0.push(LIBRARY);
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

    #[test]
    fn what_is_written_is_read() {
        // The check value of Redis's own crc64.c.
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let lengths = [0, 63, 64, 16383, 16384, u64::MAX];
        let mut dump = Dump::new(Form::Zset);
        lengths.iter().for_each(|&length| dump.length(length));
        dump.string(b"text");
        dump.double(-1.5);
        let mut bytes = dump.end();
        let mut load = Load::new(&bytes).unwrap();
        assert_eq!(load.form(), Some(Form::Zset));
        lengths.iter().for_each(|&length| assert_eq!(load.length(), Some(length)));
        assert_eq!((load.string(), load.double()), (Some(b"text".to_vec()), Some(-1.5)));
        assert!(load.end().is_some() && load.length().is_none());
        bytes[3] ^= 1;
        assert!(Load::new(&bytes).is_none() && Load::new(b"short").is_none());
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
            let sealed = Dump(bytes).end();
            let mut load = Load::new(&sealed).unwrap();
            let _ = super::super::dump::read(&mut load);
        }
    }
}
