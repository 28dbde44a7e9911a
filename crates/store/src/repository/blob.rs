//! Blobs: bytes whose hash is known before they are asked for, packed and perhaps encrypted.

use super::text::damaged;
use super::{Keys, PIECE_BYTES, Repository, cipher};
use crate::bucket::Put;
use crate::{ObjectId, StoreError};

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// A piece of a file.
    Piece = 1,
    /// A segment.
    Segment = 2,
}

const MAGIC: [u8; 4] = *b"GWBL";
const FORMAT: u8 = 1;
/// The bytes before the body.
const HEADER: usize = 32;
/// Of those, what encryption covers.
const COVERED: usize = 20;
/// Where damaged ones are put. Nothing leads there, so a prune deletes them in the end.
const ASIDE: &str = "damaged";
/// Less than this saved by compression is not worth the time to undo it.
const WORTH: f64 = 0.97;
/// Most of what comes here is compressed already; more effort finds little.
const LEVEL: i32 = 1;

impl What {
    /// The most plain bytes. A segment ends with the frame that fills it, and a frame holds one batch
    /// at least, however large that is.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Piece => PIECE_BYTES,
            Self::Segment => 720 << 20,
        }
    }
}

const _: () = assert!(wal::frame::MAX_FRAME + (64 << 20) <= What::Segment.bytes_max());

/// The bytes of a blob.
pub(super) fn encode(
    keys: &Keys,
    repository: &str,
    what: What,
    id: &ObjectId,
    plain: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let reject = |why: String| StoreError::Rejected { name: format!("blob {id}"), why };
    if plain.len() > what.bytes_max() {
        return Err(reject(format!("it has {} bytes", plain.len())));
    }
    // Frames are compressed already.
    let packed = match what {
        What::Segment => None,
        What::Piece => zstd::bulk::compress(plain, LEVEL).ok(),
    };
    let packed = packed.filter(|packed| (packed.len() as f64) < plain.len() as f64 * WORTH);
    let codec = u8::from(packed.is_some());
    let body = packed.as_deref().unwrap_or(plain);
    wrap(keys, repository, what, id, plain.len(), codec, body)
}

/// A blob of bytes that were packed already.
fn wrap(
    keys: &Keys,
    repository: &str,
    what: What,
    id: &ObjectId,
    plain_len: usize,
    codec: u8,
    body: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let reject = |why: String| StoreError::Rejected { name: format!("blob {id}"), why };
    let mut out = Vec::with_capacity(HEADER + cipher::OVERHEAD + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT, what as u8, codec, u8::from(keys.is_encrypting())]);
    out.extend_from_slice(&keys.public().map_or([0; 8], cipher::key_id));
    out.extend_from_slice(&(plain_len as u32).to_le_bytes());
    let sealed = match keys.public() {
        Some(public) => {
            let aad = [&out[..COVERED], &id.0[..]].concat();
            Some(cipher::seal(public, &info(repository), &aad, body).map_err(reject)?)
        }
        None => None,
    };
    let body = sealed.as_deref().unwrap_or(body);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    Ok(out)
}

/// Bytes as they came from somebody else, who says what they unpack to.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The hash of the plain bytes.
    pub blake3: ObjectId,
    /// How many plain bytes there are.
    pub size: u32,
    /// One Zstandard frame; or the plain bytes.
    pub is_zstd: bool,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Packed {
    /// The plain bytes, compared with their hash.
    fn check(&self, keys: &Keys, what: What) -> Result<(), String> {
        let len = self.size as usize;
        if len > what.bytes_max() {
            return Err(format!("it says that it holds {len} bytes"));
        }
        let unpacked = match self.is_zstd {
            true => Some(
                zstd::bulk::decompress(&self.body, len)
                    .map_err(|why| format!("it does not decompress: {why}"))?,
            ),
            false => None,
        };
        let plain = unpacked.as_deref().unwrap_or(&self.body);
        if plain.len() != len {
            return Err(format!("it holds {} of its {len} bytes", plain.len()));
        }
        if keys.id_of(plain) != self.blake3 {
            return Err("its bytes have another hash than was said".to_owned());
        }
        Ok(())
    }
}

