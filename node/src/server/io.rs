//! An I/O thread: a runtime of its own, its connections, and the parts that workers bring back.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::ring::Ring;
use super::session::Shared;
use super::spares::Spares;
use super::stream::Stream;
use crate::acl::{Context, Denied};
use crate::command::{Args, Spec};
use crate::settings;
use crate::worker::{Outbox, Part, Waiting};

/// Sockets that wait to be taken up; each is bounded by `maxclients` as well.
const SOCKETS_WAITING_MAX: usize = 1024;
/// How long answers may take to leave once shutdown is requested.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it is looked for clients that say nothing.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before handing over to a full queue again.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(1);

/// A socket, who is at its other end, and what TLS it speaks.
pub(super) type Arriving = (std::net::TcpStream, SocketAddr, Option<Arc<ServerConfig>>);

/// The handle on an I/O thread.
pub(super) struct IoThread {
    sockets: mpsc::Sender<Arriving>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// What workers leave for an I/O thread. Bounded by what its connections may have in flight.
pub(super) struct Inbox {
    index: usize,
    shared: Arc<Shared>,
    delivered: Mutex<Delivered>,
    filled: Notify,
}

/// Parts on their way, and emptied ones on their way back.
#[derive(Default)]
struct Delivered {
    parts: Vec<Part>,
    emptied: Vec<Part>,
}

impl Inbox {
    fn delivered(&self) -> MutexGuard<'_, Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox for Inbox {
    fn index(&self) -> usize {
        self.index
    }

    fn deliver(&self, parts: &mut Vec<Part>) {
        let mut delivered = self.delivered();
        let was_empty = delivered.parts.is_empty();
        delivered.parts.append(parts);
        std::mem::swap(parts, &mut delivered.emptied);
        drop(delivered);
        // Waking another thread costs a system call: once for all that it has not taken yet.
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn slow(&self, connection: u64, args: &Args<'_>, took: Duration) {
        self.shared.note_slow(connection, args, took);
    }

    fn denied(&self, connection: u64, denied: Denied, spec: &Spec, args: &Args<'_>) {
        let Some(client) = self.shared.clients.find(connection) else { return };
        let user = client.said().account.as_ref().map(|a| a.name()).unwrap_or_default();
        let (what, object) = ((denied.reason, Context::Lua), denied.object(spec, args));
        self.shared.users.log.add(
            what,
            &object,
            &user,
            client.line(false, 0).trim_end().to_owned(),
        );
    }
}

/// Where a connection's parts go, and how its task learns of them.
type Waker = (Rc<RefCell<Ring>>, Rc<Wake>);

/// Wakes the task of a connection of this thread, without the locks that other threads need.
#[derive(Default)]
pub(super) struct Wake {
    woken: Cell<bool>,
    task: RefCell<Option<std::task::Waker>>,
}

impl Wake {
    fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Until it is woken, once for however often it was.
    pub(super) fn poll(&self, cx: &std::task::Context<'_>) -> Poll<()> {
        if self.woken.take() {
            return Poll::Ready(());
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// What the tasks of one I/O thread share.
pub(super) struct Io {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) rings: RefCell<HashMap<u64, Waker>>,
    pub(super) spares: RefCell<Spares>,
    waiting: RefCell<Waiting>,
    handing_over: Notify,
}

impl Io {
    /// Hands a request over at the end of this turn of the event loop, with those of the other
    /// connections.
    pub(super) fn submit(&self, request: &Arc<crate::worker::Request>) {
        self.shared.workers.enqueue(request, &mut self.waiting.borrow_mut());
        self.handing_over.notify_one();
    }

    async fn hand_over(&self) {
        loop {
            self.handing_over.notified().await;
            while !self.shared.workers.hand_over(&mut self.waiting.borrow_mut()) {
                tokio::time::sleep(QUEUE_FULL_RETRY).await;
            }
        }
    }

    /// Ends clients that have said nothing for longer than `timeout` allows; for all threads.
    async fn end_idle(&self) {
        loop {
            tokio::time::sleep(IDLE_LOOK_EVERY).await;
            let Ok(timeout @ 1..) = u64::try_from(settings::TIMEOUT_S.get()) else { continue };
            let waits = |id| self.shared.workers.blocked().has(id);
            for client in self.shared.clients.all() {
                let is_idle = client.idle().as_secs() >= timeout;
                if is_idle && !client.is_subscribed() && !waits(client.id) {
                    tracing::debug!(
                        "client {} is closed: it said nothing for {timeout} s",
                        client.peer
                    );
                    client.kill();
                }
            }
        }
    }

    async fn bring_back(&self) {
        let mut parts = Vec::new();
        loop {
            self.inbox.filled.notified().await;
            {
                let mut delivered = self.inbox.delivered();
                std::mem::swap(&mut parts, &mut delivered.parts);
                self.spares.borrow_mut().give_parts(&mut delivered.emptied);
            }
            let rings = self.rings.borrow();
            for part in parts.drain(..) {
                // A connection that has gone needs no answer.
                if let Some((ring, wake)) = rings.get(&part.connection) {
                    ring.borrow_mut().accept(part);
                    wake.wake();
                }
            }
        }
    }
}

impl IoThread {
    pub(super) fn start(index: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (sockets, arriving) = mpsc::channel(SOCKETS_WAITING_MAX);
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = connections.clone();
        let thread = std::thread::Builder::new().name(format!("io-{index}")).spawn(move || {
            let waiting = RefCell::new(shared.workers.nothing_waiting());
            let inbox = Arc::new(Inbox {
                index,
                shared: shared.clone(),
                delivered: Mutex::default(),
                filled: Notify::new(),
            });
            let io = Rc::new(Io {
                shared,
                inbox,
                rings: RefCell::default(),
                spares: RefCell::default(),
                waiting,
                handing_over: Notify::new(),
            });
            LocalSet::new().block_on(&runtime, serve(io, arriving, counted));
        })?;
        Ok(Self { sockets, connections, thread })
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, arriving: Arriving) {
        let peer = arriving.1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.sockets.try_send(arriving).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("client {peer} was turned away: too many are waiting to be taken up");
        }
    }

    pub(super) fn join(self) {
        drop(self.sockets);
        if self.thread.join().is_err() {
            tracing::error!("an I/O thread panicked; its clients were disconnected");
        }
    }
}

async fn serve(io: Rc<Io>, mut arriving: mpsc::Receiver<Arriving>, connections: Arc<AtomicUsize>) {
    if io.inbox.index == 0 {
        let policing = io.clone();
        tokio::task::spawn_local(async move { policing.end_idle().await });
    }
    let handing = io.clone();
    tokio::task::spawn_local(async move { handing.hand_over().await });
    let bringing = io.clone();
    tokio::task::spawn_local(async move { bringing.bring_back().await });
    let shutdown = io.shared.shutdown.clone();
    loop {
        let arrived = tokio::select! {
            () = shutdown.cancelled() => break,
            arrived = arriving.recv() => arrived,
        };
        let Some((stream, peer, tls)) = arrived else { break };
        let (io, connections) = (io.clone(), connections.clone());
        tokio::task::spawn_local(async move {
            match TcpStream::from_std(stream).and_then(|socket| Stream::new(socket, tls)) {
                Ok(stream) => Connection::new(stream, peer, io).run().await,
                Err(error) => tracing::warn!("cannot serve client {peer}: {error}"),
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    // Connections close by themselves once what they have in flight is answered.
    let deadline = tokio::time::Instant::now() + DRAIN;
    while connections.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(QUEUE_FULL_RETRY).await;
    }
}
