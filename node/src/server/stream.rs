//! A client's socket, plain or under TLS: what can be read or written now, and when more can be.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Room for one read under TLS: what one record holds.
const RECORD_BYTES: usize = 16 << 10;
/// Ciphertext that may wait for the socket, in bytes.
const SEALED_BYTES_MAX: usize = 128 << 10;

/// A socket.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A socket under TLS.
pub(super) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// There may be plaintext that was not read for want of room.
    opened: bool,
}

/// The socket as rustls takes it.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// A socket that was accepted; `tls`: on a listener that speaks it.
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(socket)) };
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Ok(Self::Tls(Box::new(TlsStream { socket, session, opened: false })))
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Whether there may be something to read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(tls) if tls.opened => Poll::Ready(Ok(())),
            other => other.socket().poll_read_ready(cx),
        }
    }

    /// Whether the socket takes more.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_write_ready(cx)
    }

    /// Whether both sides are still finding out who the other is.
    pub(super) fn is_shaking_hands(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.is_handshaking())
    }

    /// Whether something waits for the socket beside what was given to [`Stream::try_write`].
    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Reads what is there; 0: the client has said its last word.
    pub(super) fn try_read_buf(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => {
                let room = into.capacity() - into.len();
                let read = socket.try_read_buf(into);
                if read.as_ref().is_ok_and(|&count| count < room) {
                    // All that had arrived: the next wait is for more, and no read finds nothing.
                    let drained = || Err::<(), _>(ErrorKind::WouldBlock.into());
                    let _ = socket.try_io(Interest::READABLE, drained);
                }
                read
            }
            Self::Tls(tls) => tls.try_read_buf(into),
        }
    }

    /// Writes what the socket takes.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Sends what waits beside that.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Says goodbye, as far as the socket takes it now.
    pub(super) fn close(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            // Who does not take it learns of the end by the end of the connection.
            let _ = tls.try_flush();
        }
    }
}

impl TlsStream {
    fn try_read_buf(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let from = into.len();
            into.resize(from + RECORD_BYTES, 0);
            let read = self.session.reader().read(&mut into[from..]);
            into.truncate(from + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(count) => {
                    self.opened = count == RECORD_BYTES;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.opened = false,
                // The socket ended without a goodbye.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            match self.session.read_tls(&mut Now(&self.socket)) {
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) => {
                    if error.kind() == ErrorKind::WouldBlock {
                        self.try_flush_or_wait()?;
                    }
                    return Err(error);
                }
            }
            if let Err(why) = self.session.process_new_packets() {
                // The alert says why, if the socket takes it.
                let _ = self.try_flush();
                return Err(io::Error::new(ErrorKind::InvalidData, why));
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let count = self.session.writer().write(bytes)?;
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.try_flush_or_wait()?;
        Ok(count)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Now(&self.socket))?;
        }
        Ok(())
    }

    /// A socket that takes no more now is no error.
    fn try_flush_or_wait(&mut self) -> io::Result<()> {
        match self.try_flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}
