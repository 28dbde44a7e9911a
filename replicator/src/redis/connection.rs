//! A connection to a server that speaks Redis's protocol.

use std::io;
use std::time::Duration;

use ops::tls::{Client, PeerName};
use resp::reply::{Reply, Scanner};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Endpoint};

/// How long a connection may take to come about, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the other end may take to accept what is sent, at most [`WRITE_BYTES`] of it.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
const WRITE_BYTES: usize = 256 << 10;
/// How long an answer may take. A server that empties a great dataset, or runs a script, is silent.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The most that one read takes.
const READ_BYTES: usize = 64 << 10;

/// Why a connection is of no use any more, or the server refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("cannot {what} {at}: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The server.
        at: String,
        /// What happened.
        why: io::Error,
    },
    /// What was asked was answered with an error.
    #[error("{at} refused {what}: {why}")]
    Refused {
        /// The server.
        at: String,
        /// What was asked.
        what: String,
        /// Its words.
        why: String,
    },
    /// It does not speak the protocol.
    #[error("{at} answered with what cannot be read: {why}")]
    Protocol {
        /// The server.
        at: String,
        /// What is wrong.
        why: String,
    },
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A connection.
pub struct Connection {
    socket: Box<dyn Socket>,
    /// The server, for messages.
    at: String,
    inbox: Vec<u8>,
    /// Bytes of the inbox that were read.
    read: usize,
    scanner: Scanner,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("at", &self.at).finish_non_exhaustive()
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long")
}

impl Connection {
    /// Connects, and says who we are.
    pub async fn open(address: &Address, tls: Option<&Client>) -> Result<Self, Error> {
        let at = address.to_string();
        let failed = |why| Error::Io { what: "connect to", at: at.clone(), why };
        let socket = tokio::time::timeout(CONNECT_WITHIN, dial(address, tls)).await;
        let socket = socket.map_err(|_| failed(late()))?.map_err(failed)?;
        let mut connection =
            Self { socket, at, inbox: Vec::new(), read: 0, scanner: Scanner::new() };
        if let Some(password) = &address.password {
            let password = password.as_bytes();
            match &address.user {
                Some(user) => connection.call(&[b"AUTH", user.as_bytes(), password]).await?,
                None => connection.call(&[b"AUTH", password]).await?,
            };
        }
        Ok(connection)
    }

    /// The server, for messages.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// An error of the socket.
    pub fn failed(&self, what: &'static str, why: io::Error) -> Error {
        Error::Io { what, at: self.at.clone(), why }
    }

    /// What a server may not say.
    pub fn unexpected(&self, why: impl Into<String>) -> Error {
        Error::Protocol { at: self.at.clone(), why: why.into() }
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(WRITE_BYTES) {
            let written = tokio::time::timeout(WRITE_WITHIN, self.socket.write_all(piece)).await;
            let written = written.unwrap_or_else(|_| Err(late()));
            written.map_err(|why| self.failed("send to", why))?;
        }
        let flushed = tokio::time::timeout(WRITE_WITHIN, self.socket.flush()).await;
        flushed.unwrap_or_else(|_| Err(late())).map_err(|why| self.failed("send to", why))
    }

    /// What was received and not read yet.
    pub fn received(&self) -> &[u8] {
        self.inbox.get(self.read..).unwrap_or_default()
    }

    /// Some of it was read.
    pub fn consume(&mut self, count: usize) {
        self.read = (self.read + count).min(self.inbox.len());
        if self.read == self.inbox.len() {
            self.inbox.clear();
            self.inbox.shrink_to(READ_BYTES * 4);
            self.read = 0;
        }
    }

    /// Receives some more. May be dropped: nothing is lost.
    pub async fn receive(&mut self) -> Result<(), Error> {
        if self.read > 0 {
            self.inbox.drain(..self.read);
            self.read = 0;
        }
        self.inbox.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.inbox).await {
            Ok(0) => {
                let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
                Err(self.failed("read from", why))
            }
            Ok(_) => Ok(()),
            Err(why) => Err(self.failed("read from", why)),
        }
    }

    /// The next answer, an error too.
    pub async fn answer(&mut self, within: Duration) -> Result<Reply, Error> {
        loop {
            let unread = self.inbox.get(self.read..).unwrap_or_default();
            let found =
                self.scanner.next(unread).map_err(|why| self.unexpected(why.to_string()))?;
            if let Some(length) = found {
                let reply = Reply::parse(self.received());
                let reply = reply.map_err(|why| self.unexpected(why.to_string()))?;
                self.consume(length);
                return reply
                    .map(|(reply, _)| reply)
                    .ok_or_else(|| self.unexpected("half a reply"));
            }
            let received = tokio::time::timeout(within, self.receive()).await;
            received.unwrap_or_else(|_| Err(self.failed("get an answer from", late())))?;
        }
    }

    /// One command and its answer; an error is an error.
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, Error> {
        let mut bytes = Vec::new();
        resp::command::write(&mut bytes, args);
        self.send(&bytes).await?;
        match self.answer(ANSWER_WITHIN).await? {
            Reply::Error(why) => {
                let name = args.first().copied().unwrap_or_default();
                let what = String::from_utf8_lossy(name).into_owned();
                Err(Error::Refused { at: self.at.clone(), what, why })
            }
            reply => Ok(reply),
        }
    }
}

async fn dial(address: &Address, tls: Option<&Client>) -> io::Result<Box<dyn Socket>> {
    let (host, port) = match &address.endpoint {
        Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp(host, port) => (host, *port),
    };
    let socket = TcpStream::connect((host.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    if !address.tls {
        return Ok(Box::new(socket));
    }
    let client = tls.ok_or_else(|| io::Error::other("TLS needs the authorities: --tls-ca FILE"))?;
    let name = PeerName::new(host).map_err(io::Error::other)?;
    let socket = client.connect(socket, &name, CONNECT_WITHIN).await;
    Ok(Box::new(socket.map_err(io::Error::other)?))
}
