//! Where a command belongs: to the primary of its slot, or in parts to several.

use std::rc::Rc;

use super::{Client, Reply, State};
use crate::backend::{Backend, Busy, Pending};
use crate::command::{Class, Command, Fan, KeyError, Keys, Request};
use crate::fan::{self, Gather};
use keyspace::Slot;

use crate::routes::{RouteId, Routes};
use crate::stats::count;
use crate::thread::Thread;

/// Why a command is not sent now.
pub(super) enum Stop {
    /// No primary takes it: the reason, in words.
    Hold(String),
    /// Something that wakes this client is on its way.
    Wait,
}

/// A command in hand.
pub(super) struct Sending<'a> {
    pub(super) client: &'a Rc<Client>,
    pub(super) thread: &'a Thread,
    pub(super) routes: &'a Routes,
    pub(super) command: &'static Command,
    pub(super) request: Request<'a>,
    /// The bytes of the command as the client sent them; `None` for an inline command.
    pub(super) raw: Option<&'a [u8]>,
    /// The place of its reply, if it was sent before.
    pub(super) again: Option<(u64, u8)>,
}

impl State {
    /// Sends a command to the primary of its slot, or to several. Nothing of it is sent unless all
    /// of it is.
    pub(super) fn route(&mut self, sending: &Sending<'_>) -> Result<(), Stop> {
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
        if let Some(reads) = routes.reads.as_deref()
            && self.read_aside(sending, reads, slot)?
        {
            return Ok(());
        }
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

    /// Sends a read to the standbys that reads go to. `false`: it is none, or one of them does not
    /// take it, and it goes to the primaries.
    fn read_aside(
        &mut self,
        sending: &Sending<'_>,
        reads: &Routes,
        slot: Option<Slot>,
    ) -> Result<bool, Stop> {
        let Sending { thread, client, request, command, .. } = sending;
        let take = |id| -> Result<Option<Rc<Backend>>, Stop> {
            let Some(backend) = thread.standby(reads, id, self.version) else { return Ok(None) };
            match backend.admit(thread, client, false, reads.version) {
                Ok(()) => Ok(Some(backend)),
                Err(Busy::Room) => Err(Stop::Wait),
                Err(Busy::Hold) => Ok(None),
            }
        };
        match command.class {
            Class::Read => {
                let Some(id) = slot.and_then(|slot| reads.of(slot)) else { return Ok(false) };
                let Some(backend) = take(id)? else { return Ok(false) };
                self.send_to(sending, &backend);
            }
            Class::Fan(kind @ (Fan::Mget | Fan::SumRead)) => {
                let Ok(split) = fan::split(kind, request, reads) else { return Ok(false) };
                let mut targets = Vec::with_capacity(split.parts.len());
                for part in &split.parts {
                    let Some(backend) = take(part.route)? else { return Ok(false) };
                    targets.push(backend);
                }
                match targets.as_slice() {
                    [only] => self.send_to(sending, only),
                    _ => self.send_split(sending, kind, split, targets),
                }
            }
            _ => return Ok(false),
        }
        count(&thread.counts.standby_reads);
        Ok(true)
    }

    fn send_one(&mut self, sending: &Sending<'_>, route: RouteId) -> Result<(), Stop> {
        let backend = self.target(sending, route)?;
        self.send_to(sending, &backend);
        Ok(())
    }

    fn send_to(&mut self, sending: &Sending<'_>, backend: &Backend) {
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
        self.send_split(sending, kind, split, targets);
        Ok(())
    }

    fn send_split(
        &mut self,
        sending: &Sending<'_>,
        kind: Fan,
        split: fan::Split<'_>,
        targets: Vec<Rc<Backend>>,
    ) {
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
                    None => return,
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

    /// An error in the place of a command's reply.
    fn answer_to(&mut self, sending: &Sending<'_>, text: &str) {
        match sending.again {
            None => self.answer(|out| out.error(text)),
            Some((seq, _)) => self.ready(seq, format!("-{text}\r\n").as_bytes()),
        }
    }
}
