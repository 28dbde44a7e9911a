//! The work of one wakeup of a client: read, look at commands, write once.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::pump::Next;
use super::{Client, KEEP_BYTES, State};
use crate::thread::Thread;

/// Room made for one read.
const READ_BYTES: usize = 16 << 10;

impl Client {
    /// Runs until there is nothing to do; `Ready` when the connection is to be closed.
    pub(super) fn poll(
        self: &Rc<Self>,
        thread: &Rc<Thread>,
        stream: &mut TcpStream,
        stopping: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        thread.tock();
        self.waker.set(Some(cx.waker().clone()));
        let mut state = self.state.borrow_mut();
        loop {
            let next = state.pump(thread, self, stopping);
            thread.start_connections();
            if !state.write(stream, cx) {
                return Poll::Ready(());
            }
            let answered = state.is_answered();
            if state.ending && answered {
                return Poll::Ready(());
            }
            match next {
                Next::Flush if state.output.is_empty() => continue,
                Next::Read if !state.ending => {}
                _ => return Poll::Pending,
            }
            // Between two commands is where a proxy that stops lets go.
            if stopping && answered && state.input.is_empty() {
                return Poll::Ready(());
            }
            // A long command doubles the room, whatever length it claims.
            let room = READ_BYTES.max(state.input.len());
            state.input.reserve(room);
            match poll_read_buf(Pin::new(stream), cx, &mut state.input) {
                Poll::Ready(Ok(0)) => state.ending = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The connection is closed: what it waits for goes nowhere.
    pub(super) fn leave(&self, thread: &Thread) {
        let mut state = self.state.borrow_mut();
        state.release(thread);
        state.gone = true;
        state.again.clear();
        state.replies.clear();
        thread.shared.remove_client(self.id);
    }
}

impl State {
    /// Whether nothing of what it sent is left to do.
    fn is_answered(&self) -> bool {
        self.replies.is_empty()
            && self.output.is_empty()
            && self.parsed.is_none()
            && self.again.is_empty()
    }

    /// Writes what the socket takes; `false` if it takes nothing ever again.
    fn write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> bool {
        while self.written < self.output.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.output[self.written..]) {
                Poll::Ready(Ok(taken)) if taken > 0 => self.written += taken,
                Poll::Ready(_) => return false,
                Poll::Pending => return true,
            }
        }
        self.output.clear();
        self.output.shrink_to(KEEP_BYTES);
        self.written = 0;
        true
    }

    /// Nothing of it waits for a primary any more.
    pub(super) fn release(&mut self, thread: &Thread) {
        if self.held_since.take().is_some() {
            thread.shared.stats.held.dec();
        }
        self.count_held(thread, 0);
    }

    /// Counts so many of its bytes as held.
    pub(super) fn count_held(&mut self, thread: &Thread, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        if bytes == self.held_bytes {
            return;
        }
        let held = &thread.shared.held_bytes;
        held.fetch_add(bytes, Relaxed);
        let now = held.fetch_sub(self.held_bytes, Relaxed) - self.held_bytes;
        self.held_bytes = bytes;
        thread.shared.stats.held_bytes.set(i64::try_from(now).unwrap_or(i64::MAX));
    }
}
