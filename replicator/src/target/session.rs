//! A source's connection: say where we stand, get level, stage what comes, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use admin::{Follow, Status};
use keyspace::SlotSet;
use ops::tls::Socket;
use stream::conn::PING_EVERY;
use stream::message::{self, Ack, HAS_FULL, HAS_NOT_YET, Incoming, Of, Point};
use stream::{Connection, Hello, Message, Reader, Versions, Welcome, WireError, Writer};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::members::{Role, WayBy};
use topology::{Epoch, ShardName};
use wal::History;

use super::bucket::say_way;
use super::inbound::Inbound;
use super::load::{self, Having};
use super::stage::StageError;
use super::standings::standings;
use crate::sidecar::Sidecar;

/// How long to wait for a record that is as new as the source's.
const RECORD_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait until what was staged of former sources is applied.
const LEVEL_WITHIN: Duration = Duration::from_secs(10);
/// How often a full stage is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// Acknowledgements of less than this time are told together.
const GATHER: Duration = Duration::from_millis(2);

/// Why a source is not served, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("its node: {0}")]
    Node(#[from] admin::Error),
    #[error("{0}")]
    Refused(String),
    /// Nothing is wrong: something here is waited for.
    #[error("{0}")]
    NotYet(String),
}

/// One conversation, with what all of its parts need.
pub(super) struct Session {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) inbound: Inbound,
    pub(super) source: ShardName,
    pub(super) epoch: Epoch,
    /// The timelines of the source's log.
    pub(super) history: History,
    /// The source's slots.
    pub(super) slots: SlotSet,
    pub(super) conn: Connection<Socket>,
    /// The version of the protocol that both ends speak.
    pub(super) version: u8,
}

/// Serves a source until the connection ends.
pub(super) async fn serve(mut conn: Connection<Socket>, hello: Hello, sidecar: Arc<Sidecar>) {
    let from = hello.from.clone();
    let patience = sidecar.config.link.peer_timeout;
    conn.reader.set_deadline(patience);
    conn.writer.set_deadline(patience);
    let agreed = Versions::OURS.agree(hello.versions);
    let version = *agreed.as_ref().unwrap_or(&Versions::OURS.lowest);
    let admitted = match agreed {
        Ok(_) => admit(&hello, &sidecar).await,
        Err(why) => Err(SessionError::Refused(why)),
    };
    let admitted = admitted.and_then(|source| {
        let inbound = sidecar.inbounds.of(&sidecar, &source)?;
        Ok((source, inbound))
    });
    let (source, inbound) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            tracing::info!(from, "refused: {error}");
            refuse(&mut conn.writer, &error, version).await;
            return;
        }
    };
    let token = CancellationToken::new();
    inbound.take_over(&token);
    // Once it is over the stage may be filled by another way.
    let _over = token.clone().drop_guard();
    let epoch = Epoch(hello.epoch);
    let (sidecar_again, history, slots) = (sidecar.clone(), hello.history, hello.slots);
    let mut session = Session {
        sidecar: sidecar_again,
        inbound,
        source: source.clone(),
        epoch,
        history,
        slots,
        conn,
        version,
    };
    let prepared = tokio::select! {
        prepared = session.prepare() => prepared,
        () = token.cancelled() => return,
    };
    if let Err(error) = prepared {
        // The source hears it, publishes it and warns of it once.
        tracing::info!(%source, "no stream: {error}");
        refuse(&mut session.conn.writer, &error, version).await;
        return;
    }
    tracing::info!(%source, "receiving");
    sidecar.board.receiving(&source, |status| status.connected = true);
    say_way(&sidecar, &source, WayBy::Stream, true);
    let Session { conn: Connection { mut reader, mut writer }, inbound, .. } = session;
    let (asides, told) = watch::channel(Asides::default());
    let receiving = Receiving { inbound: &inbound, sidecar: &sidecar, version };
    let ended = tokio::select! {
        ended = receiving.receive(&mut reader, &asides) => ended,
        ended = receiving.acknowledge(&mut writer, told) => ended,
        why = no_longer_primary(&sidecar, &source) => Err(SessionError::Refused(why)),
        () = token.cancelled() => Err(SessionError::Refused("the source has connected again".to_owned())),
    };
    if let Err(error) = ended {
        tracing::info!(%source, "the stream ended: {error}");
        if !matches!(error, SessionError::Wire(_)) {
            refuse(&mut writer, &error, version).await;
        }
    }
    if !token.is_cancelled() {
        sidecar.board.receiving(&source, |status| status.connected = false);
        say_way(&sidecar, &source, WayBy::Stream, false);
    }
}

