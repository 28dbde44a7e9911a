//! Looks at a client's commands one after another and sends each where it belongs, until one has to
//! wait.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use resp::command::Limits;
use resp::reply::Writer;

use super::{Client, OUTPUT_MAX, PIPELINE_MAX, Reply, State};
use crate::backend::{Backend, Busy, Pending};
use crate::command::{self, Class, Command, Fan, KeyError, Keys, Request};
use crate::fan::{self, Gather};
use crate::local;
use crate::routes::{RouteId, Routes};
use crate::stats::count;
use crate::thread::Thread;

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read more.
    Read,
    /// Wait until it is woken.
    Wait,
    /// Go on once the client has read its replies.
    Flush,
}

/// Why a command is not sent now.
enum Stop {
    /// No primary takes it: the reason, in words.
    Hold(String),
    /// Something that wakes this client is on its way.
    Wait,
}

/// A command in hand.
struct Sending<'a> {
    client: &'a Rc<Client>,
    thread: &'a Thread,
    routes: &'a Routes,
    command: &'static Command,
    request: Request<'a>,
    /// The bytes of the command as the client sent them; `None` for an inline command.
    raw: Option<&'a [u8]>,
    /// The place of its reply, if it was sent before.
    again: Option<(u64, u8)>,
}

const LIMITS: Limits =
    Limits { bulk_bytes: 512 << 20, args: 1 << 20, inline_bytes: 64 << 10, command_bytes: 1 << 30 };

impl State {
    /// Sends commands until the input is used up or one has to wait.
    pub(super) fn pump(&mut self, thread: &Thread, client: &Rc<Client>, stopping: bool) -> Next {
        let routes = thread.routes();
        loop {
            if self.output.len() - self.written >= OUTPUT_MAX {
                return Next::Flush;
            }
            if self.replies.len() >= PIPELINE_MAX {
                return Next::Wait;
            }
            // What was sent by other routes, or came back, has to be settled before anything else.
            if self.routes != routes.version || !self.again.is_empty() {
                if self.in_flight > 0 {
                    return Next::Wait;
                }
                self.routes = routes.version;
                if let Err(stop) = self.send_again(thread, client, &routes) {
                    match self.wait(thread, client, stop, stopping) {
                        Some(why) => self.give_up_again(thread, &why),
                        None => return Next::Wait,
                    }
                    continue;
                }
                if self.in_flight > 0 {
                    continue;
                }
            }
            let length = match self.parsed {
                Some(length) => length,
                None => match self.parser.next(&mut self.input, &LIMITS, &mut self.args) {
                    Ok(Some(length)) => length,
                    Ok(None) => {
                        self.release(thread);
                        return Next::Read;
                    }
                    Err(why) => {
                        self.answer(|out| out.error(&format!("ERR {why}")));
                        self.ending = true;
                        self.input.clear();
                        return Next::Wait;
                    }
                },
            };
            self.parsed = Some(length);
            if !self.args.is_empty()
                && let Err(stop) = self.one(thread, client, &routes, length)
            {
                let Some(why) = self.wait(thread, client, stop, stopping) else {
                    return Next::Wait;
                };
                self.answer(|out| out.error(&why));
            }
            self.parsed = None;
            self.input.advance(length);
            if self.input.is_empty() && self.input.capacity() > super::KEEP_BYTES {
                self.input = BytesMut::new();
            }
            if self.ending {
                self.input.clear();
                return Next::Wait;
            }
        }
    }

    /// The client waits. Returns the error to answer instead, if it has waited for long enough or
    /// too many bytes wait already.
    fn wait(
        &mut self,
        thread: &Thread,
        client: &Rc<Client>,
        stop: Stop,
        stopping: bool,
    ) -> Option<String> {
        let Stop::Hold(reason) = stop else { return None };
        let config = &thread.shared.config;
        if self.held_since.is_none() {
            self.held_since = Some(thread.now());
            thread.shared.stats.held.inc();
        }
        let bytes =
            self.input.len() + self.again.iter().map(|held| held.bytes.len()).sum::<usize>();
        self.count_held(thread, bytes);
        let since = self.held_since.unwrap_or_else(|| thread.now());
        let waited = thread.now().saturating_duration_since(since);
        let held = thread.shared.held_bytes.load(std::sync::atomic::Ordering::Relaxed);
        let why = if waited >= config.hold_time {
            format!("it waited {} ms for that", waited.as_millis())
        } else if held > config.hold_bytes {
            format!("and {held} bytes of commands wait already (hold-bytes)")
        } else if stopping {
            "and this proxy stops".to_owned()
        } else {
            thread.hold(client.clone());
            return None;
        };
        thread.shared.stats.given_up.inc();
        Some(format!("TRYAGAIN {reason}: {why}; the command was not run, try again"))
    }

