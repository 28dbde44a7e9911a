//! What a connection hands to the workers, and what comes back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use keyspace::Slot;
use resp::Version;

use super::gate::{Gate, WorkerSet};
use super::watch::Watch;
use crate::acl::{Account, Denied};
use crate::command::{Args, Fail, Handler, Spec};
use crate::stats;

/// The complete commands of one read of one connection. Workers share it and run their own.
pub struct Request {
    /// The bytes that were read.
    pub bytes: Vec<u8>,
    /// Where the commands' arguments are in them.
    pub args: Vec<Range<usize>>,
    /// The commands, in order.
    pub calls: Vec<Call>,
    pub(super) gates: Vec<Gate>,
    /// What its EXECs and WATCHes carry.
    pub transactions: Vec<Transaction>,
    /// It has commands that its I/O thread runs when all before them is answered.
    pub late: bool,
    /// Workers that have something to do.
    pub workers: WorkerSet,
    /// Who says it; `None`: somebody who may do everything.
    pub user: Option<Arc<Account>>,
    /// What outlives the request of its connection.
    pub sticky: Arc<Sticky>,
    /// Where the answers go.
    pub outbox: Arc<dyn Outbox>,
    /// Which connection of the outbox.
    pub connection: u64,
    /// Which request of that connection.
    pub round: u64,
}

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunBy {
    /// The I/O thread did, while it parsed.
    Io,
    /// The I/O thread does, once all that came before it on its connection is answered.
    IoLate,
    /// The worker of its slot.
    Worker(u16),
    /// The lowest of several workers, while the others wait; which of the request's gates.
    Gate(u32),
}

/// One command of a request.
#[derive(Debug)]
pub struct Call {
    /// Which command it is.
    pub spec: &'static Spec,
    /// Its arguments, as a range of the request's.
    pub args: Range<usize>,
    /// The slot of its first key; none for commands of the whole keyspace.
    pub slot: Option<Slot>,
    /// Who runs it.
    pub by: RunBy,
    /// The protocol that its answer is in.
    pub version: Version,
    /// The connection had said READONLY.
    pub readonly: bool,
    /// 0: refusals pass; else they stick to this and lower numbers ([`Sticky`]).
    pub hold: u32,
    /// CLIENT REPLY: its answer is dropped.
    pub silent: bool,
    /// CLIENT TRACKING: its client keeps copies of the keys that it reads.
    pub tracks: bool,
}

impl Call {
    /// A call like this one, to be changed.
    pub(super) fn like(&self) -> Self {
        Self { args: self.args.clone(), ..*self }
    }
}

impl Request {
    /// An empty request of a connection.
    pub fn new(outbox: Arc<dyn Outbox>, connection: u64, round: u64, sticky: Arc<Sticky>) -> Self {
        Self {
            bytes: Vec::new(),
            args: Vec::new(),
            calls: Vec::new(),
            gates: Vec::new(),
            transactions: Vec::new(),
            late: false,
            user: None,
            workers: WorkerSet::default(),
            sticky,
            outbox,
            connection,
            round,
        }
    }

    /// Empties it, so that it can be another request of its outbox. False: what it had was too large
    /// to keep its memory.
    pub fn reset(&mut self) -> bool {
        const KEPT_BYTES_MAX: usize = 64 << 10;
        const KEPT_ARGS_MAX: usize = 1 << 10;
        const KEPT_CALLS_MAX: usize = 256;
        self.bytes.clear();
        self.args.clear();
        self.calls.clear();
        self.gates.clear();
        self.transactions.clear();
        (self.late, self.workers, self.user) = (false, WorkerSet::default(), None);
        self.bytes.capacity() <= KEPT_BYTES_MAX
            && self.args.capacity() <= KEPT_ARGS_MAX
            && self.calls.capacity() <= KEPT_CALLS_MAX
    }

    /// Adds a command for the worker of its slot.
    pub fn assign(&mut self, worker: u16) -> RunBy {
        self.workers.insert(worker);
        RunBy::Worker(worker)
    }

    /// Adds a command that these workers wait for.
    pub fn gate(&mut self, workers: WorkerSet) -> RunBy {
        for worker in 0..WorkerSet::MAX as u16 {
            if workers.contains(worker) {
                self.workers.insert(worker);
            }
        }
        self.gates.push(Gate::new(workers));
        RunBy::Gate(self.gates.len() as u32 - 1)
    }

