//! From bytes to requests: which command, whether it may be one, and who runs it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use resp::ProtocolError;
use resp::command::{Limits, Parser};
use resp::reply::Writer;

use super::hello::unknown_subcommand;
use super::monitor;
use super::pause;
use super::ring::OWN;
use super::scripting;
use super::session::{ReplyMode, Session};
use super::tracking;
use super::transaction::{self, CROSSSLOT};
use super::{access, pubsub, wrong_number};
use crate::command::table::{self, Unknown};
use crate::command::{Args, Fail, Flags, Handler, Keys, Spec};
use crate::stats;
use crate::worker::{Call, Key, Part, Request, RunBy, WorkerSet};

/// Room for one read, in bytes.
const READ_BYTES: usize = 16 << 10;
/// Commands of so many bytes are copied out of the room for reads.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// What is read of a client at most while a command of it waits.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What a connection sent and is not a whole command yet.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    parser: Parser,
    found: Vec<Range<usize>>,
    limits: Limits,
    /// There may be whole commands in what is kept: the last request had no room for them.
    more: bool,
}

impl Input {
    /// The buffer, with room for a read. It grows with what has arrived, never with what a client
    /// announced, and the limits bound it.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES / 4 {
            self.bytes.reserve(READ_BYTES);
        }
        &mut self.bytes
    }

    /// Whether more may be read while a command waits: so its client's end is seen.
    pub(super) fn may_grow(&self) -> bool {
        self.bytes.len() < WAITING_BYTES_MAX
    }

    /// There may be whole commands in it, to be looked for later.
    pub(super) fn keep(&mut self) {
        self.more = true;
    }

    /// Whether to ask for a request before reading on.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Puts the complete commands that have arrived, at most so many, into an empty request; the
    /// answers of those that the I/O thread runs. `None`: there are none.
    pub(super) fn request(
        &mut self,
        session: &mut Session,
        request: &mut Request,
        calls_max: usize,
    ) -> Option<Part> {
        if !Arc::ptr_eq(&request.sticky, &session.sticky) {
            request.sticky = session.sticky.clone();
        }
        request.user = Some(session.account.clone()).filter(|account| !account.may_everything());
        session.changed_user = false;
        let mut own = Part::new(request.connection, request.round, OWN);
        let mut at = 0;
        self.more = false;
        while !session.closing {
            let cut = (session.barrier || session.changed_user) && !request.calls.is_empty();
            if request.calls.len() >= calls_max || cut {
                self.more = true;
                break;
            }
            let rest = &mut self.bytes[at..];
            match self.parser.next(rest, &session.limits(&self.limits), &mut self.found) {
                Ok(None) => break,
                Ok(Some(taken)) => {
                    let first = request.args.len();
                    request.args.extend(self.found.iter().map(|r| r.start + at..r.end + at));
                    at += taken;
                    if !self.found.is_empty() {
                        let args = first..request.args.len();
                        if !place(&self.bytes, args, session, request, &mut own) {
                            request.args.truncate(first);
                            at -= taken;
                            self.more = true;
                            break;
                        }
                    }
                }
                Err(error) => {
                    let error = explain(error, session);
                    stats::errors::count("ERR");
                    session.farewell = Some(format!("-ERR {error}\r\n").into_bytes());
                    session.closing = true;
                }
            }
        }
        if request.calls.is_empty() {
            self.bytes.drain(..at);
            return None;
        }
        if at <= COPIED_BYTES_MAX {
            // The room for reads stays.
            request.bytes.extend_from_slice(&self.bytes[..at]);
            self.bytes.drain(..at);
        } else {
            request.bytes.extend_from_slice(&self.bytes[at..]);
            std::mem::swap(&mut request.bytes, &mut self.bytes);
        }
        let counted = request.calls.len() as u64;
        session.shared.stats.commands_processed.fetch_add(counted, Ordering::Relaxed);
        Some(own)
    }
}

