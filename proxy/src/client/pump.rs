//! Looks at a client's commands one after another and sends each where it belongs, until one has to
//! wait.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use resp::command::Limits;
use resp::reply::Writer;

use super::route::{Sending, Stop};
use super::{Client, OUTPUT_MAX, PIPELINE_MAX, Reply, State};
use crate::command::{self, Class, Request};
use crate::local;
use crate::routes::Routes;
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

/// What a client may send: as Redis by default.
pub(super) const LIMITS: Limits =
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

    /// A reply of the proxy's own to the command in hand.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
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