    /// Answers the first of the commands that came back: it did not run and does not wait any longer.
    fn give_up_again(&mut self, thread: &Thread, why: &str) {
        if let Some(held) = self.again.pop_front() {
            let text = format!("-{why}\r\n");
            self.fill(thread, held.seq, u32::MAX, fan::Part::Answer(text.as_bytes()));
        }
    }

    /// Sends what came back, in order.
    fn send_again(
        &mut self,
        thread: &Thread,
        client: &Rc<Client>,
        routes: &Routes,
    ) -> Result<(), Stop> {
        while let Some(held) = self.again.pop_front() {
            let mut bytes = held.bytes;
            let mut args = Vec::new();
            let parsed = resp::command::parse(&mut bytes, &LIMITS, &mut args);
            let request = Request { buf: &bytes, args: &args };
            let command = match parsed {
                Ok(Some(_)) if !args.is_empty() => command::find(request.arg(0)),
                _ => None,
            };
            let Some(command) = command else { continue };
            let again = Some((held.seq, held.tries));
            let raw = Some(&*bytes);
            let sending = Sending { client, thread, routes, command, request, raw, again };
            let sent = self.route(&sending);
            if let Err(stop) = sent {
                self.again.push_front(super::Held { bytes, ..held });
                return Err(stop);
            }
            count(&thread.counts.resent);
        }
        Ok(())
    }

    /// One command of the input.
    fn one(
        &mut self,
        thread: &Thread,
        client: &Rc<Client>,
        routes: &Routes,
        length: usize,
    ) -> Result<(), Stop> {
        // Taken out so that the command can be read while the state changes.
        let (input, args) = (std::mem::take(&mut self.input), std::mem::take(&mut self.args));
        let request = Request { buf: &input, args: &args };
        let done = self.dispatch(thread, client, routes, request, length);
        (self.input, self.args) = (input, args);
        done
    }

    fn dispatch(
        &mut self,
        thread: &Thread,
        client: &Rc<Client>,
        routes: &Routes,
        request: Request<'_>,
        length: usize,
    ) -> Result<(), Stop> {
        let counts = &thread.counts;
        let Some(command) = command::find(request.arg(0)) else {
            count(&counts.refusals);
            self.answer(|out| local::unknown(out, &request));
            return Ok(());
        };
        if !command.accepts(request.len()) {
            count(&counts.refusals);
            self.answer(|out| local::wrong_arity(out, &command.name.to_ascii_lowercase()));
            return Ok(());
        }
        match command.class {
            Class::Local(kind) => {
                // What changes the connection waits until all before it is answered.
                if local::changes_connection(kind) && self.in_flight > 0 {
                    return Err(Stop::Wait);
                }
                count(&counts.locals);
                let mut reply = Vec::new();
                local::answer(kind, self, thread, routes, &request, &mut reply);
                self.put(&reply);
                return Ok(());
            }
            Class::Refused(why) => {
                count(&counts.refusals);
                self.answer(|out| {
                    out.error(&format!("ERR {} is not carried: {why}", command.name))
                });
                return Ok(());
            }
            _ => {}
        }
        let raw = (request.buf.first() == Some(&b'*')).then(|| &request.buf[..length]);
        self.route(&Sending { client, thread, routes, command, request, raw, again: None })?;
        self.release_hold(thread);
        count(match command.class {
            Class::Read => &counts.reads,
            Class::Write => &counts.writes,
            _ => &counts.fans,
        });
        Ok(())
    }

    /// Sends a command to the primary of its slot, or to several. Nothing of it is sent unless all
    /// of it is.
    fn route(&mut self, sending: &Sending<'_>) -> Result<(), Stop> {
        let Sending { command, request, routes, thread, .. } = sending;
        // One node for everything needs no look at the keys.
        if !thread.has_service() && command.keys != Keys::Streams {
            return self.send_one(sending, RouteId(0));
        }
        if routes.routes.is_empty() {
            return Err(Stop::Hold("the registry has no record of the service yet".to_owned()));
        }
        let one = thread.has_service() && matches!(command.class, Class::Read | Class::Write);
        let slot = match command.keys.slot(request, one) {
            Ok(slot) => slot,
            Err(KeyError::Syntax(text)) => {
                self.answer_to(sending, text);
                return Ok(());
            }
            Err(KeyError::CrossSlot) => {
                let text = "CROSSSLOT Keys in request don't hash to the same slot";
                self.answer_to(sending, text);
                return Ok(());
            }
        };
        match command.class {
            Class::Fan(kind) => {
                let split = match fan::split(kind, request, routes) {
                    Ok(split) => split,
                    Err(text) => {
                        self.answer_to(sending, text);
                        return Ok(());
                    }
                };
                if let [only] = split.parts.as_slice()
                    && kind != Fan::Scan
                {
                    return self.send_one(sending, only.route);
                }
                self.send_parts(sending, kind, split)
            }
            _ => {
                let route = slot.map_or(Some(RouteId(0)), |slot| routes.of(slot));
                match route {
                    Some(route) => self.send_one(sending, route),
                    None => Err(Stop::Hold("no shard has this slot".to_owned())),
                }
            }
        }
    }

