//! Where a node's admin listener is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `unix:/path`, a loopback `HOST:PORT`, `tls://HOST:PORT`, or `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// A Unix socket; only its owner may open it.
    Unix(PathBuf),
    /// A TCP address of this machine.
    Loopback(SocketAddr),
    /// A TCP address that other machines reach, under TLS.
    Tls(Endpoint),
    /// A TCP address that other machines reach, where whoever is on the way reads all of it, the
    /// password too.
    Plain(Endpoint),
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name, or an address; one of version 6 without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no address of an admin listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// None of the forms.
    #[error(
        "`{0}` is no admin address: write `unix:/path/to/admin.sock`, `127.0.0.1:PORT` or `tls://HOST:PORT`"
    )]
    Unknown(String),
    /// A TCP address that other machines can reach.
    #[error(
        "the admin address {0} is reachable from other machines: write `tls://{0}`, or `tcp://{0}` \
         where everybody may read what is said there"
    )]
    Exposed(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
            Self::Tls(endpoint) => write!(f, "tls://{endpoint}"),
            Self::Plain(endpoint) => write!(f, "tcp://{endpoint}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || AddressError::Unknown(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(unknown)?;
        let port = port.parse().map_err(|_| unknown())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(six) if six.parse::<std::net::Ipv6Addr>().is_ok() => six,
            Some(_) => return Err(unknown()),
            None => host,
        };
        let is_named = !host.is_empty() && !host.contains(['/', '@', ' ', '[', ']']);
        let is_one = !host.contains(':') || host.parse::<std::net::Ipv6Addr>().is_ok();
        if !is_named || !is_one {
            return Err(unknown());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Address {
    /// Whether it is on this machine only.
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Loopback(_))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let unknown = |_| AddressError::Unknown(text.to_owned());
        if let Some(endpoint) = text.strip_prefix("tls://") {
            return Ok(Self::Tls(endpoint.parse().map_err(unknown)?));
        }
        if let Some(endpoint) = text.strip_prefix("tcp://") {
            return Ok(Self::Plain(endpoint.parse().map_err(unknown)?));
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
        for good in [
            "unix:/tmp/a b.sock",
            "127.0.0.1:7000",
            "[::1]:7000",
            "tls://node-0.example:7000",
            "tls://[2001:db8::1]:7000",
            "tcp://10.0.0.1:7000",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        assert!(matches!("0.0.0.0:7000".parse::<Address>(), Err(AddressError::Exposed(_))));
        for bad in [
            "",
            "unix:",
            "7000",
            "node:7000",
            "tls://",
            "tls://node",
            "tls://node:x",
            "tls://:7000",
            "tls://a/b:7000",
            "tls://a:b:7000",
            "tcp://[a]:7000",
            "tls://user@node:7000",
        ] {
            assert!(matches!(bad.parse::<Address>(), Err(AddressError::Unknown(_))), "{bad}");
        }
    }
}
