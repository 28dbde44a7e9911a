//! Dialling servers that are not ours: their certificate is checked as browsers do it, ours is shown if
//! there is one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::files::{authorities, own};
use super::{HandshakeError, PeerName, Socket, TlsError};

/// The files of a client, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities of the servers' certificates.
    pub ca: PathBuf,
    /// Our certificate and its key, where servers ask for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What connections to other people's servers are made with. Clones share it.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// With what the files hold now.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    pub fn open(files: &ClientFiles) -> Result<Self, TlsError> {
        let unfit = |cert: &Path, why: rustls::Error| TlsError::unfit(cert, why);
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|why| unfit(&files.ca, why))?
            .with_root_certificates(authorities(&files.ca)?);
        let config = match &files.own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (chain, secret) = own(cert, key)?;
                builder.with_client_auth_cert(chain, secret).map_err(|why| unfit(cert, why))?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// The same, asking for this protocol (ALPN): servers of HTTP/2 may insist on being asked.
    #[must_use]
    pub fn speaking(self, protocol: &[u8]) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self(Arc::new(config))
    }

    /// Shakes hands with who was dialled, whose certificate must have this name.
    ///
    /// # Errors
    /// The other end does not speak TLS, or one end does not take the other's certificate.
    pub async fn connect(
        &self,
        socket: TcpStream,
        name: &PeerName,
        within: Duration,
    ) -> Result<Socket, HandshakeError> {
        let peer = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let shaking = TlsConnector::from(self.0.clone()).connect(name.server().clone(), socket);
        let shaken = tokio::time::timeout(within, shaking).await;
        let stream = HandshakeError::check(shaken, &peer, within)?;
        Ok(Socket::tls(stream.into(), peer))
    }
}
