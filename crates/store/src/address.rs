//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::StoreError;

/// The address of a store: `file:///path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(PathBuf);

impl Address {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.0.display())
    }
}

impl FromStr for Address {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            |why: &str| StoreError::Address { address: text.to_owned(), why: why.to_owned() };
        if let Some(path) = text.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(error("after `file://` comes an absolute path: `file:///srv/godwit`"));
            }
            return Ok(Self(PathBuf::from(path)));
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(error(&format!(
                "stores at `{scheme}://` are not built yet in this version: use a directory, `file:///path`"
            ))),
            None => Err(error("write `file:///path`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_addresses() {
        let address: Address = "file:///srv/godwit".parse().unwrap();
        assert_eq!(address.path(), Path::new("/srv/godwit"));
        assert_eq!(address.to_string(), "file:///srv/godwit");
        let refusal = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        assert!(refusal("s3://bucket/x").contains("not built yet"));
        assert!(refusal("file://srv").contains("absolute"));
        assert!(refusal("/srv/godwit").contains("file:///path"));
    }
}