async fn refuse(writer: &mut Writer<WriteHalf<Socket>>, error: &SessionError, version: u8) {
    let sentence = error.to_string();
    let message = match error {
        SessionError::NotYet(_) if version >= HAS_NOT_YET => Message::NotYet { sentence },
        _ => Message::Refusal { sentence },
    };
    // It may be gone: it will dial again and be told then.
    let _ = writer.message(&message).await;
    writer.close().await;
}

/// Whether this caller may stream to us, in words if not.
async fn admit(hello: &Hello, sidecar: &Sidecar) -> Result<ShardName, SessionError> {
    let refused = |why: String| Err(SessionError::Refused(why));
    let (service, us) = (&sidecar.config.service, &sidecar.shard);
    if hello.service != *service {
        return refused(format!(
            "this is a sidecar of service `{service}`, not of `{}`",
            hello.service
        ));
    }
    if hello.to != us.to_string() {
        return refused(format!(
            "this is the sidecar of {us}, not of {}: its address is old",
            hello.to
        ));
    }
    if hello.families != message::families() || hello.encoding != message::ENCODING {
        return refused(format!(
            "the source's column families or encoding ({:?}, version {}) are not ours ({:?}, version {}): upgrade the older side",
            hello.families,
            hello.encoding,
            message::families(),
            message::ENCODING
        ));
    }
    let source: ShardName = match hello.from.parse() {
        Ok(source) => source,
        Err(error) => return refused(format!("{error}")),
    };
    let mut view = sidecar.service.watch();
    let newer = async {
        loop {
            let now = view.borrow_and_update().clone();
            match now.record() {
                Some(record) if record.epoch.0 >= hello.epoch => return Some(record.clone()),
                _ => view.changed().await.ok()?,
            }
        }
    };
    let record =
        tokio::time::timeout(RECORD_WITHIN, newer).await.ok().flatten().ok_or_else(|| {
            let why = format!(
                "{us} waits for the record of epoch {}, which its registry does not show yet",
                hello.epoch
            );
            SessionError::NotYet(why)
        })?;
    if record.epoch.0 > hello.epoch {
        return refused(format!(
            "epoch {} is past, the service is at {}: try again",
            hello.epoch, record.epoch
        ));
    }
    if !record.is_primary(&source) || !record.followers_of(&source).contains(us) {
        return refused(format!(
            "{source} is no primary that {us} follows at epoch {}",
            record.epoch
        ));
    }
    Ok(source)
}

/// Resolves, with the reason, once the record says that the source is a primary no more.
async fn no_longer_primary(sidecar: &Sidecar, source: &ShardName) -> String {
    let mut view = sidecar.service.watch();
    loop {
        let now = view.borrow_and_update().clone();
        if let Some(record) = now.record().filter(|record| !record.is_primary(source)) {
            return format!("{source} is a primary no more at epoch {}", record.epoch);
        }
        if view.changed().await.is_err() {
            return "the registry is gone".to_owned();
        }
    }
}

impl Session {
    /// Says where we stand and does what the source decides; after it frames come.
    async fn prepare(&mut self) -> Result<(), SessionError> {
        let inbound = self.inbound.clone();
        // Nothing is applied while it is settled from where.
        let _gate = inbound.gate().lock().await;
        if let Some(discarded) = inbound.hold().state().discarded {
            return Err(SessionError::Refused(discarded.to_string()));
        }
        // All that is decided from here on is meant for the database that says this.
        let mut status = self.status().await?;
        inbound.settle(&status)?;
        let tip = self
            .inbound
            .stage(|stage| stage.tip().filter(|_| reaches(stage, &status, &self.source)));
        // What it lacks of these slots no log brings, wherever it stands.
        let mut standings = match status.lacks.intersection(&self.slots).is_empty() {
            true => standings(&status, &self.source, &self.history, tip),
            false => Vec::new(),
        };
        if let Some(until) = status.until.filter(|_| status.role == Role::Rewinding) {
            // What it holds of some keys is from there: the source may have lost that since.
            let received = standings.iter_mut().filter(|standing| standing.of != Of::Own);
            received.for_each(|standing| standing.local_until = standing.local_until.max(until));
        }
        let welcome = Welcome {
            version: self.version,
            from: self.sidecar.shard.to_string(),
            slots: status.slots.clone(),
            standings,
        };
        self.conn.writer.message(&Message::Welcome(welcome)).await?;
        self.conn.reader.set_deadline(Duration::from_secs(60));
        let start = loop {
            match self.conn.reader.message().await? {
                Message::Start(point) => break point,
                Message::SeedBegin(_) | Message::SliceBegin(_)
                    if inbound.hold().state().tripped.is_some() =>
                {
                    // A seed would bring what the breaker has stopped.
                    let tripped = inbound.hold().state().tripped.map(|tripped| tripped.to_string());
                    return Err(SessionError::Refused(tripped.unwrap_or_default()));
                }
                Message::SeedBegin(begin) => status = self.receive_seed(begin, &status).await?,
                Message::SliceBegin(begin) => status = self.receive_slice(begin, &status).await?,
                Message::RewindBegin { fork, resume } => {
                    status = self.rewind(fork, resume, &status).await?;
                }
                got => {
                    let got = Incoming::Message(got).name();
                    let want = "Start, SeedBegin, SliceBegin or RewindBegin";
                    return Err(WireError::Unexpected { got, want }.into());
                }
            }
        };
        self.conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
        self.start(start, &status).await
    }

