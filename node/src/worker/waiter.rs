//! A call that waits: for which keys, for how long, and how it ends.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyspace::meta::Type;
use resp::reply::Writer;

use super::gate::WorkerSet;
use super::request::{Part, Request};
use crate::command::Fail;

/// What a handler that found nothing waits for: see [`super::View::wait`].
#[derive(Debug)]
pub struct Until {
    /// Which of its arguments are the keys that it waits for; none: only time ends it.
    pub keys: Range<usize>,
    /// It runs again when one of them was written and is of this type.
    pub kind: Type,
    /// It runs again whatever a key has become, deleted ones included (XREADGROUP).
    pub any_change: bool,
    /// For how long at most; `None`: for ever.
    pub timeout: Option<Duration>,
    /// What it is answered when the time is over; `None`: a null array, as Redis does.
    pub too_late: Option<i64>,
    /// What its handler gets back when it runs again ([`super::View::note`]).
    pub note: Vec<u8>,
}

impl Until {
    /// Until one of these keys, a range of the arguments, is of a type.
    pub fn keys(keys: Range<usize>, kind: Type, timeout: Option<Duration>) -> Self {
        Self { keys, kind, any_change: false, timeout, too_late: None, note: Vec::new() }
    }

    /// Until the time is over; then this number is the answer.
    pub fn time(timeout: Option<Duration>, answer: i64) -> Self {
        let nothing = Self::keys(0..0, Type::String, timeout);
        Self { too_late: Some(answer), ..nothing }
    }
}

/// Why a call waits no more, other than by an answer of its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its time is over, or somebody said so (CLIENT UNBLOCK).
    TooLate,
    /// With this error.
    Error(String),
    /// Its connection has gone: nobody is to be answered.
    Gone,
}

/// A call that waits.
pub(super) struct Waiter {
    pub(super) request: Arc<Request>,
    pub(super) until: Until,
    /// Rises: who came first is served first.
    pub(super) ticket: u64,
    /// All workers that its command needs.
    pub(super) workers: WorkerSet,
    pub(super) deadline: Option<Instant>,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        /// It is in the queues of its workers, to be run again.
        queued: bool,
    },
    /// Its handler runs; how it is to end if it would go on waiting.
    Running(Option<Ending>),
    Ended,
}

impl Waiter {
    pub(super) fn new(
        request: &Arc<Request>,
        until: Until,
        ticket: u64,
        workers: WorkerSet,
    ) -> Self {
        let now = Instant::now();
        // A time that cannot be counted to never comes.
        let deadline = until.timeout.and_then(|timeout| now.checked_add(timeout));
        let (request, phase) = (request.clone(), Mutex::new(Phase::Waiting { queued: false }));
        Self { request, until, ticket, workers, deadline, phase }
    }

    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that it waits for.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let args = self.request.calls.first().map(|call| self.request.args_of(call));
        let keys = self.until.keys.clone();
        args.into_iter().flat_map(move |args| keys.clone().filter_map(move |at| args.get(at)))
    }

    /// Its handler is about to run again. False: it has ended.
    pub(super) fn begin(&self) -> bool {
        let mut phase = self.phase();
        let waits = matches!(*phase, Phase::Waiting { .. });
        if waits {
            *phase = Phase::Running(None);
        }
        waits
    }

    /// Its handler ran and would wait on: `Some` if it is to end now instead.
    pub(super) fn wait_on(&self) -> Option<Ending> {
        let mut phase = self.phase();
        let Phase::Running(Some(ending)) = &*phase else {
            *phase = Phase::Waiting { queued: false };
            return None;
        };
        let ending = ending.clone();
        *phase = Phase::Ended;
        Some(ending)
    }

    /// Its handler ran and has an answer.
    pub(super) fn served(&self) {
        *self.phase() = Phase::Ended;
    }

    /// It is being put into the queues of its workers. False: it is there already, or has ended.
    pub(super) fn enqueue(&self) -> bool {
        match &mut *self.phase() {
            Phase::Waiting { queued } => !std::mem::replace(queued, true),
            _ => false,
        }
    }

    /// It is in no queue any more.
    pub(super) fn unqueue(&self) {
        if let Phase::Waiting { queued } = &mut *self.phase() {
            *queued = false;
        }
    }

    /// Whether it has an answer.
    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase(), Phase::Ended)
    }

    /// Ends it. Now: the caller takes it out and answers. After its run: this counts if its
    /// handler would wait on.
    pub(super) fn end(&self, ending: &Ending) -> Ended {
        let mut phase = self.phase();
        match &mut *phase {
            Phase::Waiting { .. } => {
                *phase = Phase::Ended;
                Ended::Now
            }
            Phase::Running(how) => {
                how.get_or_insert_with(|| ending.clone());
                Ended::AfterItsRun
            }
            Phase::Ended => Ended::Before,
        }
    }

    /// Answers a call that has ended.
    pub(super) fn answer(&self, ending: &Ending) {
        let Some(call) = self.request.calls.first() else { return };
        let worker = self.request.answered_by(call).unwrap_or(0);
        let mut part = Part::new(self.request.connection, self.request.round, worker);
        let failed = match ending {
            Ending::Error(text) => Err(Fail::text(text.clone())),
            Ending::TooLate | Ending::Gone => Ok(()),
        };
        self.request.count(call.spec, &self.request.args_of(call), Duration::ZERO, &failed);
        let mut out = Writer::new(&mut part.bytes, call.version);
        match ending {
            Ending::TooLate => match self.until.too_late {
                Some(number) => out.integer(number),
                None => out.null_array(),
            },
            Ending::Error(text) => out.error(text),
            Ending::Gone => part.lost = true,
        }
        if call.silent {
            part.bytes.clear();
        }
        part.ends.push(part.bytes.len());
        self.request.outbox.deliver(&mut vec![part]);
    }
}

/// When a call that was told to end does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Now,
    AfterItsRun,
    Before,
}
