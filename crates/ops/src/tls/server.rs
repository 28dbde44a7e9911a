//! A listener for whoever comes.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::files::{authorities, own};
use super::reload::Reloaded;
use super::{HandshakeError, Socket, TlsError, TlsFiles};
use crate::shutdown::Shutdown;

/// What new connections are answered with. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    config: Reloaded<ServerConfig>,
}

impl Tls {
    /// With what the files hold now.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
        let paths = paths.into_iter().flatten().cloned().collect();
        let again = files.clone();
        let config = Reloaded::open(paths, move || read(&again))?;
        Ok(Self(Arc::new(Inner { files, config })))
    }

    /// Which files it uses.
    pub fn files(&self) -> &TlsFiles {
        &self.0.files
    }

    /// What a new connection uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.config.now()
    }

    /// Shakes hands with who has connected. Whether it has shown a certificate, its
    /// [`Socket::peer`] says.
    ///
    /// # Errors
    /// The other end does not speak TLS, or one end does not take the other's certificate.
    pub async fn accept(
        &self,
        socket: TcpStream,
        within: Duration,
    ) -> Result<Socket, HandshakeError> {
        let peer = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let acceptor = TlsAcceptor::from(self.config());
        let shaken = tokio::time::timeout(within, acceptor.accept(socket)).await;
        let stream = HandshakeError::check(shaken, &peer, within)?;
        Ok(Socket::tls(stream.into(), peer))
    }

    /// Reads the files again whenever they have changed, and at each SIGHUP, until shutdown. While
    /// they cannot be used, what was read before stays.
    ///
    /// # Errors
    /// Signals cannot be listened for.
    pub async fn follow(self, shutdown: Shutdown) -> std::io::Result<()> {
        self.0.config.follow(shutdown).await
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let unfit = |why: &dyn std::fmt::Display| TlsError::unfit(&files.cert, why);
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = own(&files.cert, &files.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| unfit(&why))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match files.clients_may_lack {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|why| unfit(&why))?)
        }
    };
    builder.with_single_cert(chain, key).map_err(|why| unfit(&why))
}