    /// The node's status, once what former sources have sent is applied.
    async fn status(&self) -> Result<Status, SessionError> {
        let deadline = tokio::time::Instant::now() + LEVEL_WITHIN;
        loop {
            let status = self.sidecar.node.status().await?;
            if matches!(status.role, Role::Primary | Role::Standalone) {
                return Err(SessionError::NotYet(format!(
                    "the node of {} is {:?} still and waits for the record (or has no service)",
                    self.sidecar.shard, status.role
                )));
            }
            let view = self.sidecar.service.view();
            let primaries = view.record().map(|record| &*record.primaries).unwrap_or_default();
            let behind = self.sidecar.inbounds.all().into_iter().find(|other| {
                let applied = status.applied.get(other.source());
                // What comes from a primary goes on coming, and is of other slots.
                !primaries.contains(other.source())
                    // What a breaker holds back of another is not waited for.
                    && other.hold().state().tripped.is_none()
                    && applied.is_some_and(|a| {
                        other.stage(|s| s.reaches(a.position.sequence))
                            && !other.is_level(a.position.sequence)
                    })
            });
            match behind {
                None => return Ok(status),
                Some(other) if tokio::time::Instant::now() > deadline => {
                    return Err(SessionError::Refused(format!(
                        "what was received of {} is being applied still: try again",
                        other.source()
                    )));
                }
                Some(_) => tokio::time::sleep(FULL_PAUSE).await,
            }
        }
    }

    /// Frames come from here on: makes the stage and the node stand there, if the node still has the
    /// database that said this. (The gate is held: nothing was applied since.)
    async fn start(&mut self, point: Point, status: &Status) -> Result<(), SessionError> {
        let tip = self.inbound.stage(|stage| stage.tip());
        self.inbound.stands_beside(&status.database);
        let applied = status.applied.get(&self.source);
        let holds = self.inbound.stage(|stage| reaches(stage, status, &self.source));
        if holds
            && tip.is_some_and(|tip| {
                tip.position == point.position && tip.stream_chain == point.stream_chain
            })
        {
            return Ok(());
        }
        if applied
            .is_none_or(|a| a.position != point.position || a.stream_chain != point.stream_chain)
        {
            pause_here(self.sidecar.spool.root(), "before-follow").await;
            let node = self.sidecar.node.client().await?.on(status);
            let source = self.source.clone();
            node.follow(follow(source, self.epoch, point, point.position.sequence)).await?;
        }
        self.inbound.restart_at(point)?;
        Ok(())
    }

    /// What the node says once it has what a source has brought it up to `point`: it stands there, or
    /// someone has swapped its database since.
    pub(super) async fn brought_to(&self, point: Point) -> Result<Status, SessionError> {
        let status = self.sidecar.node.status().await?;
        let applied = status.applied.get(&self.source);
        if applied.is_none_or(|applied| applied.position != point.position) {
            return Err(SessionError::Refused(swapped()));
        }
        Ok(status)
    }

    /// What the node says now, if it still has the database that said `settled`.
    pub(super) async fn status_again(&self, settled: &Status) -> Result<Status, SessionError> {
        let status = self.sidecar.node.status().await?;
        if status.database != settled.database {
            return Err(SessionError::Refused(swapped()));
        }
        Ok(status)
    }
}

