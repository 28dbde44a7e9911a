//! A registry by its address.

use std::path::Path;

use tokio::sync::watch;

use crate::file::FileRegistry;
use crate::registry::{Expect, Outcome, Registry, RegistryError, Versioned, View, Write};

/// Any registry that this version can talk to. Clones share it.
#[derive(Clone, Debug)]
pub enum AnyRegistry {
    /// A directory of this machine.
    File(FileRegistry),
}

/// Opens the registry at an address: `file:/directory`, which is made where there is none.
pub fn open(address: &str) -> Result<AnyRegistry, RegistryError> {
    match address.split_once(':') {
        Some(("file", path)) if Path::new(path).is_absolute() => {
            FileRegistry::open(Path::new(path)).map(AnyRegistry::File)
        }
        Some(("file", path)) => Err(RegistryError::Unusable(format!(
            "the registry `file:{path}` must be an absolute path, such as `file:/var/lib/godwit/registry`: every process has to find the same directory"
        ))),
        Some(("etcd", _)) => Err(RegistryError::Unusable(format!(
            "the registry `{address}` needs etcd, which is not built yet in this version: use `file:/directory`, for processes of one machine"
        ))),
        _ => Err(RegistryError::Unusable(format!(
            "`{address}` is no registry: write `file:/directory`"
        ))),
    }
}

impl Registry for AnyRegistry {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        match self {
            Self::File(file) => file.get(key).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<View, RegistryError> {
        match self {
            Self::File(file) => file.list(prefix).await,
        }
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Outcome, RegistryError> {
        match self {
            Self::File(file) => file.commit(expect, writes).await,
        }
    }

    async fn watch(&self, prefix: &str) -> Result<watch::Receiver<View>, RegistryError> {
        match self {
            Self::File(file) => file.watch(prefix).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_says_what_to_write() {
        for (address, says) in [
            ("etcd:http://x:2379", "not built yet"),
            ("file:here", "absolute path"),
            ("consul:x", "no registry"),
            ("", "no registry"),
        ] {
            let error = open(address).unwrap_err().to_string();
            assert!(error.contains(says), "{address}: {error}");
        }
    }
}
