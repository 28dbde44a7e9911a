//! How a client shows who it is to an admin listener that other machines reach, and whom it
//! believes.

use std::fmt;
use std::path::PathBuf;

use ops::tls::{ClientFiles, PeerName};

use crate::address::Endpoint;
use crate::{Client, Error};

/// What is needed for `tls://` and `tcp://` addresses; nothing of it is for local ones.
#[derive(Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Admin listeners of other machines")]
pub struct Access {
    /// The authorities of the node's certificate, in PEM; `tls://` needs it
    #[arg(long, env = "GODWIT_ADMIN_CA", value_name = "FILE")]
    pub admin_ca: Option<PathBuf>,
    /// The certificate to show to the node, in PEM
    #[arg(long, env = "GODWIT_ADMIN_CERT", value_name = "FILE", requires = "admin_key")]
    pub admin_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, env = "GODWIT_ADMIN_KEY", value_name = "FILE", requires = "admin_cert")]
    pub admin_key: Option<PathBuf>,
    /// The user to be, where the node asks for one
    #[arg(long, env = "GODWIT_ADMIN_USER", value_name = "NAME", requires = "admin_password")]
    pub admin_user: Option<String>,
    /// The user's password; better GODWIT_ADMIN_PASSWORD, which `ps` does not show
    #[arg(
        long,
        env = "GODWIT_ADMIN_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "admin_user"
    )]
    pub admin_password: Option<String>,
}

/// Which node a tool asks, and who the tool is.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's admin listener: `unix:/path`, a loopback HOST:PORT, or `tls://HOST:PORT`
    #[arg(long, env = "GODWIT_ADMIN", value_name = "ADDRESS")]
    pub admin: String,
    #[command(flatten)]
    access: Access,
}

impl NodeArgs {
    /// Connects to it.
    pub async fn connect(&self) -> Result<Client, Error> {
        Client::connect_as(&self.admin, &self.access).await
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("admin_ca", &self.admin_ca)
            .field("admin_cert", &self.admin_cert)
            .field("admin_user", &self.admin_user)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// The user and the password, if there are both.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        self.admin_user.as_deref().zip(self.admin_password.as_deref())
    }

    /// What TLS with this endpoint is spoken with, and the name that it has to show.
    pub(crate) fn caller(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(ops::tls::Client, PeerName), Error> {
        let cannot = |why: String| Error::Access { address: format!("tls://{endpoint}"), why };
        let Some(ca) = &self.admin_ca else {
            return Err(cannot(
                "say whose certificates to believe (--admin-ca, or GODWIT_ADMIN_CA)".to_owned(),
            ));
        };
        let own = self.admin_cert.clone().zip(self.admin_key.clone());
        let caller = ops::tls::Client::open(&ClientFiles { ca: ca.clone(), own });
        let caller = caller.map_err(|why| cannot(why.to_string()))?;
        let name = PeerName::new(&endpoint.host).map_err(|why| cannot(why.to_string()))?;
        Ok((caller, name))
    }
}
