//! The keys of an encrypted repository, and the file that holds them.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::{ObjectId, StoreError, files};

use super::cipher;

/// The first line of a key file.
const MAGIC: &str = "godwit-key 1";
/// A key file is short.
const BYTES_MAX: u64 = 64 << 10;
/// Retired keys that still read.
const PRIVATE_MAX: usize = 64;

/// The keys of a repository; none for one that is not encrypted.
#[derive(Clone, Default)]
pub struct Keys {
    naming: Option<[u8; 32]>,
    public: Option<[u8; 32]>,
    /// The one that goes with `public` first.
    private: Vec<[u8; 32]>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing that opens a repository goes into a log.
        f.debug_struct("Keys")
            .field("encrypting", &self.is_encrypting())
            .field("reads", &!self.private.is_empty())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// No keys: nothing is encrypted.
    pub fn none() -> Self {
        Self::default()
    }

    /// New keys.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, StoreError> {
        let (public, private) = cipher::generate()?;
        Ok(Self { naming: Some(rand::random()), public: Some(public), private: vec![private] })
    }

    /// A new pair in front of the old ones, which still read: names stay as they are.
    ///
    /// # Errors
    /// As [`Keys::generate`]; or these keys write only.
    pub fn rotate(&self) -> Result<Self, StoreError> {
        if self.naming.is_none() || self.private.is_empty() {
            return Err(refused("only keys that read can be rotated: name the whole key file"));
        }
        let (public, private) = cipher::generate()?;
        let mut all = vec![private];
        all.extend(self.private.iter().copied().take(PRIVATE_MAX - 1));
        Ok(Self { public: Some(public), private: all, ..*self })
    }

    /// Of these keys those that a writer needs: with them nothing that was written can be read.
    #[must_use]
    pub fn to_write(&self) -> Self {
        Self { naming: self.naming, public: self.public, private: Vec::new() }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is missing or is no key file.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = files::read(path, BYTES_MAX)?;
        let bytes = bytes.ok_or_else(|| StoreError::damaged(path, "there is no such key file"))?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        Self::parse(&text).map_err(|why| StoreError::damaged(path, why))
    }

    /// Reads a key file, if one is named.
    ///
    /// # Errors
    /// As [`Keys::read`].
    pub fn read_if(path: Option<&Path>) -> Result<Self, StoreError> {
        path.map_or_else(|| Ok(Self::none()), Self::read)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// In words; no key is repeated in them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return Err(format!("a key file begins with `{MAGIC}`"));
        }
        let mut keys = Self::none();
        for line in lines.filter(|line| !line.is_empty()) {
            let (what, digits) = line.split_once(' ').unwrap_or((line, ""));
            let key = digits.parse::<ObjectId>().map(|id| id.0);
            let key =
                key.map_err(|_| format!("its line `{what}` has no key of 64 hexadecimal digits"))?;
            match what {
                "naming" => keys.naming = Some(key),
                "public" => keys.public = Some(key),
                "private" if keys.private.len() < PRIVATE_MAX => keys.private.push(key),
                _ => return Err(format!("it has a line `{what}` that is not known, or too many")),
            }
        }
        if keys.naming.is_none() || keys.public.is_none() {
            return Err("it lacks its naming or its public key".to_owned());
        }
        Ok(keys)
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{MAGIC}\n");
        let lines = [("naming", self.naming), ("public", self.public)];
        let private = self.private.iter().map(|key| ("private", Some(*key)));
        for (what, key) in lines.into_iter().chain(private) {
            if let Some(key) = key {
                text.push_str(&format!("{what} {}\n", ObjectId(key)));
            }
        }
        text
    }

    /// Writes a new key file that only its owner reads; one that is there stays.
    ///
    /// # Errors
    /// It cannot be written, or there is one.
    pub fn write_new(&self, out: &Path) -> Result<(), StoreError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
        let mut file = file.map_err(StoreError::io("make", out))?;
        let written = file.write_all(self.to_text().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(StoreError::io("write", out))
    }

    /// Whether there are any: whether what is written is encrypted.
    pub fn is_encrypting(&self) -> bool {
        self.naming.is_some()
    }

    /// The secret that hashes are made with, for who makes them elsewhere: whoever has it can tell what
    /// he knows again, and read nothing.
    pub fn naming(&self) -> Option<[u8; 32]> {
        self.naming
    }

    /// Whether what is encrypted can be read with them.
    pub fn can_read(&self) -> bool {
        !self.private.is_empty()
    }

    /// The hash that names these bytes.
    pub fn id_of(&self, bytes: &[u8]) -> ObjectId {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        ObjectId(*hasher.finalize().as_bytes())
    }

    pub(super) fn hasher(&self) -> blake3::Hasher {
        self.naming.as_ref().map_or_else(blake3::Hasher::new, blake3::Hasher::new_keyed)
    }

    pub(super) fn public(&self) -> Option<&[u8; 32]> {
        self.public.as_ref()
    }

    /// The private key that opens what was encrypted for this one.
    pub(super) fn private(&self) -> &[[u8; 32]] {
        &self.private
    }
}

fn refused(why: &str) -> StoreError {
    StoreError::Rejected { name: "the keys".to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_read_back_and_say_nothing_in_logs() {
        let keys = Keys::generate().unwrap();
        let text = keys.to_text();
        assert_eq!(Keys::parse(&text).unwrap().to_text(), text);
        let private = text.lines().last().unwrap().split_once(' ').unwrap().1.to_owned();
        assert!(!format!("{keys:?}").contains(&private));
        let write = keys.to_write().to_text();
        assert!(!write.contains(&private) && Keys::parse(&write).is_ok());
        let rotated = keys.rotate().unwrap().to_text();
        assert!(rotated.contains(&private) && rotated.lines().count() == text.lines().count() + 1);
        assert!(keys.to_write().rotate().is_err());
        for bad in [
            "",
            "godwit-key 2",
            "godwit-key 1\n",
            "godwit-key 1\nnaming xyz",
            "godwit-key 1\nhat 00",
        ] {
            assert!(Keys::parse(bad).is_err(), "{bad}");
        }
    }
}
