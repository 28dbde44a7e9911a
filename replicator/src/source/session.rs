//! One connection to a follower: dial, handshake, bring it level, stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyspace::SlotSet;
use ops::tls::Socket;
use stream::conn::PING_EVERY;
use stream::message::{self, HAS_TIME, Incoming, Point};
use stream::{Class, Connection, Hello, Message, Purpose, Versions, WireError};
use topology::ShardName;

use super::clock::unix_us;
use super::codec::Packer;
use super::decide::{Plan, decide};
use super::feed::{Fed, Feed};
use super::heard::Heard;
use super::load;
use super::measure::Measure;
use super::seed::{Asked, Checkpoint};
use super::slice::Slice;
use super::window::Window;
use crate::cursor::CursorError;
use crate::sidecar::Sidecar;
use crate::spool::Pin;

/// How long a target may take to say where it stands: it may have to apply what it has first.
const WELCOME_WITHIN: Duration = Duration::from_secs(20);

/// A follower that has so many bytes of the log before it catches up: its frames are bulk.
const CATCHING_UP_BYTES: u64 = 8 << 20;

/// Why a stream ended.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) reason: String,
    pub(super) state: &'static str,
    /// It had streamed: the next try may come at once.
    pub(super) streamed: bool,
    /// Nothing is wrong: the target waits for something itself.
    pub(super) waits: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error("its node: {0}")]
    Node(#[from] admin::Error),
    /// What the log says next cannot be said without files that are gone.
    #[error("{0}")]
    LoadGone(String),
    #[error("{0}")]
    Other(String),
}

/// Streams to one follower, one connection after the other.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) follower: ShardName,
    pub(super) pin: Pin,
    /// A checkpoint that a former connection began to send.
    pub(super) checkpoint: Option<Checkpoint>,
    /// The same of one for a follower of another shape.
    pub(super) slice: Option<Slice>,
    /// The checkpoint that the node was asked for, whatever became of the connection that needed it.
    pub(super) asked: Option<Asked>,
    /// The version of the protocol that both ends of this connection speak.
    pub(super) version: u8,
    streamed: bool,
    /// Why the follower must be seeded, whatever it has.
    reseed: Option<String>,
}

impl Session {
    pub(super) fn new(sidecar: Arc<Sidecar>, follower: ShardName) -> Self {
        let pin = sidecar.spool.pin(&follower.to_string());
        Self {
            sidecar,
            follower,
            pin,
            checkpoint: None,
            slice: None,
            asked: None,
            version: 1,
            streamed: false,
            reseed: None,
        }
    }

    /// Runs until the connection ends, and says why.
    pub(super) async fn run(&mut self) -> Stop {
        self.streamed = false;
        self.say("connecting");
        // Boxed: the whole conversation is one large future.
        let error = match Box::pin(self.converse()).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let state = match (&error, self.pin.lost()) {
            (_, Some(_)) => "lost",
            (SessionError::Wire(WireError::Refused(_)), _) => "refused",
            _ => "connecting",
        };
        let reason = match self.pin.lost() {
            Some(lost) => format!("{lost}; now: {error}"),
            None => error.to_string(),
        };
        let waits = matches!(error, SessionError::Wire(WireError::NotYet(_)));
        Stop { reason, state, streamed: self.streamed, waits }
    }

