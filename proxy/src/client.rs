//! One client: its bytes in, its commands in order, its replies in the same order.
//!
//! A command that has to wait for a primary stays where it is, in the client's input, and nothing
//! behind it is looked at: so the order of a client's commands needs no bookkeeping. Only commands
//! that were sent and provably did not run are kept apart ([`Held`]), to be sent again before
//! anything else of this client.

mod flow;
mod hold;
mod order;
mod pump;
mod route;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use bytes::BytesMut;
use resp::Version;
use resp::command::Parser;
use tokio::net::TcpStream;

use crate::fan::Gather;
use crate::thread::Thread;

/// Most commands of one client that are not answered; beyond, its socket is not read.
const PIPELINE_MAX: usize = 4096;
/// Most bytes of replies that wait for a client to read them, before its commands wait too.
const OUTPUT_MAX: usize = 1 << 20;
/// Buffers bigger than this are given back once they are empty.
const KEEP_BYTES: usize = 256 << 10;

/// A client of a thread.
pub(crate) struct Client {
    /// As `CLIENT ID` says; unique in the process.
    pub(crate) id: u64,
    waker: Cell<Option<Waker>>,
    state: RefCell<State>,
}

/// A command that did not run and is to be sent again.
struct Held {
    seq: u64,
    /// The connection that it came back from.
    backend: u32,
    bytes: Vec<u8>,
    tries: u8,
}

/// A reply's place in the order of the commands.
enum Reply {
    /// Asked for, or to be asked again.
    Waiting,
    /// Here, behind one that is not.
    Ready(Vec<u8>),
    /// In parts from several nodes.
    Parts(Box<Gather>),
}

/// What is known of a client.
pub(crate) struct State {
    pub(crate) id: u64,
    input: BytesMut,
    parser: Parser,
    args: Vec<Range<usize>>,
    /// The length of the command at the start of the input, whose arguments are in `args`.
    parsed: Option<usize>,
    output: Vec<u8>,
    written: usize,
    replies: VecDeque<Reply>,
    /// The number of the first of `replies`.
    first: u64,
    /// Commands and parts sent and not answered.
    in_flight: usize,
    again: VecDeque<Held>,
    /// The routes by which what is in flight was sent.
    routes: u64,
    pub(crate) version: Version,
    pub(crate) name: String,
    /// Since when its next command waits for a primary.
    held_since: Option<Instant>,
    /// The number of the command that waited last, and since when: asked again and refused again, it waits
    /// on.
    waited: Option<(u64, Instant)>,
    /// How many of its bytes are counted as held.
    held_bytes: usize,
    /// It sends no more; the connection ends when all is answered.
    pub(crate) ending: bool,
    /// It is gone; replies go nowhere.
    gone: bool,
}

impl Client {
    /// Lets it go on.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Serves a client to its end.
pub(crate) async fn run(thread: &Rc<Thread>, mut stream: TcpStream) {
    let address = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |a| a.to_string());
    if let Err(why) = stream.set_nodelay(true) {
        return tracing::debug!(%address, %why, "a client was gone before it was welcomed");
    }
    let id = thread.shared.add_client(address);
    let state = State {
        id,
        input: BytesMut::new(),
        parser: Parser::new(),
        args: Vec::new(),
        parsed: None,
        output: Vec::new(),
        written: 0,
        replies: VecDeque::new(),
        first: 0,
        in_flight: 0,
        again: VecDeque::new(),
        routes: 0,
        version: Version::V2,
        name: String::new(),
        held_since: None,
        waited: None,
        held_bytes: 0,
        ending: false,
        gone: false,
    };
    let client = Rc::new(Client { id, waker: Cell::new(None), state: RefCell::new(state) });
    let mut stop = std::pin::pin!(thread.shared.shutdown.cancelled());
    let mut stopping = false;
    poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
        }
        client.poll(thread, &mut stream, stopping, cx)
    })
    .await;
    client.leave(thread);
}
