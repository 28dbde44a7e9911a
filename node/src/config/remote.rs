//! The admin listener for tools on other machines.

use std::path::PathBuf;

use admin::Address;
use ops::config::ConfigError;
use ops::tls::TlsFiles;
use serde::{Deserialize, Serialize};

/// Its settings.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AdminSettings {
    /// Where control commands go from other machines, beside `admin`: `tls://HOST:PORT`; or
    /// `tcp://HOST:PORT`, where whoever is on the way reads them and the password
    #[arg(long, env = "GODWIT_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// The address that tools on other machines should use for it [default: where it listens]
    #[arg(long, env = "GODWIT_ADMIN_ANNOUNCE", value_name = "ADDRESS")]
    pub admin_announce: Option<String>,
    /// Its certificate with the chain, in PEM; read again when it changes and at SIGHUP
    #[arg(long, env = "GODWIT_ADMIN_TLS_CERT", value_name = "FILE")]
    pub admin_tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, env = "GODWIT_ADMIN_TLS_KEY", value_name = "FILE")]
    pub admin_tls_key: Option<PathBuf>,
    /// The authorities of tools' certificates, in PEM: who shows a certificate of theirs may do
    /// everything
    #[arg(long, env = "GODWIT_ADMIN_TLS_CLIENT_CA", value_name = "FILE")]
    pub admin_tls_client_ca: Option<PathBuf>,
    /// The user who may do everything, with `admin-password`
    #[arg(long, env = "GODWIT_ADMIN_USER", value_name = "NAME")]
    pub admin_user: Option<String>,
    /// The user's password; better GODWIT_ADMIN_PASSWORD, which `ps` does not show
    #[arg(long, env = "GODWIT_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,
}

/// Settings that were checked.
#[derive(Clone)]
pub struct AdminConfig {
    /// Where it listens: `tls://` or `tcp://`.
    pub address: Address,
    /// The address that others are told.
    pub announce: Option<Address>,
    /// The files of TLS, where it is spoken.
    pub tls: Option<TlsFiles>,
    /// Who may ask, with the password; `None`: whoever has a certificate.
    pub login: Option<(String, String)>,
}

impl std::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminConfig")
            .field("address", &self.address)
            .field("announce", &self.announce)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl AdminSettings {
    /// Checks them; says in a sentence what is missing or wrong.
    pub(super) fn validate(self) -> Result<Option<AdminConfig>, ConfigError> {
        let invalid = |why: &str| Err(ConfigError::invalid(why));
        let Some(text) = self.admin_listen else {
            let of_it = [
                self.admin_announce.is_some(),
                self.admin_tls_cert.is_some(),
                self.admin_tls_key.is_some(),
                self.admin_tls_client_ca.is_some(),
                self.admin_user.is_some(),
                self.admin_password.is_some(),
            ];
            if of_it.contains(&true) {
                return invalid(
                    "`admin-announce`, `admin-tls-...`, `admin-user` and `admin-password` mean something only with `admin-listen`",
                );
            }
            return Ok(None);
        };
        let address = read("admin-listen", &text)?;
        if address.is_local() {
            return invalid(
                "`admin-listen` is for other machines: write `tls://HOST:PORT`; what is for this one goes into `admin`",
            );
        }
        let announce = self.admin_announce.map(|text| read("admin-announce", &text)).transpose()?;
        let login = match (self.admin_user, self.admin_password) {
            (Some(user), Some(password)) if !user.is_empty() && !password.is_empty() => {
                Some((user, password))
            }
            (None, None) => None,
            _ => return invalid("`admin-user` and `admin-password` go together"),
        };
        let is_tls = matches!(address, Address::Tls(_));
        let tls = match (self.admin_tls_cert, self.admin_tls_key) {
            (Some(cert), Some(key)) if is_tls => Some(TlsFiles {
                cert,
                key,
                // A certificate or a password: who has neither is not let in.
                clients_may_lack: login.is_some() && self.admin_tls_client_ca.is_some(),
                client_ca: self.admin_tls_client_ca.clone(),
            }),
            (None, None) if !is_tls && self.admin_tls_client_ca.is_none() => None,
            _ if is_tls => {
                return invalid("`admin-listen` by TLS needs `admin-tls-cert` and `admin-tls-key`");
            }
            _ => return invalid("`admin-tls-...` means something only where TLS is spoken"),
        };
        let known_by_certificate = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if login.is_none() && !known_by_certificate {
            return invalid(if is_tls {
                "`admin-listen` lets in who is known: give `admin-tls-client-ca`, or `admin-user` and `admin-password`, or all three"
            } else {
                "`admin-listen` lets in who is known: give `admin-user` and `admin-password`"
            });
        }
        Ok(Some(AdminConfig { address, announce, tls, login }))
    }
}

fn read(key: &str, text: &str) -> Result<Address, ConfigError> {
    text.parse().map_err(|why: admin::AddressError| ConfigError::invalid(format!("`{key}`: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(address: &str) -> AdminSettings {
        AdminSettings { admin_listen: Some(address.to_owned()), ..AdminSettings::default() }
    }

    #[test]
    fn who_is_not_known_is_not_let_in() {
        let why = |settings: AdminSettings| settings.validate().unwrap_err().to_string();
        assert!(AdminSettings::default().validate().unwrap().is_none());
        assert!(why(set("127.0.0.1:7000")).contains("goes into `admin`"));
        assert!(why(set("0.0.0.0:7000")).contains("tls://0.0.0.0:7000"));
        assert!(why(set("tcp://0.0.0.0:7000")).contains("`admin-user`"));
        let tls = |change: &dyn Fn(&mut AdminSettings)| {
            let mut settings = set("tls://0.0.0.0:7000");
            settings.admin_tls_cert = Some("c".into());
            settings.admin_tls_key = Some("k".into());
            change(&mut settings);
            settings
        };
        assert!(why(tls(&|_| {})).contains("who is known"));
        assert!(why(tls(&|s| s.admin_tls_key = None)).contains("`admin-tls-key`"));
        assert!(why(tls(&|s| s.admin_user = Some("ops".into()))).contains("go together"));
        let lost = AdminSettings { admin_user: Some("ops".into()), ..AdminSettings::default() };
        assert!(why(lost).contains("only with `admin-listen`"));
        let by_certificate = tls(&|s| s.admin_tls_client_ca = Some("a".into()));
        let config = by_certificate.validate().unwrap().unwrap();
        assert!(!config.tls.unwrap().clients_may_lack && config.login.is_none());
        let by_either = tls(&|s| {
            s.admin_tls_client_ca = Some("a".into());
            (s.admin_user, s.admin_password) = (Some("ops".into()), Some("secret".into()));
        });
        let config = by_either.validate().unwrap().unwrap();
        assert!(!format!("{config:?}").contains("secret"));
        assert!(config.tls.unwrap().clients_may_lack);
    }
}
