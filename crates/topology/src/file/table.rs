//! A file of keys.
//!
//! ```text
//! magic "GWREGTRY"   8    format u32   4    revision u64   8    entries u32   4
//! body: for each entry
//!   key length u16, key, revision u64, boot u128 and deadline u64 (0 and 0: stays),
//!   value length u32 (u32::MAX: deleted), value
//! CRC-32C of everything before it   4
//! ```
//!
//! Integers are little endian; the deadline is in milliseconds of the boot clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::registry::Revision;

const MAGIC: &[u8; 8] = b"GWREGTRY";
const FORMAT: u32 = 1;
/// In place of a value's length: the key was deleted.
const DELETED: u32 = u32::MAX;

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The boot whose clock this is.
    pub(super) boot: u128,
    /// Milliseconds of that clock.
    pub(super) at_ms: u64,
}

/// This boot's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) boot: u128,
    pub(super) ms: u64,
}

impl Now {
    pub(super) fn read() -> std::io::Result<Self> {
        static BOOT: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
        let boot = match BOOT.get() {
            Some(boot) => *boot,
            None => {
                let text = ops::clock::boot_id()?.replace('-', "");
                let boot = u128::from_str_radix(&text, 16).map_err(std::io::Error::other)?;
                *BOOT.get_or_init(|| boot)
            }
        };
        let ms = u64::try_from(ops::clock::boot_now().as_millis()).unwrap_or(u64::MAX);
        Ok(Self { boot, ms })
    }

    pub(super) fn after(self, ttl: Duration) -> Expiry {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        Expiry { boot: self.boot, at_ms: self.ms.saturating_add(ttl) }
    }
}

/// A key's last write in this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    pub(super) expiry: Option<Expiry>,
    /// `None`: deleted; kept only while the other file may hold an older write.
    pub(super) value: Option<Vec<u8>>,
}

impl Entry {
    /// Whether readers see it.
    pub(super) fn is_live(&self, now: Now) -> bool {
        let ended = self.expiry.is_some_and(|e| e.boot != now.boot || e.at_ms <= now.ms);
        self.value.is_some() && !ended
    }
}

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The registry's revision when it was written.
    pub(super) revision: Revision,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Table {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("commits bound the number of keys");
        out.extend_from_slice(&count.to_le_bytes());
        for (key, entry) in &self.entries {
            let length = u16::try_from(key.len()).expect("commits bound the length of keys");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&entry.revision.0.to_le_bytes());
            let (boot, at_ms) = entry.expiry.map_or((0, 0), |e| (e.boot, e.at_ms));
            out.extend_from_slice(&boot.to_le_bytes());
            out.extend_from_slice(&at_ms.to_le_bytes());
            let value = entry.value.as_deref();
            let length = value.map_or(DELETED, |v| {
                u32::try_from(v.len()).expect("commits bound the length of values")
            });
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads what [`Table::encode`] wrote; the error says what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(format!("it is damaged: {} bytes are no file of keys", bytes.len()));
        };
        let mut rest = body;
        if take::<8>(&mut rest)? != *MAGIC {
            return Err("it is damaged: it does not begin as a file of keys".to_owned());
        }
        let format = u32::from_le_bytes(take(&mut rest)?);
        if format != FORMAT {
            return Err(format!(
                "it has format {format}; this version knows {FORMAT}: upgrade this program"
            ));
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err("it is damaged: its checksum does not match".to_owned());
        }
        let revision = Revision(u64::from_le_bytes(take(&mut rest)?));
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let key = String::from_utf8(slice(&mut rest, length)?.to_vec())
                .map_err(|_| "it is damaged: a key is not text".to_owned())?;
            let revision = Revision(u64::from_le_bytes(take(&mut rest)?));
            let boot = u128::from_le_bytes(take(&mut rest)?);
            let at_ms = u64::from_le_bytes(take(&mut rest)?);
            let expiry = (boot != 0 || at_ms != 0).then_some(Expiry { boot, at_ms });
            let value = match u32::from_le_bytes(take(&mut rest)?) {
                DELETED => None,
                length => Some(slice(&mut rest, length as usize)?.to_vec()),
            };
            entries.insert(key, Entry { revision, expiry, value });
        }
        if !rest.is_empty() {
            return Err(format!("it is damaged: {} bytes after its last key", rest.len()));
        }
        Ok(Self { revision, entries })
    }
}

fn slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let Some((head, tail)) = rest.split_at_checked(length) else {
        return Err("it is damaged: it ends in the middle of a key".to_owned());
    };
    *rest = tail;
    Ok(head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let mut out = [0; N];
    out.copy_from_slice(slice(rest, N)?);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let entry = |revision, at_ms: u64, value: Option<&str>| Entry {
            revision: Revision(revision),
            expiry: (at_ms > 0).then_some(Expiry { boot: 7, at_ms }),
            value: value.map(|v| v.as_bytes().to_vec()),
        };
        let entries =
            [("a", entry(1, 0, Some("x"))), ("b", entry(2, 9, Some(""))), ("c", entry(3, 0, None))];
        Table { revision: Revision(3), entries: entries.map(|(k, e)| (k.to_owned(), e)).into() }
    }

    #[test]
    fn a_table_reads_back_and_any_changed_bit_or_cut_is_found() {
        let bytes = table().encode();
        assert_eq!(Table::decode(&bytes), Ok(table()));
        for at in 0..bytes.len() {
            assert!(Table::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(Table::decode(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn keys_end_at_their_deadline_and_with_their_boot() {
        let entry = &table().entries["b"];
        assert!(entry.is_live(Now { boot: 7, ms: 8 }));
        assert!(!entry.is_live(Now { boot: 7, ms: 9 }));
        assert!(!entry.is_live(Now { boot: 8, ms: 1 }));
    }
}
