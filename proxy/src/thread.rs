//! One thread: its clients, its connections to the nodes, and the routes that it follows. Everything
//! in it belongs to one runtime on one thread, so nothing in it is locked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops::health::Check;
use resp::Version;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::backend::{self, Backend};
use crate::client::{self, Client};
use crate::routes::{RouteId, Routes};
use crate::shared::Shared;
use crate::stats::Counts;

/// How often deadlines are looked at and counts are added up.
const TICK: Duration = Duration::from_millis(20);
/// How long a retired connection, or one with writes to a frozen primary, may take to answer.
const GRACE: Duration = Duration::from_secs(1);
/// How long clients may take to finish after a request to stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// Where a connection leads, the version of the protocol that it speaks, and whether it is for reads of
/// a standby.
type Target = (Arc<str>, Version, bool);

/// What belongs to one thread.
pub(crate) struct Thread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counts: Counts,
    number: usize,
    now: Cell<Instant>,
    routes: RefCell<Arc<Routes>>,
    /// By route, for each version of the protocol.
    by_route: RefCell<Vec<[Option<Rc<Backend>>; 2]>>,
    /// The same of the standbys that reads go to.
    by_read: RefCell<Vec<[Option<Rc<Backend>>; 2]>>,
    backends: RefCell<HashMap<Target, Rc<Backend>>>,
    retired: RefCell<Vec<Rc<Backend>>>,
    next_backend: Cell<u32>,
    /// Connections to be started by the control task.
    starting: RefCell<Vec<Rc<Backend>>>,
    /// Clients whose next command waits for a primary.
    held: RefCell<Vec<Rc<Client>>>,
    clients: Cell<usize>,
    /// Commands sent and not answered, as last added to the metric.
    in_flight: Cell<i64>,
    /// Whether writes to held primaries have been looked for since the routes changed.
    quiet: Cell<bool>,
}

/// Runs one thread until shutdown: takes clients from `incoming`.
pub(crate) fn run(
    shared: Arc<Shared>,
    number: usize,
    incoming: mpsc::Receiver<std::net::TcpStream>,
    check: Check,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => {
            tracing::error!(%why, "cannot start a thread; stopping");
            return shared.shutdown.request();
        }
    };
    LocalSet::new().block_on(&runtime, control(shared, number, incoming, check));
}

async fn control(
    shared: Arc<Shared>,
    number: usize,
    mut incoming: mpsc::Receiver<std::net::TcpStream>,
    check: Check,
) {
    let mut changes = shared.changes();
    let thread = Rc::new(Thread {
        counts: Counts::default(),
        number,
        now: Cell::new(Instant::now()),
        routes: RefCell::new(Arc::default()),
        by_route: RefCell::default(),
        by_read: RefCell::default(),
        backends: RefCell::default(),
        retired: RefCell::default(),
        next_backend: Cell::new(0),
        starting: RefCell::default(),
        held: RefCell::default(),
        clients: Cell::new(0),
        in_flight: Cell::new(0),
        quiet: Cell::new(false),
        shared: shared.clone(),
    });
    thread.follow(shared.routes.load_full());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop_by = None;
    loop {
        for backend in thread.starting.take() {
            tokio::task::spawn_local(backend::run(backend, thread.clone()));
        }
        tokio::select! {
            biased;
            Ok(()) = changes.changed() => {
                changes.mark_unchanged();
                thread.follow(shared.routes.load_full());
            }
            Some(stream) = incoming.recv(), if stop_by.is_none() => thread.welcome(stream),
            _ = tick.tick() => {
                thread.tick();
                check.ok();
            }
            () = shared.shutdown.cancelled(), if stop_by.is_none() => {
                stop_by = Some(Instant::now() + DRAIN);
            }
        }
        if let Some(by) = stop_by
            && (thread.clients.get() == 0 || Instant::now() >= by)
        {
            thread.counts.flush(&shared.stats);
            return;
        }
    }
}

impl Thread {
    /// The time of this wakeup.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// A wakeup begins.
    pub(crate) fn tock(&self) {
        self.now.set(Instant::now());
    }

