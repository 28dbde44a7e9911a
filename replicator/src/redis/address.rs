//! Where a Redis is: `redis://[user[:password]@]host[:port]`, `rediss://` for TLS, `unix:///path`.

use std::fmt;
use std::str::FromStr;

/// Redis's port.
const PORT: u16 = 6379;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(String),
}

/// A Redis, and who to be there. It never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Who to be; without a user the password is that of the user `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write redis://host:port, rediss://user:password@host:port (TLS) or unix:///path, with %40 for an @ in a password"
)]
pub struct AddressError(String);

impl Address {
    /// The same server's other end: same user, password and TLS, another host.
    pub fn at(&self, host: &str, port: u16) -> Self {
        Self { endpoint: Endpoint::Tcp(host.to_owned(), port), ..self.clone() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // What is not understood may be a password, so it is not repeated.
        let error = |what: &str| AddressError(format!("this is no address of a Redis: {what}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| error("it has no `://`"))?;
        let (authority, place) = match rest.rsplit_once('@') {
            Some((authority, place)) => (Some(authority), place),
            None => (None, rest),
        };
        let (mut user, mut password) = (None, None);
        if let Some(authority) = authority {
            let decode =
                |text: &str| decoded(text).ok_or_else(|| error("a `%` without two digits"));
            let (name, secret) = match authority.split_once(':') {
                Some((name, secret)) => (name, Some(secret)),
                None => (authority, None),
            };
            user = (!name.is_empty()).then(|| decode(name)).transpose()?;
            password = secret.map(decode).transpose()?;
            if password.is_none() {
                return Err(error("a user without a password"));
            }
        }
        let tls = scheme == "rediss";
        let endpoint = match scheme {
            "unix" | "redis+unix" if place.starts_with('/') => Endpoint::Unix(place.to_owned()),
            "unix" | "redis+unix" => return Err(error("a path begins with `/`")),
            "redis" | "rediss" => {
                let (place, database) = place.split_once('/').unwrap_or((place, ""));
                if !matches!(database, "" | "0") {
                    return Err(error("only database 0 can be followed and written"));
                }
                // An IPv6 address stands in brackets.
                let (host, port) = match place.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => {
                        (host, port.parse().map_err(|_| error("its port is no number"))?)
                    }
                    _ => (place, PORT),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                if host.is_empty() {
                    return Err(error("it has no host"));
                }
                Endpoint::Tcp(host.to_owned(), port)
            }
            _ => return Err(error("its scheme is not known")),
        };
        Ok(Self { endpoint, tls, user, password })
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(rest.next())? << 4 | digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.endpoint {
            Endpoint::Unix(path) => write!(f, "unix://{path}"),
            Endpoint::Tcp(host, port) if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            Endpoint::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_never_shown() {
        let read = |text: &str| text.parse::<Address>();
        let whole = read("rediss://ann:p%40ss%3A@redis.example:7000/0").unwrap();
        assert_eq!(whole.endpoint, Endpoint::Tcp("redis.example".to_owned(), 7000));
        assert!(whole.tls);
        assert_eq!(
            (whole.user.as_deref(), whole.password.as_deref()),
            (Some("ann"), Some("p@ss:"))
        );
        assert_eq!(format!("{whole} {whole:?}").matches("p@").count(), 0);
        let short = read("redis://:secret@[::1]").unwrap();
        assert_eq!(short.endpoint, Endpoint::Tcp("::1".to_owned(), 6379));
        assert_eq!((short.user, short.password.as_deref()), (None, Some("secret")));
        assert_eq!(read("unix:///run/r.sock").unwrap().to_string(), "unix:///run/r.sock");
        for (bad, why) in [
            ("localhost:6379", "no `://`"),
            ("http://a", "scheme"),
            ("redis://a:b:c", "port"),
            ("redis://a/3", "database 0"),
            ("redis://ann@a", "without a password"),
            ("redis://:a%4@b", "two digits"),
            ("unix://run", "begins with"),
            ("redis://", "no host"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
