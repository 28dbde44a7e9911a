//! Certificates for clouds whose sidecars speak TLS: one authority, and one for each sidecar and for
//! the snapshotter, with the names that they must have.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and the directory that it puts certificates into.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, which is from now on the one whose certificates are good: `DIR/ca.pem`.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Writes `DIR/<file>.pem` and `DIR/<file>.key`: a certificate with this name.
    pub fn sign(&self, file: &str, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let cert = params.signed_by(&key, &self.issuer)?;
        fs::write(self.dir.join(format!("{file}.key")), key.serialize_pem())?;
        fs::write(self.dir.join(format!("{file}.pem")), cert.pem())?;
        Ok(())
    }
}

/// The flags that make a program show the certificate of this file and trust the authority.
pub fn flags(dir: &Path, file: &str) -> Vec<String> {
    let path = |name: String| dir.join(name).display().to_string();
    let ca = path("ca.pem".to_owned());
    let (cert, key) = (path(format!("{file}.pem")), path(format!("{file}.key")));
    ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).to_vec()
}