    /// The routes that this thread follows.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.borrow().clone()
    }

    /// Whether the nodes are Godwit's and the registry says who is primary.
    pub(crate) fn has_service(&self) -> bool {
        self.shared.config.has_service()
    }

    /// The connection of a route; it is made the first time that it is asked for.
    pub(crate) fn backend(
        &self,
        routes: &Routes,
        id: RouteId,
        version: Version,
    ) -> Option<Rc<Backend>> {
        self.found(&self.by_route, routes, id, (version, false))
    }

    /// The connection of a route of the standbys that reads go to.
    pub(crate) fn standby(
        &self,
        reads: &Routes,
        id: RouteId,
        version: Version,
    ) -> Option<Rc<Backend>> {
        self.found(&self.by_read, reads, id, (version, true))
    }

    fn found(
        &self,
        known: &RefCell<Vec<[Option<Rc<Backend>>; 2]>>,
        routes: &Routes,
        id: RouteId,
        (version, standby): (Version, bool),
    ) -> Option<Rc<Backend>> {
        let index = usize::from(version == Version::V3);
        if let Some(backend) = &known.borrow().get(usize::from(id.0))?[index] {
            return Some(backend.clone());
        }
        let address = routes.get(id)?.address.as_ref()?;
        let backend = self.open(address, version, standby);
        known.borrow_mut()[usize::from(id.0)][index] = Some(backend.clone());
        Some(backend)
    }

    fn open(&self, address: &Arc<str>, version: Version, standby: bool) -> Rc<Backend> {
        let mut backends = self.backends.borrow_mut();
        let key = (address.clone(), version, standby);
        let open = backends.entry(key).or_insert_with(|| {
            let id = self.next_backend.get();
            self.next_backend.set(id + 1);
            let backend = Backend::new(id, address.clone(), version, standby);
            self.starting.borrow_mut().push(backend.clone());
            backend
        });
        open.clone()
    }

    /// Follows new routes: connections that no route needs are retired, those that one needs are
    /// opened, and whoever waits looks again.
    fn follow(&self, routes: Arc<Routes>) {
        self.tock();
        let unused = |(address, _, standby): &Target| match standby {
            true => !routes.read_addresses().any(|a| a == address),
            false => !routes.addresses().any(|a| a == address),
        };
        let gone: Vec<_> = self.backends.borrow_mut().extract_if(|key, _| unused(key)).collect();
        for (_, backend) in gone {
            backend.retire();
            self.retired.borrow_mut().push(backend);
        }
        *self.by_route.borrow_mut() = vec![[None, None]; routes.routes.len()];
        let reads = routes.reads.as_ref().map_or(0, |reads| reads.routes.len());
        *self.by_read.borrow_mut() = vec![[None, None]; reads];
        *self.routes.borrow_mut() = routes.clone();
        for address in routes.addresses() {
            self.open(address, Version::V2, false);
        }
        for address in routes.read_addresses() {
            self.open(address, Version::V2, true);
        }
        self.quiet.set(false);
        self.shared.follows(self.number, routes.version);
        self.check_quiet();
        self.wake_held();
    }

    /// Once no write to a held primary is unanswered, says so.
    pub(crate) fn check_quiet(&self) {
        if self.quiet.get() {
            return;
        }
        let routes = self.routes();
        let backends = self.backends.borrow();
        let busy =
            backends.values().any(|b| routes.is_held(&b.address) && b.writes_in_flight() > 0);
        let retired = self.retired.borrow().iter().any(|b| b.writes_in_flight() > 0);
        if !busy && !retired {
            self.quiet.set(true);
            self.shared.quiet(self.number, routes.version);
        }
    }

    fn tick(&self) {
        self.tock();
        let (now, patience) = (self.now(), self.shared.config.request_timeout);
        let routes = self.routes();
        self.retired.borrow_mut().retain(|backend| {
            backend.check(now, GRACE.min(patience));
            backend.in_flight() > 0
        });
        for backend in self.backends.borrow().values() {
            let hung = routes.is_held(&backend.address) && backend.writes_in_flight() > 0;
            backend.check(now, if hung { GRACE.min(patience) } else { patience });
        }
        self.check_quiet();
        let in_flight: usize = self.backends.borrow().values().map(|b| b.in_flight()).sum();
        let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
        self.shared.stats.in_flight.inc_by(in_flight - self.in_flight.replace(in_flight));
        self.counts.flush(&self.shared.stats);
        self.wake_held();
    }

    /// A client's next command waits for a primary; it looks again when something has changed.
    pub(crate) fn hold(&self, client: Rc<Client>) {
        self.held.borrow_mut().push(client);
    }

    /// Lets everyone who waits look again.
    pub(crate) fn wake_held(&self) {
        for client in self.held.take() {
            client.wake();
        }
    }

    fn welcome(self: &Rc<Self>, stream: std::net::TcpStream) {
        let stream = match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => stream,
            Err(why) => return tracing::debug!(%why, "a client was gone before it was welcomed"),
        };
        self.clients.set(self.clients.get() + 1);
        let thread = self.clone();
        tokio::task::spawn_local(async move {
            client::run(&thread, stream).await;
            thread.clients.set(thread.clients.get() - 1);
        });
    }

    /// A new connection to a node was asked for outside the control task.
    pub(crate) fn start_connections(self: &Rc<Self>) {
        for backend in self.starting.take() {
            tokio::task::spawn_local(backend::run(backend, self.clone()));
        }
    }
}
