//! A client: one connection, requests pipelined in the order they were made.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use keyspace::{Hlc, Slot, SlotSet};
use resp::reply::{Reply, Scanner};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use topology::record::UnixMs;
use topology::{Epoch, FreezeId, ShardName};
use wal::{Position, Sequence, TimelineId};

use crate::{
    Access, Address, Adopt, Barrier, CheckpointInfo, Code, Digest, Error, Exported, ExportedSlots,
    Follow, Ingested, KeyDigests, Measured, PromiseWish, Repaired, Replay, Replayed, Request,
    Slice, SlotsDeleted, SlotsExported, StampedKeys, Status, Synced,
};

/// Requests that wait to be written; beyond it a caller waits.
const QUEUE: usize = 64;
/// How often a digest that is not there yet is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long to wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an answer goes: the reply, or why the connection ended before it.
type Waiter = oneshot::Sender<Result<Reply, String>>;
type Waiters = Arc<Mutex<VecDeque<Waiter>>>;

/// A connection to a node's admin listener. Cheap to clone; clones share the connection, and
/// answers come in the order of the requests. Once the connection is lost every request fails;
/// connect again.
#[derive(Clone, Debug)]
pub struct Client {
    address: Arc<str>,
    queue: mpsc::Sender<(Vec<u8>, Waiter)>,
    /// Why the connection ended, once it has.
    ended: Arc<OnceLock<String>>,
    /// The timeline that the node must be on; none: whatever it is on.
    on: Option<TimelineId>,
}

/// A frame on its way; dropping it does not take it back.
#[derive(Debug)]
pub struct Applying {
    address: Arc<str>,
    answer: oneshot::Receiver<Result<Reply, String>>,
}

impl Applying {
    /// The source sequence that is applied then.
    pub async fn done(self) -> Result<Sequence, Error> {
        sequence("GODWIT.APPLY", settle(&self.address, self.answer).await?)
    }
}

