//! Being a replica of a Redis: the handshake, the snapshot, the stream (Redis: `replication.c`).

use std::io;
use std::path::Path;
use std::time::Duration;

use ops::tls::Client;
use tokio::io::AsyncWriteExt;

use super::address::Address;
use super::connection::{Connection, Error};
use super::place::ReplId;
use super::spool::SpoolError;

/// How long a source may be silent: it pings each ten seconds, and while it makes a snapshot it sends
/// line breaks.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The longest line that a source may answer with.
const LINE_BYTES_MAX: usize = 4 << 10;
/// The end of a snapshot whose length is not known is marked by so many bytes.
const MARK_BYTES: usize = 40;

/// Why there is nothing more of the source.
#[derive(Debug, thiserror::Error)]
pub enum PsyncError {
    /// The connection.
    #[error(transparent)]
    Source(#[from] Error),
    /// The disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What the source can do for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A snapshot comes, then the stream behind this offset.
    Full(ReplId, u64),
    /// The stream goes on where we are, under another id if it says one.
    Continue(Option<ReplId>),
}

/// A source that has taken us for its replica.
#[derive(Debug)]
pub struct Source {
    connection: Connection,
}

impl Source {
    /// Connects, introduces us, and asks for what follows the end of what we have.
    pub async fn open(
        address: &Address,
        tls: Option<&Client>,
        have: Option<(ReplId, u64)>,
    ) -> Result<(Self, Answer), Error> {
        let mut connection = Connection::open(address, tls).await?;
        connection.call(&[b"PING"]).await?;
        // Nobody can connect to us, and INFO of the source should not say so.
        connection.call(&[b"REPLCONF", b"listening-port", b"0"]).await?;
        connection.call(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
        let (id, next) = match &have {
            Some((id, end)) => (id.as_str().to_owned(), (end + 1).to_string()),
            None => ("?".to_owned(), "-1".to_owned()),
        };
        let mut bytes = Vec::new();
        resp::command::write(&mut bytes, &[b"PSYNC", id.as_bytes(), next.as_bytes()]);
        connection.send(&bytes).await?;
        let mut source = Self { connection };
        let line = source.line().await?;
        let answer = source.understood(&line)?;
        Ok((source, answer))
    }

    fn understood(&self, line: &str) -> Result<Answer, Error> {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("+FULLRESYNC"), Some(id), Some(offset)) => {
                let found = ReplId::parse(id).zip(offset.parse().ok());
                found.map(|(id, offset)| Answer::Full(id, offset))
            }
            (Some("+CONTINUE"), id, _) => match id.map(ReplId::parse) {
                Some(None) => None,
                id => Some(Answer::Continue(id.flatten())),
            },
            _ if line.starts_with('-') => {
                return Err(Error::Refused {
                    at: self.connection.at().to_owned(),
                    what: "PSYNC".to_owned(),
                    why: line.trim_start_matches('-').to_owned(),
                });
            }
            _ => None,
        }
        .ok_or_else(|| self.connection.unexpected(format!("`{line}` for PSYNC")))
    }

    /// The next line that is not empty: empty ones say that the source is alive.
    async fn line(&mut self) -> Result<String, Error> {
        loop {
            let received = self.connection.received();
            let window = received.get(..LINE_BYTES_MAX).unwrap_or(received);
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line = received.get(..end).unwrap_or_default();
                    let line = String::from_utf8_lossy(line).trim_end().to_owned();
                    self.connection.consume(end + 1);
                    if !line.is_empty() {
                        return Ok(line);
                    }
                }
                None if window.len() == LINE_BYTES_MAX => {
                    return Err(self.connection.unexpected("a line without an end"));
                }
                None => self.more().await?,
            }
        }
    }

    async fn more(&mut self) -> Result<(), Error> {
        let received = tokio::time::timeout(SILENCE_MAX, self.connection.receive()).await;
        received.unwrap_or_else(|_| {
            let why =
                io::Error::new(io::ErrorKind::TimedOut, format!("silent for {SILENCE_MAX:?}"));
            Err(self.connection.failed("hear from", why))
        })
    }

    /// Takes the snapshot into a file, and syncs it; `seen` hears how many bytes came.
    pub async fn snapshot(&mut self, path: &Path, seen: impl Fn(u64)) -> Result<(), PsyncError> {
        let failed = |why| SpoolError::Io { what: "write", path: path.to_owned(), why };
        let head = self.line().await?;
        let file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut total = 0;
        if let Some(mark) = head.strip_prefix("$EOF:") {
            let mark = mark.as_bytes().to_vec();
            if mark.len() != MARK_BYTES {
                return Err(self.connection.unexpected("an end mark of another length").into());
            }
            loop {
                let received = self.connection.received();
                let ended = received.ends_with(&mark);
                // What may be the beginning of the mark stays.
                let keep = if ended { mark.len() } else { received.len().min(mark.len() - 1) };
                let count = received.len() - keep;
                let bytes = received.get(..count).unwrap_or_default();
                file.write_all(bytes).await.map_err(failed)?;
                total += count as u64;
                seen(total);
                self.connection.consume(if ended { count + keep } else { count });
                if ended {
                    break;
                }
                self.more().await?;
            }
        } else {
            let length = head.strip_prefix('$').and_then(|length| length.parse::<u64>().ok());
            let length = length
                .ok_or_else(|| self.connection.unexpected(format!("`{head}` for a snapshot")))?;
            while total < length {
                if self.connection.received().is_empty() {
                    self.more().await?;
                }
                let received = self.connection.received();
                let left = usize::try_from(length - total).unwrap_or(usize::MAX);
                let bytes = received.get(..left).unwrap_or(received);
                let count = bytes.len();
                file.write_all(bytes).await.map_err(failed)?;
                total += count as u64;
                seen(total);
                self.connection.consume(count);
            }
        }
        file.flush().await.map_err(failed)?;
        file.into_inner().sync_all().await.map_err(failed)?;
        Ok(())
    }

    /// Waits for more of the stream. May be dropped: nothing is lost.
    pub async fn receive(&mut self) -> Result<(), Error> {
        if self.connection.received().is_empty() {
            self.connection.receive().await?;
        }
        Ok(())
    }

    /// The bytes of the stream that have come.
    pub fn received(&self) -> &[u8] {
        self.connection.received()
    }

    /// They are in the spool.
    pub fn consume(&mut self, count: usize) {
        self.connection.consume(count);
    }

    /// An error of the connection.
    pub fn failed(&self, what: &'static str, why: io::Error) -> Error {
        self.connection.failed(what, why)
    }

    /// Tells the source what we have, as replicas do each second.
    pub async fn acknowledge(&mut self, offset: u64) -> Result<(), Error> {
        let mut bytes = Vec::new();
        resp::command::write(&mut bytes, &[b"REPLCONF", b"ACK", offset.to_string().as_bytes()]);
        self.connection.send(&bytes).await
    }
}
