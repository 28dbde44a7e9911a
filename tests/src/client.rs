//! A small blocking Redis client: one connection, pipelined, over TCP or a Unix socket.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use resp::reply::Reply;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);

trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

/// A connection.
pub struct Client {
    address: String,
    socket: Box<dyn Socket>,
    out: Vec<u8>,
    // Bytes received and not read yet start at `read`.
    buffer: Vec<u8>,
    read: usize,
}

impl Client {
    /// Connects to `host:port` or `unix:/path`; answers may take 30 seconds.
    pub fn connect(address: &str) -> Result<Self> {
        Self::connect_with(address, Duration::from_secs(30))
    }

    /// Connects, with another patience for answers.
    pub fn connect_with(address: &str, patience: Duration) -> Result<Self> {
        let connect = || -> Result<Box<dyn Socket>> {
            if let Some(path) = address.strip_prefix("unix:") {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(patience))?;
                socket.set_write_timeout(Some(patience))?;
                return Ok(Box::new(socket));
            }
            let first = address.to_socket_addrs()?.next().context("no such address")?;
            let socket = TcpStream::connect_timeout(&first, CONNECT_MAX)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(patience))?;
            socket.set_write_timeout(Some(patience))?;
            Ok(Box::new(socket))
        };
        let socket = connect().with_context(|| format!("cannot connect to {address}"))?;
        let address = address.to_owned();
        Ok(Self { address, socket, out: Vec::new(), buffer: Vec::new(), read: 0 })
    }

    /// Adds a command to what [`Self::flush`] sends.
    pub fn push<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        resp::command::write(&mut self.out, &args);
    }

    /// Sends what was pushed.
    pub fn flush(&mut self) -> Result<()> {
        let sent = self.socket.write_all(&self.out);
        self.out.clear();
        sent.with_context(|| format!("cannot send to {}", self.address))
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<Reply> {
        loop {
            let unread = self.buffer.get(self.read..).unwrap_or_default();
            if let Some((reply, length)) = Reply::parse(unread)? {
                self.read += length;
                if self.read == self.buffer.len() {
                    self.buffer.clear();
                    self.read = 0;
                }
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        let before = self.buffer.len();
        // Room doubles, so that a long answer is not scanned once for each few bytes.
        self.buffer.resize(before + before.max(64 * 1024), 0);
        let room = self.buffer.get_mut(before..).unwrap_or_default();
        let got = self.socket.read(room);
        self.buffer.truncate(before + got.as_ref().copied().unwrap_or(0));
        match got.with_context(|| format!("no answer from {}", self.address))? {
            0 => bail!("{} closed the connection", self.address),
            _ => Ok(()),
        }
    }

    /// One command and its answer; an error answer is an `Err`.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply> {
        self.push(args);
        self.flush()?;
        match self.answer()? {
            Reply::Error(text) => bail!("{} answered: {text}", self.address),
            reply => Ok(reply),
        }
    }

    /// One command whose answer is text.
    pub fn text<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<String> {
        let reply = self.call(args)?;
        let text = reply.as_text().map(str::to_owned);
        text.with_context(|| format!("{} answered {reply:?} where text was due", self.address))
    }
}