    /// Whether it must be in all its queues in one order.
    pub fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Whether both came on one connection.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        (self.outbox.index(), self.connection) == (other.outbox.index(), other.connection)
    }

    /// The arguments of one of its commands.
    pub fn args_of(&self, call: &Call) -> Args<'_> {
        Args::new(&self.bytes, &self.args[call.args.clone()])
    }

    /// Whether whoever says it may run this command in a script.
    pub fn check_in_script(&self, spec: &Spec, args: &Args<'_>) -> Result<(), Fail> {
        let Some(user) = &self.user else { return Ok(()) };
        user.check(spec, args).map_err(|denied| {
            self.outbox.denied(self.connection, denied, spec, args);
            let why = denied.message(&user.name(), spec);
            Fail::text(format!("ERR ACL failure in script: {why}"))
        })?;
        user.check_patterns(spec, args)
    }

    /// Counts a command that a worker ran or refused, but no EXEC as slow: its commands are.
    pub(super) fn count(
        &self,
        spec: &Spec,
        args: &Args<'_>,
        took: Duration,
        result: &Result<(), Fail>,
    ) {
        match result {
            // A call that waits is counted when it ends.
            Err(Fail::Lost | Fail::Wait(_)) => return,
            Err(fail @ Fail::Refused(_)) => {
                stats::commands::rejected(spec);
                stats::errors::count(&fail.line());
                return;
            }
            Ok(()) | Err(Fail::Script(_, true)) => {}
            Err(fail) => stats::errors::count(&fail.line()),
        }
        stats::commands::ran(spec, took, result.is_err());
        if matches!(spec.handler, Handler::Exec) {
            return;
        }
        stats::events::command(spec, took);
        if crate::server::is_slow(took) {
            self.outbox.slow(self.connection, args, took);
        }
    }

    /// The worker whose part has the answer of this command; `None`: the I/O thread's.
    pub fn answered_by(&self, call: &Call) -> Option<u16> {
        match call.by {
            RunBy::Io | RunBy::IoLate => None,
            RunBy::Worker(worker) => Some(worker),
            RunBy::Gate(gate) => Some(self.gates[gate as usize].workers.lowest()),
        }
    }
}

/// The answers of one worker to its commands of one request.
pub struct Part {
    /// Which connection.
    pub connection: u64,
    /// Which of its requests.
    pub round: u64,
    /// Which worker.
    pub worker: u16,
    /// The answers, one after the other.
    pub bytes: Vec<u8>,
    /// Where each ends in them.
    pub ends: Vec<usize>,
    /// The outcome is not known: close the connection without an answer.
    pub lost: bool,
    /// Where answers of the I/O thread belong into those of a transaction.
    pub holes: Vec<Hole>,
}

/// The commands of a MULTI, or the keys of a WATCH.
pub struct Transaction {
    /// Which of its request's commands it belongs to.
    pub index: usize,
    /// The bytes of its commands.
    pub bytes: Vec<u8>,
    /// Where their arguments are in them.
    pub args: Vec<Range<usize>>,
    /// Its commands, in order.
    pub calls: Vec<Call>,
    /// What has to be unchanged, or where to add the keys.
    pub watch: Option<Arc<Watch>>,
}

impl Transaction {
    /// The arguments of one of its commands.
    pub fn args_of(&self, call: &Call) -> Args<'_> {
        Args::new(&self.bytes, &self.args[call.args.clone()])
    }
}

/// A command of a transaction that the I/O thread answers, once the others have run.
pub struct Hole {
    /// Where its answer belongs among the part's bytes.
    pub at: usize,
    /// Which of the request's transactions.
    pub transaction: usize,
    /// Which of its commands.
    pub call: usize,
}

impl Part {
    /// An empty part.
    pub fn new(connection: u64, round: u64, worker: u16) -> Self {
        let (bytes, ends, holes) = Default::default();
        Self { connection, round, worker, bytes, ends, lost: false, holes }
    }

    /// Empties it, so that it can be another part. False: it was too large to keep its memory.
    pub fn reset(&mut self) -> bool {
        const KEPT_BYTES_MAX: usize = 16 << 10;
        const KEPT_ENDS_MAX: usize = 256;
        self.bytes.clear();
        self.ends.clear();
        self.holes.clear();
        self.lost = false;
        self.bytes.capacity() <= KEPT_BYTES_MAX && self.ends.capacity() <= KEPT_ENDS_MAX
    }

    /// Puts an answer where an empty one had been left for it.
    pub(super) fn fill(&mut self, at: usize, answer: &[u8]) {
        let Some(&end) = self.ends.get(at) else { return };
        self.bytes.splice(end..end, answer.iter().copied());
        self.ends[at..].iter_mut().for_each(|end| *end += answer.len());
        let later = self.holes.iter_mut().filter(|hole| hole.at >= end);
        later.for_each(|hole| hole.at += answer.len());
    }
}

/// Where a worker leaves finished parts: one for each I/O thread.
pub trait Outbox: Send + Sync {
    /// Which it is, to group parts by.
    fn index(&self) -> usize;
    /// Takes parts, in order, and leaves in their place parts that it has emptied, for later ones.
    fn deliver(&self, parts: &mut Vec<Part>);
    /// Hears of a command of a connection that took long.
    fn slow(&self, _connection: u64, _args: &Args<'_>, _took: Duration) {}
    /// Hears of a command of a connection's script that its user may not run.
    fn denied(&self, _connection: u64, _denied: Denied, _spec: &Spec, _args: &Args<'_>) {}
}

/// Refusals that stick to a connection that said GODWIT.HOLD, until it says GODWIT.RESUME: so what
/// it had pipelined behind a refused write is refused too and stays in order.
#[derive(Debug, Default)]
pub struct Sticky(AtomicU32, AtomicBool);

impl Sticky {
    /// Whether an earlier write of this hold was refused.
    pub fn is_refused(&self, hold: u32) -> bool {
        hold > 0 && self.0.load(Ordering::Acquire) >= hold
    }

    /// The connection has gone: none of its calls is to wait any more.
    pub fn leave(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    /// Whether the connection has gone.
    pub(super) fn has_left(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }

    /// Remembers that a write was refused.
    pub fn refuse(&self, hold: u32) {
        self.0.fetch_max(hold, Ordering::AcqRel);
    }
}
