//! A registry by its address.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::etcd::EtcdRegistry;
use crate::file::FileRegistry;
use crate::registry::{Expect, Outcome, Registry, RegistryError, Versioned, View, Write};

/// Any registry that this version can talk to. Clones share it.
#[derive(Clone, Debug)]
pub enum AnyRegistry {
    /// A directory of this machine.
    File(FileRegistry),
    /// An etcd cluster.
    Etcd(EtcdRegistry),
}

/// What an address means.
enum Place<'a> {
    File(&'a Path),
    Etcd(EtcdRegistry),
}

/// Opens the registry at an address: `file:/directory`, which is made where there is none, or
/// `etcd://host:port`, which is connected to when it is first asked.
///
/// # Errors
/// It is no address, or there is something else than a registry in the directory.
pub fn open(address: &str) -> Result<AnyRegistry, RegistryError> {
    match place(address)? {
        Place::File(path) => FileRegistry::open(path).map(AnyRegistry::File),
        Place::Etcd(etcd) => Ok(AnyRegistry::Etcd(etcd)),
    }
}

/// Whether this is an address that [`open`] takes; touches nothing.
///
/// # Errors
/// It is none; the sentence says what to write.
pub fn check_address(address: &str) -> Result<(), RegistryError> {
    place(address).map(drop)
}

fn place(address: &str) -> Result<Place<'_>, RegistryError> {
    match address.split_once(':') {
        Some(("file", path)) if Path::new(path).is_absolute() => Ok(Place::File(Path::new(path))),
        Some(("file", path)) => Err(RegistryError::Unusable(format!(
            "the registry `file:{path}` must be an absolute path, such as `file:/var/lib/godwit/registry`: every process has to find the same directory"
        ))),
        Some(("etcd", rest)) => EtcdRegistry::open(rest).map(Place::Etcd),
        _ => Err(RegistryError::Unusable(format!(
            "`{address}` is no registry: write `etcd://host:port`, or `file:/directory` for processes of one machine"
        ))),
    }
}

/// One of them, asked the same.
macro_rules! either {
    ($self:ident, $registry:ident => $asked:expr) => {
        match $self {
            Self::File($registry) => $asked,
            Self::Etcd($registry) => $asked,
        }
    };
}

impl Registry for AnyRegistry {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        either!(self, registry => registry.get(key).await)
    }

    async fn list(&self, prefix: &str) -> Result<View, RegistryError> {
        either!(self, registry => registry.list(prefix).await)
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Outcome, RegistryError> {
        either!(self, registry => registry.commit(expect, writes).await)
    }

    async fn watch(&self, prefix: &str) -> Result<watch::Receiver<View>, RegistryError> {
        either!(self, registry => registry.watch(prefix).await)
    }

    fn quiet(&self) -> Duration {
        either!(self, registry => registry.quiet())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_says_what_to_write() {
        for (address, says) in [
            ("etcd:http://x:2379", "write etcd://"),
            ("etcd://x", "HOST:PORT"),
            ("file:here", "absolute path"),
            ("consul:x", "no registry"),
            ("", "no registry"),
        ] {
            let error = open(address).unwrap_err().to_string();
            assert!(error.contains(says), "{address}: {error}");
            assert_eq!(check_address(address).unwrap_err().to_string(), error);
        }
        assert!(check_address("file:/nowhere/to/be/found").is_ok());
        assert!(check_address("etcd://a:2379,b:2379/x").is_ok());
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_shown() {
        for address in ["etcd://root:geheim@a:2379", "etcd://a:2379?password=geheim"] {
            let error = open(address).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
