//! TLS of the clients' listener: certificates, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ops::shutdown::Shutdown;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Which files to use, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are let in all the same.
    pub clients_may_lack: bool,
}

/// Why TLS cannot be had with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that could not be read, or is not PEM.
    #[error("cannot read the {what} in {path}: {why}")]
    File {
        /// What is in it.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        why: rustls::pki_types::pem::Error,
    },
    /// They do not fit together.
    #[error("the certificate {cert} cannot be used: {why}")]
    Unfit {
        /// Which certificate.
        cert: PathBuf,
        /// Why.
        why: String,
    },
}

/// What new connections are answered with.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// With what the files hold now.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let config = ArcSwap::new(read(&files)?);
        Ok(Self(Arc::new(Inner { files, config })))
    }

    /// Which files it uses, and the port that it is spoken at.
    pub fn facts(&self, listener: &TcpListener) -> std::io::Result<(TlsFiles, u16)> {
        Ok((self.0.files.clone(), listener.local_addr()?.port()))
    }

    /// What a new connection uses.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.config.load_full()
    }

    /// Reads the files again whenever they have changed, and at each SIGHUP, until shutdown. While
    /// they cannot be used, what was read before stays.
    pub async fn follow(self, shutdown: Shutdown) -> std::io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut seen = self.marks();
        loop {
            let told = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = hangups.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = self.marks();
            if !told && now == seen {
                continue;
            }
            seen = now;
            match read(&self.0.files) {
                Ok(config) => {
                    self.0.config.store(config);
                    tracing::info!(cert = %self.0.files.cert.display(), "the certificate was read again");
                }
                Err(why) => tracing::warn!("{why}; new connections get the one from before"),
            }
        }
    }

    /// What tells that a file has changed.
    fn marks(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsFiles { cert, key, client_ca, .. } = &self.0.files;
        let mark = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().map(mark).collect()
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why| TlsError::File { what, path: path.to_owned(), why };
    CertificateDer::pem_file_iter(path).map_err(failed)?.map(|one| one.map_err(failed)).collect()
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |why: &dyn std::fmt::Display| TlsError::Unfit {
        cert: files.cert.clone(),
        why: why.to_string(),
    };
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("certificate", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| TlsError::File {
        what: "private key",
        path: files.key.clone(),
        why,
    })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| unfit(&why))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for one in certificates("authority", path)? {
                roots.add(one).map_err(|why| unfit(&why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.clients_may_lack {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|why| unfit(&why))?)
        }
    };
    builder.with_single_cert(chain, key).map(Arc::new).map_err(|why| unfit(&why))
}
