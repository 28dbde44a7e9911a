//! What went wrong between two daemons, in a sentence that says what to do.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};
use tokio::time::error::Elapsed;

/// Why two daemons do not speak TLS with each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HandshakeError(String);

impl HandshakeError {
    pub(super) fn check<T>(
        shaken: Result<io::Result<T>, Elapsed>,
        peer: &str,
        within: Duration,
    ) -> Result<T, Self> {
        match shaken {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Self::of(&error, peer).unwrap_or_else(|| {
                Self(match error.kind() {
                    io::ErrorKind::UnexpectedEof => format!(
                        "{peer} closed the connection while shaking hands: does it speak TLS there?"
                    ),
                    _ => format!("shaking hands with {peer} failed: {error}"),
                })
            })),
            Err(_) => Err(Self(format!(
                "{peer} did not shake hands within {within:?}: does it speak TLS there?"
            ))),
        }
    }

    /// The sentence for an error of a connection, if it is TLS that failed.
    pub(super) fn of(error: &io::Error, peer: &str) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(Self(sentence(error, peer)))
    }

    pub(super) fn because(error: &Error, peer: &str) -> Self {
        Self(sentence(error, peer))
    }
}

fn sentence(error: &Error, peer: &str) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why, peer),
        Error::NoCertificatesPresented => {
            format!("{peer} showed no certificate: give it one with tls-cert and tls-key")
        }
        Error::AlertReceived(alert) => alerted(*alert, peer),
        Error::InvalidMessage(_) => format!(
            "{peer} does not speak TLS: give it a certificate (tls-ca, tls-cert, tls-key), or turn TLS off on both sides"
        ),
        Error::PeerIncompatible(why) => format!(
            "{peer} offers no TLS that we take ({why:?}): 1.3 is needed; is it a daemon of Godwit?"
        ),
        other => format!("TLS with {peer} failed: {other}"),
    }
}

fn certificate(why: &CertificateError, peer: &str) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {peer} has expired: renew it there (if it has not, our clock is wrong)"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "the certificate of {peer} is not valid yet: compare the clocks of both machines"
        ),
        // A bad signature: the authority was made anew under its old name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {peer} is of an authority that we do not know: our tls-ca must hold it"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "{peer} shows a certificate for {}, and `{}` is needed: give it that name, or put one that it has into tls-peers",
            names(presented),
            expected.to_str()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!(
                "the certificate of {peer} is not for this end of a connection: it needs both uses, serverAuth and clientAuth"
            )
        }
        other => format!("the certificate of {peer} cannot be believed: {other}"),
    }
}

/// Names as a certificate's parser shows them, such as `DnsName("a.b")`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".to_owned();
    }
    let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    presented.iter().map(|name| format!("`{}`", plain(name))).collect::<Vec<_>>().join(", ")
}

fn alerted(alert: AlertDescription, peer: &str) -> String {
    match alert {
        AlertDescription::CertificateExpired => format!(
            "{peer} says that our certificate is expired or not valid yet: renew it, or compare the clocks"
        ),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => format!(
            "{peer} does not know the authority of our certificate: its tls-ca must hold it"
        ),
        AlertDescription::CertificateRequired => {
            format!("{peer} wants a certificate: give tls-cert and tls-key")
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate => {
            format!("{peer} does not take our certificate ({alert:?}): its log says why")
        }
        other => format!("{peer} ended TLS: {other:?}; its log says why"),
    }
}
