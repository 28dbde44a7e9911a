//! What a program's settings say of TLS between daemons.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Mutual, MutualFiles, PeerName, TlsError};
use crate::config::ConfigError;

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It is, on every connection.
    On,
    /// It is not: whoever reaches the port is believed.
    Off,
}

/// The settings `tls`, `tls-ca`, `tls-cert`, `tls-key` and `tls-peers`, as they were given.
#[derive(Clone, Debug, Default)]
pub struct MutualSettings {
    /// `tls`.
    pub tls: Option<Switch>,
    /// `tls-ca`.
    pub ca: Option<PathBuf>,
    /// `tls-cert`.
    pub cert: Option<PathBuf>,
    /// `tls-key`.
    pub key: Option<PathBuf>,
    /// `tls-peers`.
    pub peers: Vec<String>,
}

/// Which files to use, and whom to believe beside who has the right name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutualConfig {
    /// The files.
    pub files: MutualFiles,
    /// Names that any peer may show.
    pub also: Vec<PeerName>,
}

impl MutualConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    pub fn open(&self) -> Result<Mutual, TlsError> {
        Mutual::open(self.files.clone(), self.also.clone())
    }
}

impl MutualSettings {
    /// `None`: without TLS. Who listens at `listen` must say that in so many words, unless only this
    /// machine reaches it.
    ///
    /// # Errors
    /// In a sentence that says what is missing.
    pub fn check(self, listen: Option<&str>) -> Result<Option<MutualConfig>, ConfigError> {
        let also = self.peers.iter().map(|name| PeerName::new(name)).collect::<Result<_, _>>();
        let also = also.map_err(|error| ConfigError::invalid(error.to_string()))?;
        let files = [("tls-ca", &self.ca), ("tls-cert", &self.cert), ("tls-key", &self.key)];
        let missing: Vec<_> =
            files.iter().filter(|(_, path)| path.is_none()).map(|(flag, _)| *flag).collect();
        match (self.tls, self.ca, self.cert, self.key) {
            (Some(Switch::Off), ..) => Ok(None),
            (_, Some(ca), Some(cert), Some(key)) => {
                Ok(Some(MutualConfig { files: MutualFiles { ca, cert, key }, also }))
            }
            (None, None, None, None) => match listen {
                Some(listen) if !is_loopback(listen) => Err(ConfigError::invalid(format!(
                    "other machines reach --listen {listen}, and there is no certificate: give --tls-ca, --tls-cert and --tls-key, or say --tls off if only trusted machines are on that network"
                ))),
                _ => Ok(None),
            },
            _ => Err(ConfigError::invalid(format!(
                "TLS needs --tls-ca, --tls-cert and --tls-key: {} missing",
                match &missing[..] {
                    [one] => format!("--{one} is"),
                    more => format!("--{} are", more.join(", --")),
                }
            ))),
        }
    }
}

/// Whether only this machine reaches `HOST:PORT`.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: usize, tls: Option<Switch>) -> MutualSettings {
        let path = |n: usize| (n < files).then(|| PathBuf::from(format!("/{n}")));
        MutualSettings { tls, ca: path(0), cert: path(1), key: path(2), peers: Vec::new() }
    }

    #[test]
    fn no_tls_is_for_loopback_or_said_in_so_many_words() {
        for local in ["127.0.0.1:1", "127.8.9.1:0", "[::1]:1", "localhost:1"] {
            assert_eq!(with(0, None).check(Some(local)).unwrap(), None, "{local}");
        }
        assert_eq!(with(0, None).check(None).unwrap(), None);
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "db.example:1"] {
            let why = with(0, None).check(Some(open)).unwrap_err().to_string();
            assert!(why.contains("--tls off"), "{why}");
            assert_eq!(with(0, Some(Switch::Off)).check(Some(open)).unwrap(), None);
            assert!(with(3, None).check(Some(open)).unwrap().is_some());
        }
        assert_eq!(with(3, Some(Switch::Off)).check(None).unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let says = |settings: MutualSettings| settings.check(None).unwrap_err().to_string();
        assert!(says(with(2, None)).ends_with("--tls-key is missing"));
        assert!(says(with(1, None)).ends_with("--tls-cert, --tls-key are missing"));
        assert!(says(with(0, Some(Switch::On))).contains("--tls-ca, --tls-cert, --tls-key are"));
        let peers = vec!["dr.example".to_owned(), "no name".to_owned()];
        assert!(says(MutualSettings { peers, ..with(3, None) }).contains("`no name`"));
    }
}
