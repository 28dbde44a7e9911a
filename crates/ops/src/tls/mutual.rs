//! Daemons that know each other by their certificates: TLS 1.3, both ends show one, of an authority
//! that the other was given.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::files::{authorities, own};
use super::reload::Reloaded;
use super::{HandshakeError, MutualFiles, Socket, TlsError};
use crate::shutdown::Shutdown;

/// A certificate that ends within this is warned of whenever it is read.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// A name that a certificate may have: a DNS name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(ServerName<'static>);

impl PeerName {
    /// The name that this text is.
    ///
    /// # Errors
    /// It is neither a DNS name nor an address.
    pub fn new(text: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(text.to_owned());
        name.map(Self).map_err(|_| TlsError::Name(text.to_owned()))
    }

    pub(super) fn server(&self) -> &ServerName<'static> {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_str().fmt(f)
    }
}

/// What connections between daemons are made with. Clones share it.
#[derive(Clone)]
pub struct Mutual(Arc<Inner>);

struct Inner {
    also: Vec<PeerName>,
    pair: Reloaded<Pair>,
}

struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    expires: Option<Duration>,
}

impl fmt::Debug for Mutual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutual").field("also", &self.0.also).finish_non_exhaustive()
    }
}

impl Mutual {
    /// With what the files hold now. Who shows one of the names in `also` may be any peer.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    pub fn open(files: MutualFiles, also: Vec<PeerName>) -> Result<Self, TlsError> {
        let paths = vec![files.ca.clone(), files.cert.clone(), files.key.clone()];
        let names = also.clone();
        let pair = Reloaded::open(paths, move || read(&files, &names))?;
        Ok(Self(Arc::new(Inner { also, pair })))
    }

    /// Shakes hands with who has connected. Who it is, its [`Socket::peer`] says.
    ///
    /// # Errors
    /// The other end does not speak TLS, or one end does not take the other's certificate.
    pub async fn accept(
        &self,
        socket: TcpStream,
        within: Duration,
    ) -> Result<Socket, HandshakeError> {
        let peer = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let acceptor = TlsAcceptor::from(self.0.pair.now().server.clone());
        let shaken = tokio::time::timeout(within, acceptor.accept(socket)).await;
        let stream = HandshakeError::check(shaken, &peer, within)?;
        Ok(Socket::tls(stream.into(), peer))
    }

    /// Shakes hands with who was dialled, which must show this name or one of those that any peer
    /// may have. If it does not take our certificate, the first read may be what says so.
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
        let connector = TlsConnector::from(self.0.pair.now().client.clone());
        let shaking = connector.connect(name.server().clone(), socket);
        let shaken = tokio::time::timeout(within, shaking).await;
        let stream = HandshakeError::check(shaken, &peer, within)?;
        Ok(Socket::tls(stream.into(), peer))
    }

    /// The names that any peer may show.
    pub fn also(&self) -> &[PeerName] {
        &self.0.also
    }

    /// When our own certificate ends, as time since 1970; `None` where that cannot be told.
    pub fn expires(&self) -> Option<Duration> {
        self.0.pair.now().expires
    }

    /// Reads the files again whenever they have changed, and at each SIGHUP, until shutdown. While
    /// they cannot be used, what was read before stays.
    ///
    /// # Errors
    /// Signals cannot be listened for.
    pub async fn follow(self, shutdown: Shutdown) -> std::io::Result<()> {
        self.0.pair.follow(shutdown).await
    }
}

fn read(files: &MutualFiles, also: &[PeerName]) -> Result<Pair, TlsError> {
    let unfit = |why: &dyn fmt::Display| TlsError::unfit(&files.cert, why);
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = own(&files.cert, &files.key)?;
    let roots = Arc::new(authorities(&files.ca)?);
    let versions = &[&rustls::version::TLS13];

    let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let callers = callers.build().map_err(|why| unfit(&why))?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|why| unfit(&why))?
        .with_client_cert_verifier(callers)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|why| unfit(&why))?;
    // Connections last for days: nothing is gained by resuming one without looking at certificates.
    server.send_tls13_tickets = 0;

    let called = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
    let called = called.build().map_err(|why| unfit(&why))?;
    let expires = end_of(&called, &chain);
    warn_of_end(files, expires);
    let called = Arc::new(AnyName { inner: called, also: also.to_vec() });
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|why| unfit(&why))?
        .dangerous()
        .with_custom_certificate_verifier(called)
        .with_client_auth_cert(chain, key)
        .map_err(|why| unfit(&why))?;
    client.resumption = Resumption::disabled();
    Ok(Pair { server: Arc::new(server), client: Arc::new(client), expires })
}

/// When a certificate ends: what a verifier says of it in a time when all of them have.
fn end_of(verifier: &WebPkiServerVerifier, chain: &[CertificateDer<'_>]) -> Option<Duration> {
    const YEAR_9999: Duration = Duration::from_secs(253_370_764_800);
    let (first, rest) = chain.split_first()?;
    let name = ServerName::try_from("any.godwit").ok()?;
    let then = UnixTime::since_unix_epoch(YEAR_9999);
    match verifier.verify_server_cert(first, rest, &name, &[], then) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn warn_of_end(files: &MutualFiles, expires: Option<Duration>) {
    let Some(expires) = expires else { return };
    let now = Duration::from_millis(crate::clock::unix_ms());
    let cert = files.cert.display();
    if expires <= now {
        tracing::error!("our own certificate {cert} has expired: peers refuse it; renew it");
    } else if expires - now < SOON {
        let hours = (expires - now).as_secs() / 3600;
        tracing::warn!("our own certificate {cert} expires in {hours} hours: renew it");
    }
}

/// Checks who was dialled as the web does: authority, time, use and name; the name may be another
/// one that was configured.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
    also: Vec<PeerName>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is = |name: &ServerName<'_>| {
            self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        is(server_name).or_else(|why| match why {
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => self.also.iter().find_map(|name| is(name.server()).ok()).ok_or(why),
            why => Err(why),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
