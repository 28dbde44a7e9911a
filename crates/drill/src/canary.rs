//! A canary: writes, reads back and deletes one key in some slots.

use std::time::{Duration, Instant};

use anyhow::Context;
use keyspace::{Slot, SlotSet};
use resp::reply::Reply;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long all of it may take.
const WAIT: Duration = Duration::from_secs(10);
/// No answer here is longer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What a canary saw.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// How long a write, a read and a delete took.
    pub took: Duration,
    /// How many keys there are, besides its own.
    pub keys: u64,
}

struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn ask(&mut self, words: &[&[u8]]) -> anyhow::Result<Reply> {
        let mut out = Vec::new();
        resp::command::write(&mut out, words);
        self.socket.write_all(&out).await?;
        loop {
            if let Some((reply, length)) = Reply::parse(&self.read)? {
                self.read.drain(..length);
                if let Reply::Error(why) = &reply {
                    anyhow::bail!("{} was answered: {why:?}", String::from_utf8_lossy(words[0]));
                }
                return Ok(reply);
            }
            anyhow::ensure!(self.read.len() <= ANSWER_BYTES_MAX, "an answer has no end");
            let more = self.socket.read_buf(&mut self.read).await?;
            anyhow::ensure!(more > 0, "the connection was closed");
        }
    }
}

/// A key of one of these slots that nobody else has.
fn key_in(slots: &SlotSet) -> Option<String> {
    let unique = rand::random::<u64>();
    (0_u32..1_000_000)
        .map(|n| format!("godwit:drill:{unique:016x}:{n}"))
        .find(|key| slots.contains(Slot::of_key(key.as_bytes())))
}

/// Flies once, after showing the password where there is one.
///
/// # Errors
/// Something was refused, not answered in time, or read back as something else.
pub async fn fly(address: &str, slots: &SlotSet, password: Option<&str>) -> anyhow::Result<Flight> {
    let key = key_in(slots).context("no key was found for its slots")?;
    let flight = async {
        let socket = TcpStream::connect(address).await?;
        let mut to = Connection { socket, read: Vec::new() };
        if let Some(password) = password {
            to.ask(&[b"AUTH", password.as_bytes()]).await?;
        }
        let keys = to.ask(&[b"DBSIZE"]).await?;
        let began = Instant::now();
        let (key, value) = (key.as_bytes(), &b"canary"[..]);
        to.ask(&[b"SET", key, value]).await?;
        let read = to.ask(&[b"GET", key]).await?;
        anyhow::ensure!(read.as_bytes() == Some(value), "what was written read back as {read:?}");
        to.ask(&[b"DEL", key]).await?;
        let keys = match keys {
            Reply::Integer(count) => u64::try_from(count).unwrap_or(0),
            other => anyhow::bail!("DBSIZE was answered: {other:?}"),
        };
        Ok(Flight { took: began.elapsed(), keys })
    };
    tokio::time::timeout(WAIT, flight)
        .await
        .with_context(|| format!("no answer within {WAIT:?}"))?
}
