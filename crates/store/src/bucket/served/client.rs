//! The end that asks.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ops::tls::{Mutual, PeerName, Socket};
use stream::{Connection, WireError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::super::{CONCURRENT_MAX, Put, failed};
use super::{ANSWER, ASK, Answer, Ask, FORMAT, OBJECT_BYTES_MAX, PART, PART_BYTES, SILENCE_MAX};
use crate::StoreError;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often a request is tried.
const TRIES: u32 = 5;
/// The pause before it is tried again; each failure doubles it.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a range that is fetched into a file at a time.
const RANGE_BYTES: u64 = 8 << 20;

/// How to reach a daemon.
#[derive(Clone, Debug)]
pub struct ServedOptions {
    /// Whose snapshots these are.
    pub service: String,
    /// The name that its certificate must show.
    pub peer: PeerName,
    /// What TLS is made with, if it is spoken.
    pub tls: Option<Mutual>,
}

/// Objects that a daemon keeps. Clones share connections.
#[derive(Clone, Debug)]
pub(in super::super) struct Served(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: String,
    options: ServedOptions,
    idle: Mutex<Vec<Connection<Socket>>>,
    places: Semaphore,
}

/// Why a request has no answer.
enum Ended {
    /// The connection: it is worth another try.
    Wire(WireError),
    /// It was said so.
    Said(String),
}

impl From<WireError> for Ended {
    fn from(why: WireError) -> Self {
        Self::Wire(why)
    }
}

impl Served {
    pub(in super::super) fn new(address: &str, options: ServedOptions) -> Self {
        Self(Arc::new(Shared {
            address: address.to_owned(),
            options,
            idle: Mutex::default(),
            places: Semaphore::new(CONCURRENT_MAX),
        }))
    }

    pub(in super::super) async fn put_new(
        &self,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Put, StoreError> {
        let ask = Ask::PutNew { name: name.to_owned(), size: bytes.len() as u64 };
        match self.ask("write", name, &ask, &bytes).await? {
            (Answer::Put { new: true }, _) => Ok(Put::New),
            (Answer::Put { new: false }, _) => Ok(Put::Exists),
            (other, _) => Err(no_answer("write", name, &other)),
        }
    }

    pub(in super::super) async fn get_range(
        &self,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(name, offset, len, false).await
    }

    pub(in super::super) async fn get(
        &self,
        name: &str,
        max: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(name, 0, max, true).await
    }

    async fn bytes(
        &self,
        name: &str,
        offset: u64,
        max: u64,
        whole: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let max = max.min(OBJECT_BYTES_MAX);
        let ask = Ask::Get { name: name.to_owned(), offset, max, whole };
        match self.ask("read", name, &ask, &[]).await? {
            (Answer::Bytes(None), _) => Ok(None),
            (Answer::Bytes(Some(_)), bytes) => Ok(Some(bytes)),
            (other, _) => Err(no_answer("read", name, &other)),
        }
    }

    pub(in super::super) async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        match self.ask("look for", name, &Ask::Head { name: name.to_owned() }, &[]).await? {
            (Answer::Size(size), _) => Ok(size),
            (other, _) => Err(no_answer("look for", name, &other)),
        }
    }

    pub(in super::super) async fn fetch(
        &self,
        name: &str,
        size: u64,
        to: &Path,
    ) -> Result<(), StoreError> {
        let mut out =
            tokio::fs::File::create_new(to).await.map_err(StoreError::io("create", to))?;
        let mut at = 0;
        while at < size {
            let bytes = self.get_range(name, at, RANGE_BYTES.min(size - at)).await?;
            let bytes = bytes.filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| failed("fetch", name, "it has not all its bytes"))?;
            out.write_all(&bytes).await.map_err(StoreError::io("write", to))?;
            at += bytes.len() as u64;
        }
        out.sync_all().await.map_err(StoreError::io("sync", to))
    }

    /// What may not be asked of a daemon.
    pub(in super::super) fn refused(&self, what: &'static str, name: &str) -> StoreError {
        let why = format!(
            "{} takes what is new and gives what it has; do this where it keeps them",
            self.0.address
        );
        failed(what, name, why)
    }

    /// Asks until there is an answer, a few times.
    async fn ask(
        &self,
        what: &'static str,
        name: &str,
        ask: &Ask,
        body: &[u8],
    ) -> Result<(Answer, Vec<u8>), StoreError> {
        let _place = self.0.places.acquire().await.expect("nobody closes it");
        let (mut pause, mut tries) = (PAUSE, 1);
        loop {
            let why = match self.try_ask(ask, body).await {
                Ok((Answer::Refused(why) | Answer::Failed(why), _)) | Err(Ended::Said(why)) => {
                    return Err(failed(what, name, why));
                }
                Ok(answer) => return Ok(answer),
                Err(Ended::Wire(why)) => why,
            };
            if tries == TRIES {
                return Err(failed(what, name, format!("{why} (tried {TRIES} times)")));
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_ask(&self, ask: &Ask, body: &[u8]) -> Result<(Answer, Vec<u8>), Ended> {
        let idle = self.locked().pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        conn.writer.value(ASK, ask).await?;
        for part in body.chunks(PART_BYTES) {
            conn.writer.packet(PART, &[part]).await?;
        }
        let answer: Answer = conn.reader.expect(ANSWER, "an answer").await?;
        let mut bytes = Vec::new();
        if let Answer::Bytes(Some(size)) = answer {
            if size > OBJECT_BYTES_MAX {
                return Err(Ended::Said(format!("it says that it has {size} bytes")));
            }
            bytes = super::server::parts(&mut conn.reader, size).await?;
        }
        // What was sent of a body that was refused is read by the daemon: the connection is good.
        self.locked().push(conn);
        Ok((answer, bytes))
    }

    async fn connect(&self) -> Result<Connection<Socket>, Ended> {
        let Shared { address, options, .. } = &*self.0;
        let said = |why: String| Ended::Said(why);
        let dialled = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        let socket = match dialled {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return Err(Ended::Wire(WireError::Io(why))),
            Err(_) => return Err(Ended::Wire(WireError::Deadline("connect", CONNECT_WITHIN))),
        };
        socket.set_nodelay(true).map_err(WireError::Io)?;
        let socket = match &options.tls {
            None => Socket::plain(socket),
            Some(tls) => {
                let shaken = tls.connect(socket, &options.peer, CONNECT_WITHIN).await;
                shaken.map_err(|why| said(why.to_string()))?
            }
        };
        let mut conn = stream::split(socket);
        conn.reader.set_deadline(SILENCE_MAX);
        conn.writer.set_deadline(SILENCE_MAX);
        let begin = Ask::Begin { format: FORMAT, service: options.service.clone() };
        conn.writer.value(ASK, &begin).await?;
        match conn.reader.expect(ANSWER, "an answer").await? {
            Answer::Begun => Ok(conn),
            Answer::Refused(why) | Answer::Failed(why) => Err(said(why)),
            other => Err(said(format!("it answered {other:?} to who we are"))),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Connection<Socket>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_answer(what: &'static str, name: &str, other: &Answer) -> StoreError {
    failed(what, name, format!("the daemon answered {other:?}"))
}
