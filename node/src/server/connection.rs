//! One client's connection: read, hand over, answer in order, within bounds.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::input::Input;
use super::io::Io;
use super::pause;
use super::pubsub;
use super::ring::Ring;
use super::session::Session;

/// Reads that may be in flight at the workers; beyond them the socket is not read.
const ROUNDS_MAX: usize = 16;
/// Answers that wait for the client to read them; beyond them the socket is not read.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 << 10;

pub(super) struct Connection {
    stream: TcpStream,
    io: Rc<Io>,
    session: Session,
    input: Input,
    ring: Rc<RefCell<Ring>>,
    wake: Rc<Notify>,
    unsent: Vec<u8>,
    sent: usize,
}

/// Why a connection goes on or ends.
enum Next {
    Wait,
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, io: Rc<Io>) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("client {peer}: cannot turn off Nagle's algorithm: {error}");
        }
        let local = stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
        let session = Session::new(io.shared.clone(), peer, local);
        Self {
            stream,
            io,
            session,
            input: Input::default(),
            ring: Rc::default(),
            wake: Rc::default(),
            unsent: Vec::new(),
            sent: 0,
        }
    }

    /// Serves the client until it leaves, errs, or the node shuts down.
    pub(super) async fn run(mut self) {
        let id = self.session.client.id;
        self.io.rings.borrow_mut().insert(id, (self.ring.clone(), self.wake.clone()));
        let client = self.session.client.clone();
        let shared = self.io.shared.clone();
        let shutdown = shared.shutdown.clone();
        let stop = shutdown.cancelled();
        tokio::pin!(stop);
        let mut stopping = false;
        while let Next::Wait = self.advance() {
            let may_read = !self.session.closing
                && (!self.input.has_more() && self.has_room()
                    || self.session.must_wait() && self.input.may_grow());
            let must_write = self.sent < self.unsent.len();
            let readable = tokio::select! {
                () = self.wake.notified() => false,
                () = client.attention() => if client.is_killed() { break } else { false },
                () = &mut stop, if !stopping => { stopping = true; self.session.closing = true; false }
                ready = self.stream.readable(), if may_read => ready.is_ok(),
                _ = self.stream.writable(), if must_write => false,
                () = shared.pause.ended(), if self.session.postponed => {
                    pause::go_on(&mut self.session);
                    false
                }
            };
            if readable {
                self.read();
            }
            if self.session.waits && self.session.closing {
                // Nobody is left to wait; a command that only runs is still answered.
                self.session.sticky.leave();
                if self.io.shared.workers.blocked().forget(id) {
                    break;
                }
            }
        }
        self.session.sticky.leave();
        self.io.shared.workers.blocked().forget(id);
        self.session.leave();
        self.io.rings.borrow_mut().remove(&id);
        self.io.shared.clients.remove(id);
    }

    /// Whether more commands may be handed over.
    fn has_room(&self) -> bool {
        let ring = self.ring.borrow();
        let unsent = self.unsent.len() - self.sent;
        let barred = self.session.barrier && ring.len() > 0;
        !barred
            && !self.session.postponed
            && ring.len() < ROUNDS_MAX
            && ring.room() > 0
            && unsent < UNSENT_BYTES_MAX
    }

    /// Hands over what there was no room for, and sends what is complete.
    fn advance(&mut self) -> Next {
        loop {
            let next = self.send();
            let waits = self.input.has_more() && !self.session.closing;
            if matches!(next, Next::Close) || !waits || !self.has_room() {
                return next;
            }
            self.hand_over();
        }
    }

    /// Sends what is complete.
    fn send(&mut self) -> Next {
        if self.session.client.has_mail() {
            let end = self.unsent.len();
            pubsub::take_mail(&self.session, &mut self.unsent, end);
        }
        if !self.ring.borrow_mut().drain(&mut self.session, &mut self.unsent) {
            return Next::Close;
        }
        let idle = self.ring.borrow().len() == 0;
        self.session.barrier &= !idle;
        self.session.waits &= !idle;
        if idle && let Some(farewell) = self.session.farewell.take() {
            self.unsent.extend_from_slice(&farewell);
        }
        while self.sent < self.unsent.len() {
            match self.stream.try_write(&self.unsent[self.sent..]) {
                Ok(0) => return Next::Close,
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(_) => return Next::Close,
            }
        }
        self.sent = 0;
        self.unsent.clear();
        self.unsent.shrink_to(KEPT_BYTES_MAX);
        if idle && self.session.closing { Next::Close } else { Next::Wait }
    }

    /// Reads once, and hands over the commands that are complete.
    fn read(&mut self) {
        match self.stream.try_read_buf(self.input.room()) {
            // What was read before the end is still answered.
            Ok(0) => self.session.closing = true,
            Ok(_) if self.session.must_wait() => {
                self.session.client.touch();
                self.input.keep();
            }
            Ok(_) => {
                self.session.client.touch();
                self.hand_over();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.session.closing = true,
        }
    }

    fn hand_over(&mut self) {
        let round = self.ring.borrow().next_round();
        let outbox = self.io.inbox.clone();
        let room = self.ring.borrow().room();
        let Some((request, own)) = self.input.request(&mut self.session, outbox, round, room)
        else {
            return;
        };
        let request = Arc::new(request);
        self.ring.borrow_mut().push(request.clone(), own);
        if request.workers.len() > 0 {
            self.io.submit(&request);
        }
    }
}