/// With the failpoint of this name a test holds the session here, until it has made `<name>.go`.
async fn pause_here(root: &std::path::Path, name: &str) {
    let at = |what: &str| root.join(format!("{name}.{what}"));
    if ops::failpoint::hit(name) && tokio::fs::write(at("held"), b"").await.is_ok() {
        while !at("go").exists() {
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }
}

fn swapped() -> String {
    "the node's database was swapped just now: ask again where it stands".to_owned()
}

pub(super) fn follow(
    source: ShardName,
    epoch: Epoch,
    point: Point,
    until: wal::Sequence,
) -> Follow {
    Follow {
        source,
        position: point.position,
        log_chain: point.log_chain,
        stream_chain: point.stream_chain,
        epoch,
        until,
    }
}

fn reaches(stage: &super::stage::Stage, status: &Status, source: &ShardName) -> bool {
    status.applied.get(source).is_some_and(|applied| stage.reaches(applied.position.sequence))
}

/// What the receiving half has to say beside acknowledgements: the latest of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Asides {
    /// What is here of a load.
    pub(super) having: Option<Having>,
    /// A question for our clock, with what it showed when that came.
    time: Option<(u64, u64)>,
}

/// A stream that runs.
struct Receiving<'a> {
    inbound: &'a Inbound,
    sidecar: &'a Sidecar,
    version: u8,
}

impl Receiving<'_> {
    /// The most that is staged whatever the source does: of one that stops when it hears that the stage
    /// is full, a window is still under way.
    fn most(&self) -> u64 {
        let most = self.sidecar.config.stage_bytes;
        if self.version < HAS_FULL { most } else { most + self.sidecar.config.link.window }
    }

    /// Stages what comes.
    async fn receive(
        &self,
        reader: &mut Reader<ReadHalf<Socket>>,
        asides: &watch::Sender<Asides>,
    ) -> Result<(), SessionError> {
        let Self { inbound, sidecar, .. } = self;
        loop {
            match reader.incoming().await? {
                Incoming::Frame(frame) => {
                    // The source waits, which has the log on its own disk.
                    while inbound.stage(|stage| stage.bytes()) > self.most() {
                        tokio::time::sleep(FULL_PAUSE).await;
                    }
                    inbound.append(&frame)?;
                    sidecar.metrics.frames_received.inc();
                    sidecar.metrics.received_bytes.inc_by(frame.len() as u64);
                }
                Incoming::Message(Message::LoadBegin(begin)) => {
                    load::receive(reader, begin, inbound.source(), sidecar, asides).await?;
                }
                Incoming::Message(Message::Ping) => {}
                Incoming::Message(Message::Time { us }) => {
                    let at_us = crate::source::unix_us();
                    asides.send_modify(|asides| asides.time = Some((us, at_us)));
                }
                Incoming::Message(Message::Refusal { sentence }) => {
                    return Err(WireError::Refused(sentence).into());
                }
                got => {
                    return Err(WireError::Unexpected { got: got.name(), want: "a frame" }.into());
                }
            }
        }
    }

    /// Acknowledges at each change, and every second in any case.
    async fn acknowledge(
        &self,
        writer: &mut Writer<WriteHalf<Socket>>,
        mut asides: watch::Receiver<Asides>,
    ) -> Result<(), SessionError> {
        let (mut staged, mut applied) =
            (self.inbound.staged().subscribe(), self.inbound.applied().subscribe());
        // Of what is said aside, each is said once.
        let (mut answered, mut had, mut full) = (None, None, false);
        let gauge = self.sidecar.metrics.stage_full(self.inbound.source());
        loop {
            let progress = *applied.borrow_and_update();
            let ack = Ack {
                staged: *staged.borrow_and_update(),
                applied: progress.position,
                lag_ms: progress.lag_ms,
            };
            writer.message(&Message::Ack(ack)).await?;
            let now_full =
                self.inbound.stage(|stage| stage.bytes()) > self.sidecar.config.stage_bytes;
            if now_full != full {
                full = now_full;
                gauge.set(i64::from(full));
                if self.version >= HAS_FULL {
                    writer.message(&Message::Full { full }).await?;
                }
                let source = self.inbound.source();
                match full {
                    true => {
                        tracing::warn!(%source, "the stage is full (stage-budget): the source waits until some of it is applied")
                    }
                    false => tracing::info!(%source, "the stage has room again"),
                }
            }
            if asides.has_changed().unwrap_or(false) {
                let said = asides.borrow_and_update().clone();
                if let Some((asked_us, at_us)) = said.time.filter(|time| answered != Some(*time)) {
                    answered = said.time;
                    writer.message(&Message::TimeIs { asked_us, at_us }).await?;
                }
                let having = said.having.filter(|having| had != Some(having.id));
                if let Some(Having { id, have }) = having {
                    had = Some(id);
                    writer.message(&Message::LoadHave { id, have }).await?;
                }
            }
            tokio::time::sleep(GATHER).await;
            tokio::select! {
                changed = asides.changed() => if changed.is_err() { return Ok(()) } else { asides.mark_changed() },
                changed = staged.changed() => if changed.is_err() { return Ok(()) },
                changed = applied.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(PING_EVERY) => {}
            }
        }
    }
}
