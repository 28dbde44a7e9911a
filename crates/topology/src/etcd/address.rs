//! Where an etcd is and how to be let in: one line of text that every program takes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ops::tls::{ClientFiles, PeerName};
use ops::units::Span;

/// The most endpoints of a cluster that are worth naming.
const ENDPOINTS_MAX: usize = 16;
const PREFIX_BYTES_MAX: usize = 128;
/// The path of the keys where the address names none.
const PREFIX: &str = "godwit";
/// How long a call may take where the address does not say.
const TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

const FORM: &str = "write etcd://HOST:PORT[,HOST:PORT...][/PREFIX][?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE&timeout=2s]";

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name or an address, without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Who we are, by a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    /// Read at each login, so that it can be changed while programs run.
    pub(super) password_file: PathBuf,
}

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) endpoints: Vec<Endpoint>,
    /// What stands before each key, its last `/` included.
    pub(super) prefix: String,
    /// TLS, if there is an authority to check with.
    pub(super) tls: Option<ClientFiles>,
    pub(super) login: Option<Login>,
    /// How long a call may take in all.
    pub(super) timeout: Duration,
}

impl Address {
    /// Reads what follows `etcd:`. The sentence says what to write instead.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        let rest = rest.strip_prefix("//").ok_or(FORM)?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let endpoints: Vec<_> = hosts.split(',').map(Endpoint::parse).collect::<Result<_, _>>()?;
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(format!("at most {ENDPOINTS_MAX} endpoints are taken"));
        }
        let path = path.trim_matches('/');
        let path = if path.is_empty() { PREFIX } else { path };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if path.len() > PREFIX_BYTES_MAX || !path.chars().all(plain) {
            return Err(format!(
                "the prefix `{path}` may have {PREFIX_BYTES_MAX} letters, digits, `-`, `_`, `.` and `/`"
            ));
        }
        let mut address = Self {
            endpoints,
            prefix: format!("{path}/"),
            tls: None,
            login: None,
            timeout: TIMEOUT,
        };
        address.read_options(options)?;
        Ok(address)
    }

    fn read_options(&mut self, options: &str) -> Result<(), String> {
        let (mut ca, mut cert, mut key) = (None, None, None);
        let (mut user, mut password_file) = (None, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if value.is_empty() {
                return Err(format!("`{name}` needs a value; {FORM}"));
            }
            let slot = match name {
                "ca" => &mut ca,
                "cert" => &mut cert,
                "key" => &mut key,
                "user" => &mut user,
                "password-file" => &mut password_file,
                "timeout" => {
                    let span: Span = value.parse().map_err(|why| format!("timeout: {why}"))?;
                    self.timeout = span.duration();
                    if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&self.timeout) {
                        return Err(format!("a timeout is 100ms to 60s, not {span}"));
                    }
                    continue;
                }
                "password" => {
                    return Err(
                        "a password does not belong where every process list shows it: name a file that holds it, password-file=FILE".to_owned()
                    );
                }
                other => return Err(format!("`{other}` is no option of it; {FORM}")),
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(format!("`{name}` is given twice"));
            }
        }
        let own = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            _ => return Err("cert and key belong together".to_owned()),
        };
        self.tls = match (ca, own) {
            (Some(ca), own) => Some(ClientFiles { ca: ca.into(), own }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err("cert and key need ca, the authority of etcd's certificate".to_owned());
            }
        };
        self.login = match (user, password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some(Login { user, password_file: file.into() }),
            _ => return Err("user and password-file belong together".to_owned()),
        };
        let far = self.endpoints.iter().find(|endpoint| !endpoint.is_loopback());
        if let (Some(_), None, Some(far)) = (&self.login, &self.tls, far) {
            return Err(format!(
                "the password would go to {far} in the clear: name etcd's authority, ca=FILE"
            ));
        }
        Ok(())
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let unfit = || format!("`{text}` is no endpoint: write HOST:PORT, such as 10.0.0.1:2379");
        if text.contains('@') {
            return Err("no user or password before the host: user=NAME&password-file=FILE".into());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(unfit)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(unfit)?,
            None if host.contains(':') => return Err(unfit()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(unfit)?;
        PeerName::new(host).map_err(|_| unfit())?;
        Ok(Self { host: host.to_owned(), port })
    }

    fn is_loopback(&self) -> bool {
        let address: Option<std::net::IpAddr> = self.host.parse().ok();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where it is, without how to be let in.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.endpoints.iter().map(ToString::to_string).collect();
        write!(f, "etcd://{}/{}", hosts.join(","), self.prefix.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_how() {
        let text =
            "//a.example:2379,[::1]:23/prod/godwit/?ca=/ca&cert=/c&key=/k&user=u&password-file=/p";
        let address = Address::parse(text).unwrap();
        assert_eq!(address.to_string(), "etcd://a.example:2379,[::1]:23/prod/godwit");
        assert_eq!(address.prefix, "prod/godwit/");
        assert_eq!(address.endpoints[1], Endpoint { host: "::1".to_owned(), port: 23 });
        let own = Some(("/c".into(), "/k".into()));
        assert_eq!(address.tls, Some(ClientFiles { ca: "/ca".into(), own }));
        assert_eq!(address.login.unwrap().user, "u");
        let short = Address::parse("//127.0.0.1:2379?timeout=500ms").unwrap();
        assert_eq!((short.prefix.as_str(), short.timeout.as_millis()), ("godwit/", 500));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, says) in [
            ("a:1", "write etcd://HOST:PORT"),
            ("//a", "no endpoint"),
            ("//a:0", "no endpoint"),
            ("//::1:5", "no endpoint"),
            ("//u:p@a:1", "no user or password before the host"),
            ("//a:1?password=x", "password-file"),
            ("//a:1?cert=/c&key=/k", "need ca"),
            ("//a:1?ca=/a&cert=/c", "belong together"),
            ("//a:1?ca=/a&ca=/b", "twice"),
            ("//a:1?user=u&password-file=/p", "in the clear"),
            ("//a:1?timeout=1ms", "100ms to 60s"),
            ("//a:1?retries=3", "no option"),
            ("//a:1/b c", "prefix"),
        ] {
            let why = Address::parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        assert!(Address::parse("//127.0.0.1:1?user=u&password-file=/p").is_ok());
    }
}
