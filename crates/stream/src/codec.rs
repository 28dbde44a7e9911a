//! The encoding of control messages: bincode 2 in its standard configuration, over serde. Nothing
//! else names the crate, so that it can be replaced here alone. Version and checksum are the
//! [packet](crate::wire)'s.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::WireError;

/// The most bytes of one control message; also bounds what a decoder may allocate.
pub const MESSAGE_MAX: usize = 16 << 20;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MESSAGE_MAX>()
}

/// The bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::serde::encode_to_vec(message, config())
        .map_err(|error| WireError::Message(error.to_string()))?;
    if bytes.len() > MESSAGE_MAX {
        return Err(WireError::TooLong { length: bytes.len() as u64, limit: MESSAGE_MAX as u64 });
    }
    Ok(bytes)
}

/// The message that these bytes hold, all of them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MESSAGE_MAX {
        return Err(WireError::TooLong { length: bytes.len() as u64, limit: MESSAGE_MAX as u64 });
    }
    let (message, used) = bincode::serde::decode_from_slice(bytes, config())
        .map_err(|error| WireError::Message(error.to_string()))?;
    if used != bytes.len() {
        return Err(WireError::Message(format!("{} bytes too many", bytes.len() - used)));
    }
    Ok(message)
}
