//! Small files, read within a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::StoreError;

/// Reads a whole file of at most `max` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > max {
        return Err(StoreError::damaged(path, format!("it is longer than {max} bytes")));
    }
    Ok(Some(bytes))
}
