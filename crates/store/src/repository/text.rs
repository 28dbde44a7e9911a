//! Texts: JSON behind a line with its hash, which covers its name too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Keys, Repository};
use crate::bucket::Put;
use crate::{ObjectId, StoreError};

/// The digits of a hash and the line feed after them.
const LINE: usize = 65;

/// The text, at this name.
pub(super) fn seal(keys: &Keys, name: &str, value: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec(value).expect("texts are plain JSON");
    json.push(b'\n');
    let mut bytes = hash(keys, name, &json).to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(&json);
    bytes
}

/// Reads what [`seal`] made for this name.
pub(super) fn open<T: DeserializeOwned>(
    keys: &Keys,
    name: &str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let json = checked(keys, name, bytes)?;
    serde_json::from_slice(json).map_err(|why| damaged(name, &format!("it cannot be read: {why}")))
}

/// The hash line of a text.
pub(super) fn line(bytes: &[u8]) -> Option<ObjectId> {
    let (line, _) = bytes.split_at_checked(LINE)?;
    let (b'\n', digits) = line.split_last()? else { return None };
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn checked<'a>(keys: &Keys, name: &str, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let said = line(bytes).ok_or_else(|| damaged(name, "it does not begin with a hash"))?;
    let json = &bytes[LINE..];
    if said != hash(keys, name, json) {
        return Err(damaged(
            name,
            "its hash is another: it was changed, moved, or is of other keys",
        ));
    }
    Ok(json)
}

fn hash(keys: &Keys, name: &str, json: &[u8]) -> ObjectId {
    let mut hasher = keys.hasher();
    hasher.update(name.as_bytes()).update(b"\n").update(json);
    ObjectId(*hasher.finalize().as_bytes())
}

pub(super) fn damaged(name: &str, why: &str) -> StoreError {
    StoreError::damaged(name.as_ref(), why)
}

impl Repository {
    /// Writes a text unless there is one of that name; with its hash line.
    pub(super) async fn put_text(
        &self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(Put, ObjectId), StoreError> {
        let bytes = seal(&self.keys, name, value);
        let id = line(&bytes).expect("it was just made");
        Ok((self.bucket.put_new(name, bytes).await?, id))
    }

    /// Writes a text over one that may be there.
    pub(super) async fn replace_text(
        &self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(), StoreError> {
        self.bucket.put(name, seal(&self.keys, name, value)).await
    }

    /// Reads a text of at most `max` bytes, with its hash line.
    pub(super) async fn text<T: DeserializeOwned>(
        &self,
        name: &str,
        max: u64,
    ) -> Result<Option<(T, ObjectId)>, StoreError> {
        let Some(bytes) = self.bucket.get(name, max).await? else { return Ok(None) };
        let value = open(&self.keys, name, &bytes)?;
        Ok(line(&bytes).map(|id| (value, id)))
    }
}