    fn send_one(&mut self, sending: &Sending<'_>, route: RouteId) -> Result<(), Stop> {
        let backend = self.target(sending, route)?;
        let (seq, tries) = match sending.again {
            Some(again) => again,
            None => (self.expect(Reply::Waiting), 0),
        };
        let pending = self.pending(sending, seq, 0, tries);
        backend.send(pending, |out| match sending.raw {
            Some(raw) => out.extend_from_slice(raw),
            None => {
                resp::command::write_header(out, sending.request.len());
                sending.request.args_from(0).for_each(|arg| resp::command::write_arg(out, arg));
            }
        });
        Ok(())
    }

    fn send_parts(
        &mut self,
        sending: &Sending<'_>,
        kind: Fan,
        split: fan::Split<'_>,
    ) -> Result<(), Stop> {
        let mut targets = Vec::with_capacity(split.parts.len());
        for part in &split.parts {
            targets.push(self.target(sending, part.route)?);
        }
        let (seq, tries) = match sending.again {
            Some((seq, tries)) => {
                let parts = split.parts.len();
                match self.reply(seq) {
                    // A part that came back is split anew: the nodes may have other slots now.
                    Some(Reply::Parts(gather)) => gather.expect_more(parts),
                    Some(reply) => {
                        let gather = Gather::new(kind, &split, &sending.request);
                        *reply = Reply::Parts(Box::new(gather));
                    }
                    None => return Ok(()),
                }
                (seq, tries)
            }
            None => {
                let gather = Gather::new(kind, &split, &sending.request);
                (self.expect(Reply::Parts(Box::new(gather))), 0)
            }
        };
        for ((number, part), backend) in (0..).zip(&split.parts).zip(targets) {
            let pending = self.pending(sending, seq, number, tries);
            backend.send(pending, |out| {
                resp::command::write_header(out, part.args.len());
                part.args.iter().for_each(|arg| resp::command::write_arg(out, arg));
            });
        }
        Ok(())
    }

    fn pending(&mut self, sending: &Sending<'_>, seq: u64, part: u32, tries: u8) -> Pending {
        self.in_flight += 1;
        Pending {
            client: Some(sending.client.clone()),
            seq,
            part,
            len: 0,
            write: sending.command.writes(),
            tries,
            at: sending.thread.now(),
        }
    }

    /// The connection that takes this command now.
    fn target(&self, sending: &Sending<'_>, id: RouteId) -> Result<Rc<Backend>, Stop> {
        let Sending { thread, routes, client, command, .. } = sending;
        let write = command.writes();
        let Some(route) = routes.get(id) else {
            return Err(Stop::Hold("no shard has this slot".to_owned()));
        };
        if let Some(reason) = &route.held
            && (write || route.address.is_none())
        {
            return Err(Stop::Hold(reason.clone()));
        }
        let Some(backend) = thread.backend(routes, id, self.version) else {
            return Err(Stop::Hold(format!("{} has no primary", route.name)));
        };
        match backend.admit(thread, client, write, routes.version) {
            Ok(()) => Ok(backend),
            Err(Busy::Room) => Err(Stop::Wait),
            Err(Busy::Hold) => Err(Stop::Hold(if backend.is_up() {
                format!("the node {} of {} refuses writes", backend.address, route.name)
            } else {
                format!("the node {} of {} cannot be reached", backend.address, route.name)
            })),
        }
    }

    /// Something was sent: whatever this client waited for is over.
    fn release_hold(&mut self, thread: &Thread) {
        if self.held_since.is_some() {
            self.release(thread);
        }
    }

    /// An error in the place of a command's reply.
    fn answer_to(&mut self, sending: &Sending<'_>, text: &str) {
        match sending.again {
            None => self.answer(|out| out.error(text)),
            Some((seq, _)) => self.ready(seq, format!("-{text}\r\n").as_bytes()),
        }
    }

    /// A reply of the proxy's own to the command in hand.
    fn answer(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        if self.replies.is_empty() {
            write(&mut Writer::new(&mut self.output, self.version));
            self.first += 1;
        } else {
            let mut reply = Vec::new();
            write(&mut Writer::new(&mut reply, self.version));
            self.replies.push_back(Reply::Ready(reply));
        }
    }

    fn put(&mut self, reply: &[u8]) {
        if self.replies.is_empty() {
            self.output.extend_from_slice(reply);
            self.first += 1;
        } else {
            self.replies.push_back(Reply::Ready(reply.to_vec()));
        }
    }
}