/// Adds one command to the request, or answers it. False: it may wait for others, so that what came
/// before it is answered without it: it has to be the first of the next request.
fn place(
    bytes: &[u8],
    range: Range<usize>,
    session: &mut Session,
    request: &mut Request,
    own: &mut Part,
) -> bool {
    // Owned by nobody else yet: the ranges are taken out while the request changes.
    let ranges = std::mem::take(&mut request.args);
    let args = Args::new(bytes, &ranges[range.clone()]);
    let found = find(&args).map(|spec| scripting::redirect(session, spec, &args));
    let known = found.as_ref().ok().copied();
    if let Some(spec) = known
        && is_deferred(spec, &args, session, request)
    {
        request.args = ranges;
        return false;
    }
    let placed = found.and_then(|spec| {
        accept(spec, &args, session, request).inspect_err(|_| match spec.handler {
            Handler::Exec => stats::commands::ran(spec, Duration::ZERO, true),
            _ => stats::commands::rejected(spec),
        })
    });
    if let Some(spec) = known
        && session.shared.monitors.watch()
        && (placed.is_ok() || matches!(spec.handler, Handler::Exec))
        // What is queued is shown when it runs.
        && !placed.as_ref().is_ok_and(|(placed, _)| std::ptr::eq(*placed, &transaction::QUEUED))
    {
        monitor::show(session, spec, &args);
    }
    if let (Err(_), Some(queued)) = (&placed, &mut session.queued) {
        queued.aborted = true;
    }
    let (spec, by) = match &placed {
        Ok((spec, (by, _))) => (*spec, *by),
        Err(_) => (&table::UNKNOWN, RunBy::Io),
    };
    let slot = placed.as_ref().ok().and_then(|(_, (_, key))| key.map(|key| key.slot));
    let (version, readonly, hold) = (session.version, session.readonly, session.hold());
    let mode = session.reply;
    let tracks = known.is_some_and(|spec| tracking::remembers(session, spec));
    if by == RunBy::Io {
        let start = own.bytes.len();
        let answered = match placed {
            Err(fail) => Err(fail),
            Ok((spec @ Spec { handler: Handler::Session(handler), .. }, _)) => {
                let began = Instant::now();
                let answered = handler(session, &args, &mut own.bytes);
                session.count(spec, &args, began.elapsed(), answered.is_err());
                answered
            }
            Ok(_) => Ok(()),
        };
        if let Err(fail) = answered {
            own.bytes.truncate(start);
            stats::errors::count(&fail.line());
            Writer::new(&mut own.bytes, session.version).error(&fail.line());
        }
        if session.reply != ReplyMode::On {
            own.bytes.truncate(start);
        }
        own.ends.push(own.bytes.len());
    }
    let silent = mode != ReplyMode::On;
    if mode == ReplyMode::SkipNext && session.reply == ReplyMode::SkipNext {
        session.reply = ReplyMode::On;
    }
    if session.tracking
        && let Some(spec) = known
    {
        tracking::end_command(session, spec);
    }
    request.args = ranges;
    request.calls.push(Call {
        spec,
        args: range,
        slot,
        by,
        version,
        readonly,
        hold,
        silent,
        tracks,
    });
    true
}

/// Whether a command waits for a request of its own, or for the end of a pause.
fn is_deferred(spec: &Spec, args: &Args<'_>, session: &mut Session, request: &Request) -> bool {
    if pause::holds(session, spec, args) {
        pause::postpone(session);
        return true;
    }
    let blocks = spec.flags.has(Flags::BLOCKING) && session.queued.is_none();
    blocks && !request.calls.is_empty()
}

fn find(args: &Args<'_>) -> Result<&'static Spec, Fail> {
    table::resolve(args).map_err(|why| match why {
        Unknown::Command => unknown(args),
        Unknown::Subcommand => unknown_subcommand(args),
    })
}

/// Whether a command may run, and who runs it.
fn accept<'a>(
    spec: &'static Spec,
    args: &Args<'a>,
    session: &mut Session,
    request: &mut Request,
) -> Result<Placed<'a>, Fail> {
    if !spec.accepts(args.len()) {
        return Err(wrong_number(spec));
    }
    session.client.note(spec.name);
    access::admit(session, spec, args)?;
    scripting::check_busy(session, spec)?;
    pubsub::check_mode(session, spec)?;
    if let Some(answer) = transaction::queue(session, spec, args)? {
        return Ok((answer, (RunBy::Io, None)));
    }
    Ok((spec, who(spec, args, session, request)?))
}

