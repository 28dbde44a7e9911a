//! Calls to the cluster: to one member at a time, to the next one when it fails, never for longer
//! than the address allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::address::Address;
use super::link::Link;
use crate::registry::RegistryError;

/// With more members than this the share of each is not smaller.
const SHARES_MAX: usize = 3;
/// Between two rounds over all endpoints, so that a cluster that refuses connections is not asked in
/// a busy loop.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// Whether a call whose outcome is unknown may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It reads, or does the same thing when it is done twice.
    Safe,
    /// Done twice it would answer wrongly.
    Never,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It was not carried out.
    NotDone(String),
    /// It may or may not have been carried out.
    Unknown(String),
    /// etcd refused it; nothing was done.
    Refused(Status),
}

/// The cluster. Clones share one connection.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Address,
    /// The connection in use. Held while a new one is made, so that one is made at a time.
    link: Mutex<Option<Link>>,
    /// Which endpoint is next; any number, taken modulo.
    next: AtomicUsize,
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        // Not all processes at the same member.
        let first = rand::random::<u32>() as usize;
        Self(Arc::new(Inner { address, link: Mutex::default(), next: AtomicUsize::new(first) }))
    }

    pub(super) fn address(&self) -> &Address {
        &self.0.address
    }

    /// How long one member may take before the next one is asked: each gets its share of the time,
    /// so that one that hangs costs no lease.
    pub(super) fn patience(&self) -> Duration {
        match self.0.address.endpoints.len() {
            1 => self.0.address.timeout,
            count => self.0.address.timeout / (1 + count.min(SHARES_MAX) as u32),
        }
    }

    /// The connection, made if there is none.
    pub(super) async fn link(&self) -> Result<Link, String> {
        let mut held = self.0.link.lock().await;
        if let Some(link) = held.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let endpoints = &self.0.address.endpoints;
        let at = self.0.next.load(Ordering::Relaxed) % endpoints.len();
        let opened =
            tokio::time::timeout(self.patience(), Link::open(&self.0.address, &endpoints[at]));
        let opened =
            opened.await.unwrap_or_else(|_| Err(format!("{}: it does not answer", endpoints[at])));
        match opened {
            Ok(link) => Ok(held.insert(link).clone()),
            Err(why) => {
                *held = None;
                self.0.next.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    /// This connection is of no use any more; the next one goes to the next member.
    pub(super) async fn give_up(&self, link: &Link) {
        link.cut();
        let mut held = self.0.link.lock().await;
        if held.as_ref().is_some_and(|now| now.is(link)) {
            *held = None;
            self.0.next.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks until there is an answer or the time is up.
    pub(super) async fn call<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        again: Again,
    ) -> Result<A, Failed>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask(again, |link| {
            let message = message.clone();
            async move { link.unary(path, message).await }
        })
        .await
    }

    /// The same for any exchange on a connection.
    pub(super) async fn ask<A, F>(
        &self,
        again: Again,
        mut exchange: impl FnMut(Link) -> F,
    ) -> Result<A, Failed>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let deadline = Instant::now() + self.0.address.timeout;
        let mut last = None;
        let mut tries = 0;
        while Instant::now() < deadline {
            if tries > 0 && tries % self.0.address.endpoints.len() == 0 {
                tokio::time::sleep_until(deadline.min(Instant::now() + ROUND_PAUSE)).await;
            }
            tries += 1;
            let link = match timeout_at(deadline, self.link()).await {
                Ok(Ok(link)) => link,
                Ok(Err(why)) => {
                    last = Some(why);
                    continue;
                }
                Err(_) => break,
            };
            let until = deadline.min(Instant::now() + self.patience());
            let why = match timeout_at(until, exchange(link.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) if is_refusal(&status) => return Err(Failed::Refused(status)),
                Ok(Err(status)) => {
                    let why = format!("{}: {}", link.endpoint(), link.explain(&status).await);
                    self.give_up(&link).await;
                    if asks_for_login(&status) {
                        // Nothing was done. A new connection logs in again.
                        last = Some(why);
                        continue;
                    }
                    why
                }
                Err(_) => {
                    self.give_up(&link).await;
                    let why = format!("{}: it does not answer", link.endpoint());
                    if until == deadline && again != Again::Never {
                        // It had the rest of the time only: what was heard before says more.
                        last.get_or_insert(why);
                        break;
                    }
                    why
                }
            };
            if again == Again::Never {
                return Err(Failed::Unknown(why));
            }
            last = Some(why);
        }
        let ms = self.0.address.timeout.as_millis();
        let why = last.unwrap_or_else(|| "no connection".to_owned());
        Err(Failed::NotDone(format!("no answer within {ms} ms; last: {why}")))
    }

    /// What went wrong, for who asked.
    pub(super) fn error(&self, failed: Failed) -> RegistryError {
        let why = match failed {
            Failed::NotDone(why) => why,
            Failed::Unknown(why) => format!("{why}: whether it was committed must be read"),
            Failed::Refused(status) => format!("etcd refused: {}", text(&status)),
        };
        RegistryError::Unavailable { registry: self.0.address.to_string(), why }
    }
}

/// Whether etcd said no, and nothing was done.
fn is_refusal(status: &Status) -> bool {
    let no = matches!(
        status.code(),
        Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::Unimplemented
    );
    no && !asks_for_login(status)
}

/// Whether the token has ended, or users were changed since it was given.
fn asks_for_login(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || status.message().contains("revision of auth store is old")
}

/// What etcd said, and what to do about it where that is known.
pub(super) fn text(status: &Status) -> String {
    let advice = match status.message() {
        m if m.contains("database space exceeded") => {
            "; it takes no writes until it has been compacted, defragmented and its alarm disarmed"
        }
        m if m.contains("user name is empty") => "; name user=NAME&password-file=FILE",
        _ => "",
    };
    match status.message() {
        "" => status.code().to_string(),
        message => format!("{message}{advice}"),
    }
}
