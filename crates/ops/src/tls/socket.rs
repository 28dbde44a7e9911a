//! A connection between daemons, plain or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::{HandshakeError, PeerName};

/// A connection.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    peer: String,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Who is at the other end of a connection under TLS.
#[derive(Clone, Debug)]
pub struct Peer {
    certificate: CertificateDer<'static>,
    address: String,
}

impl Peer {
    /// Whether its certificate, which is good, has one of these names.
    ///
    /// # Errors
    /// It has none of them; the sentence is for both ends to read.
    pub fn is_one_of(&self, names: &[PeerName]) -> Result<(), HandshakeError> {
        let parsed = ParsedCertificate::try_from(&self.certificate);
        let parsed = parsed.map_err(|error| HandshakeError::because(&error, &self.address))?;
        let mut first = None;
        for name in names {
            match verify_server_name(&parsed, name.server()) {
                Ok(()) => return Ok(()),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let error = first.unwrap_or(rustls::Error::NoCertificatesPresented);
        Err(HandshakeError::because(&error, &self.address))
    }
}

impl Socket {
    /// A connection without TLS.
    pub fn plain(socket: TcpStream) -> Self {
        let peer = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        Self { stream: Stream::Plain(socket), peer }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, peer: String) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), peer }
    }

    /// Who is at the other end; `None` without TLS.
    pub fn peer(&self) -> Option<Peer> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let certificate = stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned();
        Some(Peer { certificate, address: self.peer.clone() })
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match HandshakeError::of(&error, &self.peer) {
            Some(sentence) => io::Error::new(error.kind(), sentence),
            None => error,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.stream {
            Stream::Plain(stream) => return Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_read(cx, buf)),
        };
        Poll::Ready(match read {
            // No goodbye: the peer died. What is cut short is found by who reads, whose lengths and
            // checksums are inside.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read.map_err(|error| self.explain(error)),
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => return Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
        };
        Poll::Ready(written.map_err(|error| self.explain(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
