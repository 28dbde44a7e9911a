//! Where a node's admin listener is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `unix:/path` or a loopback `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// A Unix socket; only its owner may open it.
    Unix(PathBuf),
    /// A TCP address of this machine.
    Loopback(SocketAddr),
}

/// Why a text is no address of an admin listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error("`{0}` is no admin address: write `unix:/path/to/admin.sock` or `127.0.0.1:PORT`")]
    Unknown(String),
    /// A TCP address that other machines can reach.
    #[error(
        "the admin address {0} is reachable from other machines, and the control commands have no \
         password yet: use a Unix socket or a loopback address"
    )]
    Exposed(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr =
            numeric.parse().map_err(|_| AddressError::Unknown(text.to_owned()))?;
        if address.ip().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(AddressError::Exposed(address))
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_exposed_ones_are_refused() {
        for good in ["unix:/tmp/a b.sock", "127.0.0.1:7000", "[::1]:7000"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        assert!(matches!("0.0.0.0:7000".parse::<Address>(), Err(AddressError::Exposed(_))));
        for bad in ["", "unix:", "7000", "node:7000"] {
            assert!(matches!(bad.parse::<Address>(), Err(AddressError::Unknown(_))), "{bad}");
        }
    }
}
