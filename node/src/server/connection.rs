//! One client's connection: read, hand over, answer in order, within bounds.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::input::Input;
use super::io::{Io, Wake};
use super::pause;
use super::pubsub;
use super::ring::Ring;
use super::seldom::Seldom;
use super::session::Session;
use super::stream::Stream;
use crate::settings::{self, OutputClass};
use crate::worker::Request;

/// Reads that may be in flight at the workers; beyond them the socket is not read.
const ROUNDS_MAX: usize = 16;
/// Answers that wait for the client to read them; beyond them the socket is not read.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// How long a client may take until it speaks TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a client that does not read is looked at.
const PATIENCE_EVERY: Duration = Duration::from_secs(1);
/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 256 << 10;

pub(super) struct Connection {
    stream: Stream,
    io: Rc<Io>,
    session: Session,
    input: Input,
    ring: Rc<RefCell<Ring>>,
    wake: Rc<Wake>,
    unsent: Vec<u8>,
    sent: usize,
    /// Since when more than the soft limit is unsent.
    swollen: Option<Instant>,
}

/// Why a connection goes on or ends.
enum Next {
    Wait,
    Close,
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: SocketAddr, io: Rc<Io>) -> Self {
        let socket = stream.socket();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!("client {peer}: cannot turn off Nagle's algorithm: {error}");
        }
        if let Err(error) = keep_alive(socket) {
            tracing::debug!("client {peer}: cannot ask the kernel to look after it: {error}");
        }
        let local = socket.local_addr().map(|a| a.to_string()).unwrap_or_default();
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
            swollen: None,
        }
    }

    /// Serves the client until it leaves, errs, or the node shuts down.
    pub(super) async fn run(mut self) {
        let id = self.session.client.id;
        self.io.rings.borrow_mut().insert(id, (self.ring.clone(), self.wake.clone()));
        let client = self.session.client.clone();
        let shared = self.io.shared.clone();
        let shutdown = shared.shutdown.clone();
        let mut stop = Seldom::new(shutdown.cancelled());
        let mut stopping = false;
        let hands_shaken_by = tokio::time::Instant::now() + HANDSHAKE;
        let mut attention = Seldom::new(client.attention());
        while let Next::Wait = self.advance() {
            let may_read = !self.session.closing
                && (!self.input.has_more() && self.has_room()
                    || self.session.must_wait() && self.input.may_grow());
            let must_write = self.sent < self.unsent.len() || self.stream.wants_write();
            // In the order of how often each happens: what comes first is asked first.
            let readable = tokio::select! {
                biased;
                () = poll_fn(|cx| self.wake.poll(cx)) => false,
                ready = poll_fn(|cx| self.stream.poll_readable(cx)), if may_read => ready.is_ok(),
                () = poll_fn(|cx| attention.poll(cx)) => {
                    attention.set(client.attention());
                    if client.is_killed() { break } else { false }
                }
                () = poll_fn(|cx| stop.poll(cx)), if !stopping => { stopping = true; self.session.closing = true; false }
                _ = poll_fn(|cx| self.stream.poll_writable(cx)), if must_write => false,
                () = shared.pause.ended(&shared.store), if self.session.postponed => {
                    pause::go_on(&mut self.session);
                    false
                }
                () = async { tokio::time::sleep_until(hands_shaken_by).await }, if self.stream.is_shaking_hands() => break,
                // To look at the soft limit again.
                () = async { tokio::time::sleep(PATIENCE_EVERY).await }, if self.swollen.is_some() => false,
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
        self.stream.close();
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

    /// Sends what is complete, and what mail there is room for.
    fn send(&mut self) -> Next {
        loop {
            let more = self.take_mail();
            let next = self.flush();
            if !more || self.sent < self.unsent.len() || matches!(next, Next::Close) {
                return next;
            }
        }
    }

    /// Takes mail, if there is some. What a subscriber does not read stays there and is counted.
    fn take_mail(&mut self) -> bool {
        let end = self.unsent.len();
        if end - self.sent < UNSENT_BYTES_MAX && self.session.client.has_mail() {
            pubsub::take_mail(&self.session, &mut self.unsent, end);
        }
        self.unsent.len() > end
    }

    fn flush(&mut self) -> Next {
        if !self.ring.borrow_mut().drain(&mut self.session, &self.io.spares, &mut self.unsent) {
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
                Ok(count) => {
                    self.sent += count;
                    let stats = &self.io.shared.stats;
                    stats.writes.fetch_add(1, Ordering::Relaxed);
                    stats.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.patience(),
                Err(_) => return Next::Close,
            }
        }
        match self.stream.try_flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
            Err(_) => return Next::Close,
            Ok(()) => {}
        }
        self.sent = 0;
        self.swollen = None;
        self.unsent.clear();
        self.unsent.shrink_to(KEPT_BYTES_MAX);
        if idle && self.session.closing { Next::Close } else { Next::Wait }
    }

    /// Whether to wait on for a client that does not read (`client-output-buffer-limit`).
    fn patience(&mut self) -> Next {
        let limit = settings::OUTPUT_LIMITS.of(OutputClass::Normal);
        let unsent = (self.unsent.len() - self.sent) as u64;
        let beyond = |bound: u64| bound > 0 && unsent > bound;
        if !beyond(limit.soft) {
            self.swollen = None;
        } else {
            self.swollen.get_or_insert_with(Instant::now);
        }
        let for_long = self.swollen.is_some_and(|since| since.elapsed().as_secs() >= limit.seconds);
        if !beyond(limit.hard) && !for_long {
            return Next::Wait;
        }
        self.io.shared.stats.clients_too_slow.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            "client {} is closed: {unsent} bytes of answers wait for it to read them, which is more than client-output-buffer-limit allows",
            self.session.client.peer
        );
        Next::Close
    }

    /// Reads once, and hands over the commands that are complete.
    fn read(&mut self) {
        let read = self.stream.try_read_buf(self.input.room());
        if let Ok(count) = read {
            let stats = &self.io.shared.stats;
            stats.reads.fetch_add(1, Ordering::Relaxed);
            stats.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        }
        match read {
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
        let (round, room) = (self.ring.borrow().next_round(), self.ring.borrow().room());
        let mut request = self.io.spares.borrow_mut().request().unwrap_or_else(|| {
            let sticky = self.session.sticky.clone();
            Arc::new(Request::new(self.io.inbox.clone(), 0, 0, sticky))
        });
        let fresh = Arc::get_mut(&mut request).expect("nobody else has it yet");
        (fresh.connection, fresh.round) = (self.session.client.id, round);
        let Some(own) = self.input.request(&mut self.session, fresh, room) else {
            self.io.spares.borrow_mut().keep_request(request);
            return;
        };
        self.ring.borrow_mut().push(request.clone(), own);
        if request.workers.len() > 0 {
            self.io.submit(&request);
        }
    }
}

/// Has the kernel ask a silent client whether it is still there, as often as Redis has it
/// (`tcp-keepalive`).
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    let Ok(idle_s @ 1..) = u64::try_from(settings::KEEPALIVE_S.get()) else { return Ok(()) };
    let idle = Duration::from_secs(idle_s);
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, (idle / 3).max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepcnt(stream, 3)
}