    pub(super) fn say(&self, state: &str) {
        self.sidecar.board.stream(&self.follower, |status| state.clone_into(&mut status.state));
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, SessionError> {
        let view = self.sidecar.service.view();
        let record = view.record().ok_or_else(|| other("the service has no record"))?;
        let peer = view.sidecars.get(&self.follower).ok_or_else(|| {
            other("its sidecar is not in the registry: is it running, and does it reach the registry?")
        })?;
        let known = self.sidecar.node.known().borrow().clone();
        let known = known.ok_or_else(|| other("our own node has not answered yet"))?;
        let dialled = self.sidecar.transport.dial(&peer.stream, &self.follower).await;
        let socket = dialled.map_err(SessionError::Other)?;
        let mut conn = stream::split(socket);
        let patience = self.sidecar.config.link.peer_timeout;
        conn.writer.set_deadline(patience);
        conn.writer.set_link(self.sidecar.link.clone(), Class::Live);
        let hello = Hello {
            purpose: Purpose::Stream,
            versions: Versions::OURS,
            service: self.sidecar.config.service.clone(),
            from: self.sidecar.shard.to_string(),
            to: self.follower.to_string(),
            slots: known.slots.clone(),
            history: known.history.clone(),
            epoch: record.epoch.0,
            families: message::families(),
            encoding: message::ENCODING,
        };
        conn.writer.message(&Message::Hello(Box::new(hello))).await?;
        conn.reader.set_deadline(WELCOME_WITHIN);
        let welcome = match conn.reader.message().await? {
            Message::Welcome(welcome) => welcome,
            other => return Err(unexpected(other, "Welcome").into()),
        };
        conn.reader.set_deadline(patience);
        if !Versions::OURS.has(welcome.version) {
            let (ours, theirs) = (Versions::OURS, welcome.version);
            return Err(other(&format!(
                "it answers in version {theirs} of the stream protocol, and this sidecar speaks {} to {}: upgrade the older one",
                ours.lowest, ours.highest
            )));
        }
        self.version = welcome.version;
        let keep = welcome.slots.intersection(&known.slots);
        if keep.is_empty() {
            return Err(other("it has none of our slots: the plan in the record is another one"));
        }
        let (spool, asked) = (self.sidecar.spool.clone(), known.clone());
        let standings = welcome.standings.clone();
        let shares = |(name, slots): &(ShardName, &SlotSet)| {
            name.cluster != self.sidecar.shard.cluster && !slots.intersection(&keep).is_empty()
        };
        let former: Vec<_> = record.shards().filter(shares).map(|(name, _)| name).collect();
        let plan = tokio::task::spawn_blocking(move || decide(&spool, &asked, &standings, &former))
            .await
            .map_err(|error| other(&error.to_string()))??;
        let plan = match &self.reseed {
            Some(why) => Plan::Seed(why.clone()),
            None => plan,
        };
        let (cursor, point) = match plan {
            Plan::Follow(cursor, point) => (cursor, point),
            Plan::Rewind { fork, cursor, resume } => {
                tracing::warn!(follower = %self.follower, %fork, "the follower must rewind");
                self.say("rewinding");
                if self.rewind(&mut conn, fork, resume).await? {
                    (cursor, resume)
                } else {
                    self.seed(&mut conn, &known, &welcome.slots).await?
                }
            }
            Plan::Seed(why) => {
                tracing::info!(follower = %self.follower, "seeding: {why}");
                self.seed(&mut conn, &known, &welcome.slots).await?
            }
        };
        self.drop_checkpoint().await;
        self.pin.advance(cursor.database(), cursor.file().number);
        conn.writer.message(&Message::Start(point)).await?;
        self.reseed = None;
        let cpu_share = self.sidecar.config.link.compress_cpu;
        let packer = Packer::new(cpu_share, self.sidecar.metrics.clone());
        let feed = Feed::start(*cursor, point, keep.clone(), packer)
            .map_err(|error| other(&format!("cannot start a thread: {error}")))?;
        self.sidecar.board.stream(&self.follower, |status| {
            status.state = "streaming".to_owned();
            status.reason = None;
            status.peer.full = false;
        });
        self.streamed = true;
        self.stream(conn, feed, keep).await
    }

    async fn stream(
        &mut self,
        conn: Connection<Socket>,
        mut feed: Feed,
        keep: SlotSet,
    ) -> Result<std::convert::Infallible, SessionError> {
        let Connection { mut reader, mut writer } = conn;
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut counted = writer.sent();
        let measure = Measure::new(counted, writer.busy());
        let window = Window::new(self.sidecar.config.link.window);
        let mut heard = Heard::new(&self.sidecar, &self.follower, window, measure);
        loop {
            let waits = (!heard.is_open() && !feed.frames.is_empty()).then(Instant::now);
            tokio::select! {
                fed = feed.frames.recv(), if heard.is_open() => {
                    let fed = fed.ok_or_else(|| other("the thread that reads the log ended"))??;
                    let fed = match fed {
                        Fed::Frame(fed) => fed,
                        Fed::Load(intent) => {
                            let mut hear = |message| heard.hear(&self.pin, &feed, message);
                            let sent = load::send(&self.sidecar, &mut reader, &mut writer, &intent, &keep, &mut hear).await;
                            if let Err(SessionError::LoadGone(why)) = &sent {
                                self.reseed = Some(why.clone());
                            }
                            sent?;
                            continue;
                        }
                    };
                    let far = feed.behind.load(Ordering::Relaxed) > CATCHING_UP_BYTES;
                    writer.set_class(if far { Class::Bulk } else { Class::Live });
                    heard.window.sent(fed.end.sequence, fed.bytes.len() as u64, fed.file);
                    writer.frame(&fed.bytes).await?;
                    self.sidecar.metrics.frames_sent.inc();
                    self.sidecar.board.count(|notes| {
                        notes.tail = notes.tail.max(Some(fed.end.sequence));
                    });
                }
                incoming = reader.incoming() => match incoming? {
                    Incoming::Message(message) => heard.hear(&self.pin, &feed, message)?,
                    got => {
                        let want = "an acknowledgement";
                        return Err(WireError::Unexpected { got: got.name(), want }.into());
                    }
                },
                _ = ping.tick() => writer.message(&self.keep_alive()).await?,
            }
            // While its stage is full it is not the link that is waited for.
            if let Some(waits) = waits.filter(|_| !heard.is_full()) {
                heard.measure.waited(waits.elapsed());
            }
            let sent = writer.sent();
            heard.say(&feed, sent, writer.busy());
            self.sidecar.metrics.sent_bytes.inc_by(sent - counted);
            let behind = feed.behind.load(Ordering::Relaxed) + heard.window.bytes();
            self.sidecar.board.stream(&self.follower, |status| {
                status.sent_bytes += sent - counted;
                status.behind_bytes = behind;
            });
            counted = sent;
            if let Some(lost) = self.pin.lost() {
                return Err(SessionError::Other(lost));
            }
        }
    }

    /// What is said every second: that we are there, and what our clock shows.
    fn keep_alive(&self) -> Message {
        if self.version >= HAS_TIME { Message::Time { us: unix_us() } } else { Message::Ping }
    }
}

pub(super) fn other(why: &str) -> SessionError {
    SessionError::Other(why.to_owned())
}

pub(super) fn unexpected(got: Message, want: &'static str) -> WireError {
    WireError::Unexpected { got: Incoming::Message(got).name(), want }
}

/// Where a stream goes on after a seed or a rewind.
pub(super) type Onward = (Box<crate::cursor::Cursor>, Point);