/// What runs a command, who does, and its first key.
type Placed<'a> = (&'static Spec, (RunBy, Option<Key<'a>>));

/// What is wrong with what came, as Redis says it to clients that it does not know.
fn explain(error: ProtocolError, session: &Session) -> String {
    match error {
        ProtocolError::MultibulkLength if !session.is_authenticated() => {
            "Protocol error: unauthenticated multibulk length".to_owned()
        }
        ProtocolError::BulkLength if !session.is_authenticated() => {
            "Protocol error: unauthenticated bulk length".to_owned()
        }
        _ => error.to_string(),
    }
}

fn unknown(args: &Args<'_>) -> Fail {
    const SHOWN_BYTES_MAX: usize = 128;
    let cut = |text: &[u8], max: usize| {
        String::from_utf8_lossy(&text[..text.len().min(max)]).into_owned()
    };
    let mut shown = String::new();
    for arg in args.from(1) {
        let Some(room) = SHOWN_BYTES_MAX.checked_sub(shown.len()).filter(|&n| n > 0) else { break };
        shown += &format!("'{}' ", cut(arg, room));
    }
    let name = cut(args.at(0), SHOWN_BYTES_MAX);
    Fail::text(format!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

/// Who runs a command, and its first key.
fn who<'a>(
    spec: &Spec,
    args: &Args<'a>,
    session: &mut Session,
    request: &mut Request,
) -> Result<(RunBy, Option<Key<'a>>), Fail> {
    match spec.handler {
        Handler::Session(_) => return Ok((RunBy::Io, None)),
        Handler::Late(_) => {
            request.late = true;
            session.barrier |= spec.flags.has(Flags::SUBSCRIBES);
            return Ok((RunBy::IoLate, None));
        }
        Handler::Exec => return Ok((transaction::exec(session, request)?, None)),
        Handler::Watch => return Ok((transaction::watch(session, request, args)?, None)),
        Handler::Data(_) | Handler::Aside(_) | Handler::Script(_) => {}
    }
    if spec.flags.has(Flags::BLOCKING) {
        (session.barrier, session.waits) = (true, true);
    }
    let workers = &session.shared.workers;
    let needs_all = scripting::needs_all(&session.shared, spec, args);
    let mut indices = spec.keys.indices(args);
    if spec.keys.is_none() || needs_all && indices.clone().next().is_none() {
        // WAIT waits for nobody here: any worker can count to nothing.
        let one = spec.flags.has(Flags::BLOCKING);
        let by = if one { request.assign(0) } else { request.gate(workers.all()) };
        return Ok((by, None));
    }
    let Some(index) = indices.next() else {
        // Counts that make no sense are for the handler to answer; any worker can.
        return Ok((request.assign(0), None));
    };
    let key = args.key(index);
    if spec.keys == Keys::ONE && !spec.flags.has(Flags::PATTERNS) {
        return Ok((request.assign(workers.of(key.slot)), Some(key)));
    }
    let mut involved = WorkerSet::default();
    involved.insert(workers.of(key.slot));
    // A proxy splits a command by shard, not by slot.
    let one_slot = session.is_of_one_slot() && session.hold() == 0;
    for index in indices {
        let other = args.key(index);
        if one_slot && other.slot != key.slot {
            return Err(Fail::text(CROSSSLOT));
        }
        involved.insert(workers.of(other.slot));
    }
    if needs_all || spec.sees_all(args) {
        involved = workers.all();
    }
    let by = match involved.len() {
        1 => request.assign(involved.lowest()),
        _ => request.gate(involved),
    };
    Ok((by, Some(key)))
}