fn number(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// The header and the body of a blob that is as it was written, which needs no keys. In words, if it is
/// not.
fn intact(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (header, body) = bytes.split_at_checked(HEADER).ok_or("it is cut off")?;
    if header[..4] != MAGIC {
        return Err("it is no blob".to_owned());
    }
    if header[4] != FORMAT {
        return Err(format!("it has format {}, and this version knows format {FORMAT}", header[4]));
    }
    if crc32c::crc32c(&header[..HEADER - 4]) != number(header, 28) {
        return Err("its header is damaged".to_owned());
    }
    if number(header, 20) as usize != body.len() {
        return Err(format!("it has {} of its {} bytes", body.len(), number(header, 20)));
    }
    if crc32c::crc32c(body) != number(header, 24) {
        return Err("its bytes are damaged".to_owned());
    }
    Ok((header, body))
}

/// The plain bytes of a blob that should be `what`, have this hash and, where it is known, this length.
/// In words, if it is not so.
pub(super) fn decode(
    keys: &Keys,
    repository: &str,
    what: What,
    id: &ObjectId,
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let (header, body) = intact(bytes)?;
    if header[5] != what as u8 {
        return Err(format!("it holds another kind of bytes ({})", header[5]));
    }
    let plain_len = number(header, 16) as usize;
    if plain_len > what.bytes_max() {
        return Err(format!("it says that it holds {plain_len} bytes"));
    }
    let opened = match (header[7], keys.is_encrypting()) {
        (0, false) => None,
        (1, true) => {
            let aad = [&header[..COVERED], &id.0[..]].concat();
            Some(decrypt(keys, repository, &header[8..16], &aad, body)?)
        }
        (0, true) => return Err("it is not encrypted, in a repository that is".to_owned()),
        (cipher, _) => return Err(format!("it is encrypted (cipher {cipher})")),
    };
    let body = opened.as_deref().unwrap_or(body);
    let plain = match header[6] {
        0 => body.to_vec(),
        1 => zstd::bulk::decompress(body, plain_len)
            .map_err(|why| format!("it does not decompress: {why}"))?,
        codec => return Err(format!("its codec {codec} is not known")),
    };
    if plain.len() != plain_len {
        return Err(format!("it holds {} of its {plain_len} bytes", plain.len()));
    }
    if keys.id_of(&plain) != *id {
        return Err("its bytes have another hash than its name says".to_owned());
    }
    Ok(plain)
}

fn decrypt(
    keys: &Keys,
    repository: &str,
    wanted: &[u8],
    aad: &[u8],
    body: &[u8],
) -> Result<Vec<u8>, String> {
    if keys.private().is_empty() {
        return Err(
            "it is encrypted, and the key file holds no private key: it only writes".to_owned()
        );
    }
    // Few keys, and a wrong one is refused at once.
    let mut why = String::new();
    for private in keys.private() {
        match cipher::open(private, &info(repository), aad, body) {
            Ok(plain) => return Ok(plain),
            Err(error) => why = error,
        }
    }
    let wanted: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(format!("no private key opens it (it is for key {wanted}), or it was changed: {why}"))
}

fn info(repository: &str) -> Vec<u8> {
    format!("godwit blob 1{repository}").into_bytes()
}

impl Repository {
    /// Writes a blob unless there is one of that name. Packing is done on a thread that may block.
    pub async fn put_blob(
        &self,
        name: &str,
        what: What,
        id: ObjectId,
        plain: Vec<u8>,
    ) -> Result<(Put, u64), StoreError> {
        let (keys, repository) = (self.keys.clone(), self.header.id.clone());
        let pack = move || encode(&keys, &repository, what, &id, &plain);
        let bytes = tokio::task::spawn_blocking(pack).await;
        let bytes = bytes.expect("packing does not panic, and nobody cancels it")?;
        let stored = bytes.len() as u64;
        Ok((self.bucket.put_new(name, bytes).await?, stored))
    }

    /// Writes a blob of bytes that another has packed, once they were unpacked and compared with their
    /// hash.
    pub(super) async fn put_packed(
        &self,
        name: &str,
        what: What,
        packed: Packed,
    ) -> Result<u64, StoreError> {
        let (keys, repository) = (self.keys.clone(), self.header.id.clone());
        let at = name.to_owned();
        let pack = move || {
            packed.check(&keys, what).map_err(|why| damaged(&at, &why))?;
            let Packed { blake3, size, is_zstd, body } = packed;
            wrap(&keys, &repository, what, &blake3, size as usize, u8::from(is_zstd), &body)
        };
        let bytes = tokio::task::spawn_blocking(pack).await;
        let bytes = bytes.expect("packing does not panic, and nobody cancels it")?;
        let stored = bytes.len() as u64;
        self.bucket.put_new(name, bytes).await?;
        Ok(stored)
    }

    /// Moves a blob that is not what was written to `damaged/` and its name, so that the next push stores
    /// it again. False: it is as it was written, as far as can be told (where blobs are encrypted, a wrong
    /// key and a changed blob look alike), or is missing.
    ///
    /// # Errors
    /// The store failed, or does not let us delete.
    pub async fn set_aside(
        &self,
        name: &str,
        what: What,
        id: ObjectId,
    ) -> Result<bool, StoreError> {
        let max = (what.bytes_max() + HEADER + cipher::OVERHEAD) as u64;
        let read = match self.bucket.get(name, max).await {
            // Too long to be one: the beginning of it is enough to look at.
            Err(why) if why.is_damage() => self.bucket.get_range(name, 0, max).await?,
            read => read?,
        };
        let Some(bytes) = read else { return Ok(false) };
        let newer = bytes.get(4).is_some_and(|format| *format > FORMAT) && bytes[..4] == MAGIC;
        let is_good = match self.keys.is_encrypting() {
            true => intact(&bytes).is_ok(),
            false => decode(&self.keys, &self.header.id, what, &id, &bytes).is_ok(),
        };
        if is_good || newer {
            return Ok(false);
        }
        self.bucket.put(&format!("{ASIDE}/{name}"), bytes).await?;
        self.bucket.delete(name).await?;
        Ok(true)
    }

    /// The plain bytes of a blob, compared with their hash.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is missing or is not what it should be.
    pub async fn blob(&self, name: &str, what: What, id: ObjectId) -> Result<Vec<u8>, StoreError> {
        let max = (what.bytes_max() + HEADER + cipher::OVERHEAD) as u64;
        let bytes = self.bucket.get(name, max).await?;
        let bytes = bytes.ok_or_else(|| damaged(name, "it is missing"))?;
        let (keys, repository) = (self.keys.clone(), self.header.id.clone());
        let unpack = move || decode(&keys, &repository, what, &id, &bytes);
        let plain = tokio::task::spawn_blocking(unpack).await;
        let plain = plain.expect("unpacking does not panic, and nobody cancels it");
        plain.map_err(|why| damaged(name, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_read_back_and_nothing_else_does() {
        let (none, keys) = (Keys::none(), Keys::generate().unwrap());
        let plain = b"godwit ".repeat(1000);
        for keys in [&none, &keys] {
            let id = keys.id_of(&plain);
            let blob = encode(keys, "r", What::Piece, &id, &plain).unwrap();
            assert_eq!(decode(keys, "r", What::Piece, &id, &blob).unwrap(), plain);
            assert!(blob.len() < plain.len() / 4);
            for at in 0..blob.len() {
                let mut bad = blob.clone();
                bad[at] ^= 1;
                // What names the key is a hint, and covered like the rest.
                assert!(decode(keys, "r", What::Piece, &id, &bad).is_err(), "byte {at}");
                assert!(decode(keys, "r", What::Piece, &id, &blob[..at]).is_err(), "{at} bytes");
            }
            assert!(decode(keys, "r", What::Segment, &id, &blob).is_err());
            assert!(decode(keys, "r", What::Piece, &ObjectId([0; 32]), &blob).is_err());
        }
        let id = keys.id_of(&plain);
        let blob = encode(&keys.to_write(), "r", What::Piece, &id, &plain).unwrap();
        let write_only = decode(&keys.to_write(), "r", What::Piece, &id, &blob).unwrap_err();
        assert!(write_only.contains("no private key"), "{write_only}");
        assert!(decode(&none, "r", What::Piece, &id, &blob).unwrap_err().contains("encrypted"));
        assert!(decode(&keys, "other", What::Piece, &id, &blob).is_err());
        let rotated = keys.rotate().unwrap();
        assert_eq!(decode(&rotated, "r", What::Piece, &id, &blob).unwrap(), plain);
    }
}
