//! Which files there are, and what is read of them.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The files of a listener for whoever comes, all of them PEM.
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

/// The files of a daemon that knows others by their certificates, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutualFiles {
    /// The authorities of the others' certificates.
    pub ca: PathBuf,
    /// Our certificate, with those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
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
    /// A file without a certificate in it.
    #[error("there is no certificate in {0}: it must hold those of the authorities, as PEM")]
    NoAuthority(PathBuf),
    /// A name that no certificate can have.
    #[error("`{0}` is no name of a peer: write a DNS name or an address, as in its certificate")]
    Name(String),
}

impl TlsError {
    pub(super) fn unfit(cert: &Path, why: impl std::fmt::Display) -> Self {
        Self::Unfit { cert: cert.to_owned(), why: why.to_string() }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why| TlsError::File { what, path: path.to_owned(), why };
    CertificateDer::pem_file_iter(path).map_err(failed)?.map(|one| one.map_err(failed)).collect()
}

/// A certificate with those that follow it, and its key.
pub(super) type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn own(cert: &Path, key: &Path) -> Result<Own, TlsError> {
    let chain = certificates("certificate", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|why| TlsError::File {
        what: "private key",
        path: key.to_owned(),
        why,
    })?;
    Ok((chain, key))
}

pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for one in certificates("authority", path)? {
        roots.add(one).map_err(|why| TlsError::unfit(path, why))?;
    }
    if roots.is_empty() { Err(TlsError::NoAuthority(path.to_owned())) } else { Ok(roots) }
}