impl Client {
    /// Connects to an address of this machine: `unix:/path` or a loopback `host:port`.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::connect_as(address, &Access::default()).await
    }

    /// Connects to any address; `access` says who asks, where other machines reach it.
    pub async fn connect_as(address: &str, access: &Access) -> Result<Self, Error> {
        let unreachable = |why| Error::Unreachable { address: address.to_owned(), why };
        let connecting = async {
            let client = match address.parse::<Address>()? {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                    return Ok(Self::over(address, stream));
                }
                Address::Loopback(to) => {
                    return Ok(Self::over(address, dial(to).await.map_err(unreachable)?));
                }
                Address::Plain(to) => {
                    let stream = dial((&*to.host, to.port)).await.map_err(unreachable)?;
                    Self::over(address, stream)
                }
                Address::Tls(to) => {
                    let (caller, name) = access.caller(&to)?;
                    let stream = dial((&*to.host, to.port)).await.map_err(unreachable)?;
                    let shaken = caller.connect(stream, &name, CONNECT_TIMEOUT).await;
                    let stream = shaken.map_err(|why| Error::Access {
                        address: address.to_owned(),
                        why: why.to_string(),
                    })?;
                    Self::over(address, stream)
                }
            };
            let first = access.login().map_or(Request::Ping, |(user, password)| Request::Auth {
                user: user.as_bytes(),
                password: password.as_bytes(),
            });
            // Who wants a certificate of us says so when we read first.
            match client.tell(first).await {
                Ok(()) => Ok(client),
                Err(Error::Lost { address, why }) => Err(Error::Access { address, why }),
                Err(why) => Err(why),
            }
        };
        let late = || Error::Unreachable {
            address: address.to_owned(),
            why: io::Error::new(io::ErrorKind::TimedOut, "no connection in time"),
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late())?
    }

    fn over(address: &str, stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (read, write) = tokio::io::split(stream);
        let waiters = Waiters::default();
        let reader = tokio::spawn(read_answers(read, waiters.clone()));
        let ended = Arc::default();
        tokio::spawn(write_requests(write, requests, waiters, reader, Arc::clone(&ended)));
        Self { address: address.into(), queue, ended, on: None }
    }

    /// The same connection, whose requests are carried out only while the node has the database open
    /// that this status is of, and has not opened it again: what was decided by it holds for no other. A
    /// node that is too old to be told so is asked as ever.
    pub fn on(&self, status: &Status) -> Self {
        let told = status.control >= Status::HAS_ON;
        Self { on: told.then_some(status.position.timeline), ..self.clone() }
    }

    /// Whether the connection is lost.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    async fn send(
        &self,
        request: &Request<'_>,
    ) -> Result<oneshot::Receiver<Result<Reply, String>>, Error> {
        let mut bytes = Vec::new();
        match self.on {
            Some(timeline) => crate::request::write_on(timeline, request, &mut bytes),
            None => request.write(&mut bytes),
        }
        let (sender, answer) = oneshot::channel();
        if self.queue.send((bytes, sender)).await.is_err() {
            let why = self.ended.get().map_or("it is closed", String::as_str);
            return Err(lost(&self.address, why));
        }
        Ok(answer)
    }

    async fn ask(&self, request: Request<'_>) -> Result<Reply, Error> {
        settle(&self.address, self.send(&request).await?).await
    }

    async fn ask_json<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, Error> {
        let name = request.name();
        let reply = self.ask(request).await?;
        let bytes = reply.as_bytes().ok_or_else(|| shape(name, "no string"))?;
        serde_json::from_slice(bytes).map_err(|why| shape(name, &why.to_string()))
    }

    async fn tell(&self, request: Request<'_>) -> Result<(), Error> {
        self.ask(request).await.map(drop)
    }

    /// What the node says of itself.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask_json(Request::Status).await
    }

    /// The end of the node's log.
    pub async fn position(&self) -> Result<Position, Error> {
        let reply = self.ask(Request::Position).await?;
        position("GODWIT.POSITION", Some(&reply))
    }

    /// The name of the node's role.
    pub async fn role(&self) -> Result<String, Error> {
        let reply = self.ask(Request::Role).await?;
        Ok(reply.as_text().ok_or_else(|| shape("GODWIT.ROLE", "no text"))?.to_owned())
    }

    /// Syncs the node's log; what is applied and on its disk then.
    pub async fn sync(&self) -> Result<Synced, Error> {
        self.ask_json(Request::Sync).await
    }

    /// Compacts everything; returns when done.
    pub async fn compact(&self) -> Result<(), Error> {
        self.tell(Request::Compact).await
    }

    /// Makes a checkpoint under the node's directory.
    pub async fn checkpoint(&self, name: &str) -> Result<CheckpointInfo, Error> {
        self.ask_json(Request::Checkpoint(name.into())).await
    }

    /// Removes a checkpoint; one that is not there is no error.
    pub async fn drop_checkpoint(&self, name: &str) -> Result<(), Error> {
        self.tell(Request::DropCheckpoint(name.into())).await
    }

    /// Applies one frame, and waits: the source sequence that is applied then.
    pub async fn apply(&self, source: &ShardName, frame: &[u8]) -> Result<Sequence, Error> {
        self.start_apply(source, frame).await?.done().await
    }

    /// Sends one frame and returns as soon as it is queued, so that several are on their way.
    pub async fn start_apply(&self, source: &ShardName, frame: &[u8]) -> Result<Applying, Error> {
        let answer = self.send(&Request::Apply { source: source.clone(), frame }).await?;
        Ok(Applying { address: self.address.clone(), answer })
    }

    /// Has a standby follow a source from a position that it has (`until` is not looked at).
    pub async fn follow(&self, follow: Follow) -> Result<(), Error> {
        self.tell(Request::Follow(follow)).await
    }

    /// Swaps the node's database for the directory at `path`.
    pub async fn seed(&self, path: &Path, adopt: Adopt) -> Result<(), Error> {
        self.tell(Request::Seed { path: path.to_owned(), adopt }).await
    }

    /// Swaps the node's database for one of the files in the directory at `path`, which stay there:
    /// table files are linked, or copied with `copy`. Returns when it is open.
    pub async fn activate(&self, path: &Path, adopt: Adopt, copy: bool) -> Result<(), Error> {
        self.tell(Request::Activate { path: path.to_owned(), adopt, copy }).await
    }

    /// Has the node take in the files in a directory of its own as what it has of some slots.
    pub async fn seed_slots(&self, path: &Path, slice: Slice) -> Result<(), Error> {
        let (path, slice) = (path.to_owned(), Box::new(slice));
        self.tell(Request::SeedSlots { path, slice }).await
    }

    /// Takes in the load in this directory, which the node must be able to read; returns when done.
    /// With `link` its files are linked, not copied: nobody may change them any more.
    pub async fn ingest(&self, path: &Path, link: bool) -> Result<Ingested, Error> {
        self.ask_json(Request::Ingest { path: path.to_owned(), link }).await
    }

    /// Has the node write what is live in these slots, as of one position, into a load at `path`,
    /// which it must be able to make; returns when done.
    pub async fn dump_slots(&self, slots: &SlotSet, path: &Path) -> Result<SlotsExported, Error> {
        let (slots, path) = (slots.clone(), path.to_owned());
        self.ask_json(Request::DumpSlots { slots, path }).await
    }

    /// Deletes all that is in these slots, at once; slots that the node holds only with `yes`.
    pub async fn delete_slots(&self, slots: &SlotSet, yes: bool) -> Result<SlotsDeleted, Error> {
        self.ask_json(Request::DeleteSlots { slots: slots.clone(), yes }).await
    }

    /// All raw records of these keys, as of one position.
    pub async fn export(&self, keys: &[&[u8]]) -> Result<Exported, Error> {
        let reply = self.ask(Request::Export(keys.to_vec())).await?;
        let parts = reply.as_array().unwrap_or_default();
        let batch = parts.get(1).and_then(Reply::as_bytes);
        Ok(Exported {
            position: position("GODWIT.EXPORT", parts.first())?,
            batch: batch.ok_or_else(|| shape("GODWIT.EXPORT", "no batch"))?.to_vec(),
        })
    }

    /// Those of these raw records of no slot that are there, as of one position.
    pub async fn records(&self, keys: &[&[u8]]) -> Result<Exported, Error> {
        let reply = self.ask(Request::Records(keys.to_vec())).await?;
        let parts = reply.as_array().unwrap_or_default();
        let batch = parts.get(1).and_then(Reply::as_bytes);
        Ok(Exported {
            position: position("GODWIT.RECORDS", parts.first())?,
            batch: batch.ok_or_else(|| shape("GODWIT.RECORDS", "no batch"))?.to_vec(),
        })
    }

    /// How much these slots hold.
    pub async fn measure(&self, slots: &SlotSet) -> Result<Measured, Error> {
        self.ask_json(Request::Measure(slots.clone())).await
    }

    /// All records of the next keys of these slots, behind the meta key `after`.
    pub async fn export_slots(
        &self,
        slots: &SlotSet,
        after: &[u8],
    ) -> Result<ExportedSlots, Error> {
        let reply = self.ask(Request::ExportSlots { slots: slots.clone(), after }).await?;
        let parts = reply.as_array().unwrap_or_default();
        let batch = parts.get(2).and_then(Reply::as_bytes);
        Ok(ExportedSlots {
            position: position("GODWIT.SLOTS", parts.first())?,
            next: parts.get(1).and_then(Reply::as_bytes).map(<[u8]>::to_vec),
            batch: batch.ok_or_else(|| shape("GODWIT.SLOTS", "no batch"))?.to_vec(),
        })
    }

    /// The next keys of these slots whose record has this stamp, behind the meta key `after`.
    pub async fn stamped(
        &self,
        slots: &SlotSet,
        stamp: Hlc,
        after: &[u8],
    ) -> Result<StampedKeys, Error> {
        let reply = self.ask(Request::Stamped { slots: slots.clone(), stamp, after }).await?;
        let parts = reply.as_array().unwrap_or_default();
        let (next, keys) = parts.split_first().ok_or_else(|| shape("GODWIT.SLOTS", "no keys"))?;
        let keys = keys.iter().filter_map(Reply::as_bytes).map(<[u8]>::to_vec).collect();
        Ok(StampedKeys { next: next.as_bytes().map(<[u8]>::to_vec), keys })
    }

    /// Empties these slots of a node that rewinds.
    pub async fn rewind_slots(&self, slots: &SlotSet) -> Result<(), Error> {
        self.tell(Request::RewindSlots(slots.clone())).await
    }

    /// Has a node that rewinds forget that it took in this load.
    pub async fn rewind_forget(&self, load: u128) -> Result<(), Error> {
        self.tell(Request::RewindForget(load)).await
    }

    /// Puts the records of a batch into these slots of a node that rewinds.
    pub async fn rewind_put(&self, slots: &SlotSet, batch: &[u8]) -> Result<(), Error> {
        self.tell(Request::RewindPut { slots: slots.clone(), batch }).await
    }

    /// Makes the node *rewinding*, synced.
    pub async fn rewind_begin(&self, source: &ShardName, fork: Position) -> Result<(), Error> {
        self.tell(Request::RewindBegin { source: source.clone(), fork }).await
    }

    /// Replaces all records of these keys by what the batch puts.
    pub async fn rewind_keys(&self, keys: &[&[u8]], batch: &[u8]) -> Result<(), Error> {
        self.tell(Request::RewindKeys { keys: keys.to_vec(), batch }).await
    }

    /// Replaces these raw records of no slot by what the batch puts.
    pub async fn rewind_records(&self, keys: &[&[u8]], batch: &[u8]) -> Result<(), Error> {
        self.tell(Request::RewindRecords { keys: keys.to_vec(), batch }).await
    }

    /// Ends the replacing: follow from `position`, readable once applied up to `until`.
    pub async fn rewind_end(&self, follow: Follow) -> Result<(), Error> {
        self.tell(Request::RewindEnd(follow)).await
    }

    /// Has a primary write entries of a ledger.
    pub async fn replay(&self, replay: Replay<'_>) -> Result<Replayed, Error> {
        self.ask_json(Request::Replay(replay)).await
    }

    /// Writes a barrier and begins a digest there.
    pub async fn barrier(&self) -> Result<Barrier, Error> {
        let reply = self.ask(Request::Barrier).await?;
        let parts = reply.as_array().unwrap_or_default();
        let id = parts.first().and_then(Reply::as_text);
        let id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
        Ok(Barrier {
            id: id.ok_or_else(|| shape("GODWIT.BARRIER", "no id"))?,
            position: position("GODWIT.BARRIER", parts.get(1))?,
        })
    }

    /// The digest at a barrier; refused with [`Code::Pending`] or [`Code::Unknown`] before it is
    /// there.
    pub async fn digest(&self, id: u128) -> Result<Digest, Error> {
        self.ask_json(Request::Digest(id)).await
    }

    /// The digest at a barrier, once it is there.
    ///
    /// # Errors
    /// [`Code::Pending`] or [`Code::Unknown`] when it was not there by `deadline`.
    pub async fn digest_by(
        &self,
        id: u128,
        deadline: tokio::time::Instant,
    ) -> Result<Digest, Error> {
        loop {
            match self.digest(id).await {
                // Unknown: the barrier has not reached this standby yet.
                Err(why)
                    if matches!(why.code(), Some(Code::Pending | Code::Unknown))
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// Digests of a slot's next keys behind the meta key `after`, as a barrier's digest saw them.
    pub async fn digest_keys(
        &self,
        id: u128,
        slot: Slot,
        after: &[u8],
    ) -> Result<KeyDigests, Error> {
        let reply = self.ask(Request::DigestKeys { id, slot, after }).await?;
        let parts = reply.as_array().unwrap_or_default();
        let bad = |why| shape("GODWIT.DIGEST", why);
        let (next, rest) = parts.split_first().ok_or_else(|| bad("no keys"))?;
        let (pairs, []) = rest.as_chunks::<2>() else { return Err(bad("half a pair")) };
        let pair = |[key, digest]: &[Reply; 2]| {
            let digest = digest.as_text().and_then(|text| u128::from_str_radix(text, 16).ok());
            Some((key.as_bytes()?.to_vec(), digest?))
        };
        let keys: Option<Vec<_>> = pairs.iter().map(pair).collect();
        let keys = keys.ok_or_else(|| bad("no key and digest"))?;
        Ok(KeyDigests { next: next.as_bytes().map(<[u8]>::to_vec), keys })
    }

    /// Has a primary send all that it has of these keys to its followers once more.
    pub async fn repair(&self, keys: &[&[u8]]) -> Result<Repaired, Error> {
        self.ask_json(Request::Repair(keys.to_vec())).await
    }

    /// Forgets a digest, and stops it if it runs.
    pub async fn drop_digest(&self, id: u128) -> Result<(), Error> {
        self.tell(Request::DropDigest(id)).await
    }

    /// Freezes a node that has no service.
    pub async fn freeze(&self, id: FreezeId, deadline: UnixMs) -> Result<(), Error> {
        self.tell(Request::Freeze { id, deadline }).await
    }

    /// Raises the node's fence.
    pub async fn fence(&self, epoch: Epoch) -> Result<(), Error> {
        self.tell(Request::Fence(epoch)).await
    }

    /// Promotes a node that has no service.
    pub async fn promote(&self, epoch: Epoch) -> Result<(), Error> {
        self.tell(Request::Promote(epoch)).await
    }

    /// What a primary wants of others while the registry is silent, if anything.
    pub async fn promise_wanted(&self) -> Result<Option<PromiseWish>, Error> {
        self.ask_json(Request::PromiseWanted).await
    }

    /// Tells a primary that these have promised what it wanted.
    pub async fn promise_have(&self, id: u64, of: BTreeSet<ShardName>) -> Result<(), Error> {
        self.tell(Request::PromiseHave { id, of }).await
    }

    /// Has a node promise that it refuses to be promoted for so long; that is on its disk then.
    pub async fn promise_give(
        &self,
        primary: &ShardName,
        epoch: Epoch,
        lease_ms: u64,
    ) -> Result<(), Error> {
        let primary = primary.clone();
        self.tell(Request::PromiseGive { primary, epoch, lease_ms }).await
    }
}

async fn dial(to: impl tokio::net::ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn settle(
    address: &str,
    answer: oneshot::Receiver<Result<Reply, String>>,
) -> Result<Reply, Error> {
    match answer.await {
        Ok(Ok(Reply::Error(text))) => {
            let (code, message) = Code::split(&text);
            Err(Error::Refused { code, message: message.to_owned() })
        }
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(why)) => Err(lost(address, &why)),
        Err(_) => Err(lost(address, "it was closed")),
    }
}

fn lost(address: &str, why: &str) -> Error {
    Error::Lost { address: address.to_owned(), why: why.to_owned() }
}

fn shape(request: &'static str, why: &str) -> Error {
    Error::Answer { request, why: why.to_owned() }
}

fn position(request: &'static str, reply: Option<&Reply>) -> Result<Position, Error> {
    let text = reply.and_then(Reply::as_text).ok_or_else(|| shape(request, "no position"))?;
    text.parse().map_err(|why: wal::position::ParsePositionError| shape(request, &why.to_string()))
}

fn sequence(request: &'static str, reply: Reply) -> Result<Sequence, Error> {
    let number = reply.as_integer().and_then(|n| u64::try_from(n).ok());
    number.map(Sequence).ok_or_else(|| shape(request, "no sequence"))
}

/// Ends when the clients are gone or the connection is.
async fn write_requests(
    mut write: impl AsyncWrite + Unpin,
    mut requests: mpsc::Receiver<(Vec<u8>, Waiter)>,
    waiters: Waiters,
    mut reader: tokio::task::JoinHandle<String>,
    ended: Arc<OnceLock<String>>,
) {
    let why = loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            why = &mut reader => break why.unwrap_or_else(|_| "its reader ended".to_owned()),
        };
        let Some((bytes, waiter)) = request else { break "every client was dropped".to_owned() };
        locked(&waiters).push_back(waiter);
        let written = async {
            write.write_all(&bytes).await?;
            write.flush().await
        };
        tokio::select! {
            written = written => if let Err(why) = written { break why.to_string() },
            why = &mut reader => break why.unwrap_or_else(|_| "its reader ended".to_owned()),
        }
    };
    // The first reason is the only one: this task is alone.
    let why = ended.get_or_init(|| why);
    requests.close();
    // Answers of requests that were sent may still come after the last client was dropped; nobody
    // waits for them then.
    reader.abort();
    // Also who was let into the queue before it closed, and of whom nothing was sent.
    while let Some((_, waiter)) = requests.recv().await {
        locked(&waiters).push_back(waiter);
    }
    for waiter in locked(&waiters).drain(..) {
        // The other half is gone where nobody waits.
        let _ = waiter.send(Err(why.clone()));
    }
}

/// Reads answers until the connection ends; why it did.
async fn read_answers(mut read: impl AsyncRead + Unpin, waiters: Waiters) -> String {
    let mut buffer = BytesMut::with_capacity(16 << 10);
    let mut scanner = Scanner::new();
    loop {
        loop {
            let length = match scanner.next(&buffer) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(why) => return format!("its answer is no RESP: {why}"),
            };
            let reply = match Reply::parse(&buffer.split_to(length)) {
                Ok(Some((reply, _))) => reply,
                Ok(None) => return "its answer is cut off".to_owned(),
                Err(why) => return format!("its answer is no RESP: {why}"),
            };
            let Some(waiter) = locked(&waiters).pop_front() else {
                return "it answered what nobody asked".to_owned();
            };
            // The other half is gone where nobody waits.
            let _ = waiter.send(Ok(reply));
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) => return "the node closed it".to_owned(),
            Ok(_) => {}
            Err(why) => return why.to_string(),
        }
    }
}

fn locked(waiters: &Waiters) -> std::sync::MutexGuard<'_, VecDeque<Waiter>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}
