//! A connection to one follower's sidecar, for promises alone: made before it is needed and kept, because
//! what is left of a lease when the registry falls silent is short.

use std::sync::Arc;
use std::time::Duration;

use admin::PromiseWish;
use keyspace::SlotSet;
use stream::conn::PING_EVERY;
use stream::message::{self, HAS_PROMISES};
use stream::{Connection, Hello, Message, Purpose, Versions, WireError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use topology::ShardName;
use wal::History;

use crate::sidecar::Sidecar;

/// The pause before it is dialled again; each failure doubles it, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long the other end may take to answer the handshake.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// Questions that wait: each takes the place of the one before, which nobody waits for any more.
const QUESTIONS: usize = 4;

/// A question on its way.
struct Question {
    epoch: u64,
    lease_ms: u64,
    answer: oneshot::Sender<Result<(), String>>,
}

/// The way to one follower. Dropping it ends the connection.
pub(super) struct Road {
    address: watch::Sender<String>,
    questions: mpsc::Sender<Question>,
    _end: DropGuard,
}

impl Road {
    /// Makes a connection and keeps it.
    pub(super) fn open(sidecar: Arc<Sidecar>, follower: ShardName, address: String) -> Self {
        let (address, to) = watch::channel(address);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let token = sidecar.shutdown.token().child_token();
        tokio::spawn(keep(sidecar, follower, to, asked, token.clone()));
        Self { address, questions, _end: token.drop_guard() }
    }

    /// Where the follower's sidecar is now.
    pub(super) fn leads_to(&self, address: String) {
        self.address.send_if_modified(|held| {
            let news = *held != address;
            if news {
                *held = address;
            }
            news
        });
    }

    /// Asks for a promise.
    ///
    /// # Errors
    /// There is none, or none in time: in a sentence.
    pub(super) async fn ask(&self, wish: &PromiseWish, within: Duration) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let question = Question { epoch: wish.epoch.0, lease_ms: wish.lease_ms, answer };
        let asking = async {
            self.questions.send(question).await.map_err(|_| "this sidecar ends".to_owned())?;
            answered.await.map_err(|_| "the connection to its sidecar was lost".to_owned())?
        };
        let late = || format!("it did not answer within {within:?}");
        tokio::time::timeout(within, asking).await.map_err(|_| late())?
    }
}

/// Dials again and again, until the road is not wanted any more.
async fn keep(
    sidecar: Arc<Sidecar>,
    follower: ShardName,
    mut address: watch::Receiver<String>,
    mut questions: mpsc::Receiver<Question>,
    token: CancellationToken,
) {
    let mut pause = PAUSE_MIN;
    let show = |is_open| sidecar.metrics.promise_road(&follower, is_open);
    show(Some(false));
    loop {
        let to = address.borrow_and_update().clone();
        let travelled = tokio::select! {
            travelled = travel(&sidecar, &follower, &to, &mut questions, &show) => travelled,
            _ = address.changed() => Ok(()),
            () = token.cancelled() => break,
        };
        show(Some(false));
        let why = match travelled {
            Ok(()) => {
                pause = PAUSE_MIN;
                continue;
            }
            Err((why, was_open)) => {
                pause = if was_open { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                why
            }
        };
        tracing::debug!(%follower, "no way for promises: {why}");
        // Who asks meanwhile is told at once.
        let refuse = async {
            while let Some(question) = questions.recv().await {
                // Nobody may wait for it any more.
                let _ = question.answer.send(Err(why.clone()));
            }
        };
        tokio::select! {
            () = refuse => break,
            () = tokio::time::sleep(pause) => {}
            _ = address.changed() => {}
            () = token.cancelled() => break,
        }
    }
    show(None);
}

/// One connection; why it ended, and whether it had been open.
async fn travel(
    sidecar: &Sidecar,
    follower: &ShardName,
    address: &str,
    questions: &mut mpsc::Receiver<Question>,
    show: &impl Fn(Option<bool>),
) -> Result<(), (String, bool)> {
    let conn = shake_hands(sidecar, follower, address).await.map_err(|why| (why, false))?;
    show(Some(true));
    let Connection { mut reader, mut writer } = conn;
    let mut ping = tokio::time::interval(PING_EVERY);
    // The last question, by its number; answers to others say nothing.
    let mut open: Option<(u64, oneshot::Sender<Result<(), String>>)> = None;
    let mut last = 0;
    let lost = |why: WireError| (why.to_string(), true);
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(question) = question else { return Ok(()) };
                last += 1;
                open = Some((last, question.answer));
                let Question { epoch, lease_ms, .. } = question;
                writer.message(&Message::Promise { id: last, epoch, lease_ms }).await.map_err(lost)?;
            }
            message = reader.message() => {
                let (id, answer) = match message.map_err(lost)? {
                    Message::Promised { id } => (id, Ok(())),
                    Message::NoPromise { id, reason } => (id, Err(reason)),
                    got => {
                        let got = message::Incoming::Message(got).name();
                        return Err(lost(WireError::Unexpected { got, want: "a promise" }));
                    }
                };
                if let Some((_, waits)) = open.take_if(|(asked, _)| *asked == id) {
                    // It may have given up by now.
                    let _ = waits.send(answer);
                }
            }
            _ = ping.tick() => writer.message(&Message::Ping).await.map_err(lost)?,
        }
    }
}

async fn shake_hands(
    sidecar: &Sidecar,
    follower: &ShardName,
    address: &str,
) -> Result<Connection<ops::tls::Socket>, String> {
    let socket = sidecar.transport.dial(address, follower).await?;
    let mut conn = stream::split(socket);
    let patience = sidecar.config.link.peer_timeout;
    conn.writer.set_deadline(patience);
    let hello = Hello {
        purpose: Purpose::Promise,
        versions: Versions::OURS,
        service: sidecar.config.service.clone(),
        from: sidecar.shard.to_string(),
        to: follower.to_string(),
        slots: SlotSet::default(),
        history: History::default(),
        epoch: 0,
        families: message::families(),
        encoding: message::ENCODING,
    };
    let said = conn.writer.message(&Message::Hello(Box::new(hello))).await;
    said.map_err(|error| error.to_string())?;
    conn.reader.set_deadline(WELCOME_WITHIN);
    match conn.reader.message().await.map_err(|error| error.to_string())? {
        Message::Welcome(welcome) if welcome.version >= HAS_PROMISES => {}
        _ => return Err("its sidecar gives no promises: upgrade it".to_owned()),
    }
    conn.reader.set_deadline(patience);
    Ok(conn)
}
