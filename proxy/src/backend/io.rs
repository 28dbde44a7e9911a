//! The work of one wakeup of a connection: write what waits, read what came, hand out the answers.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use resp::reply::Scanner;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::{
    Backend, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, Link, RETRY_MAX, RETRY_MIN, Refusing,
    STANDBY_RETRY, State,
};
use crate::client::Client;
use crate::thread::Thread;

/// Room made for one read.
const READ_BYTES: usize = 64 << 10;
/// Answered bytes are cut off the front once they are so many.
const COMPACT_BYTES: usize = 64 << 10;

/// What was read and not understood yet.
#[derive(Default)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    scanner: Scanner,
}

impl Backend {
    /// Runs until there is nothing to do; `Ready` with the reason once the connection is of no use.
    pub(super) fn poll(
        &self,
        thread: &Thread,
        stream: &mut TcpStream,
        input: &mut Input,
        cx: &mut Context<'_>,
    ) -> Poll<String> {
        thread.tock();
        loop {
            if let Some(why) = self.write(stream, cx) {
                return Poll::Ready(why);
            }
            input.bytes.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(stream), cx, &mut input.bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready("the node closed it".to_owned()),
                Poll::Ready(Err(why)) => return Poll::Ready(why.to_string()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
            if let Err(why) = self.answers(thread, input) {
                return Poll::Ready(why);
            }
        }
        let mut state = self.state.borrow_mut();
        if state.link == Link::Retired && state.pending.is_empty() {
            return Poll::Ready("no route leads here any more".to_owned());
        }
        if let Some(why) = state.give_up.take() {
            return Poll::Ready(why);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Writes all that the socket takes; a reason if it takes nothing ever again.
    fn write(&self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Option<String> {
        let mut state = self.state.borrow_mut();
        while state.written < state.out.len() {
            match Pin::new(&mut *stream).poll_write(cx, &state.out[state.written..]) {
                Poll::Ready(Ok(0)) => return Some("the socket takes no more".to_owned()),
                Poll::Ready(Ok(taken)) => state.written += taken,
                Poll::Ready(Err(why)) => return Some(why.to_string()),
                Poll::Pending => break,
            }
        }
        None
    }

    /// Hands out the whole replies of what was read.
    fn answers(&self, thread: &Thread, input: &mut Input) -> Result<(), String> {
        loop {
            let length = match input.scanner.next(&input.bytes) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(why) => return Err(format!("the node's answer cannot be read: {why}")),
            };
            // A push message answers no command.
            if input.bytes[0] != b'>' {
                self.answer(thread, &input.bytes[..length])?;
            }
            input.bytes.advance(length);
        }
        let woken = {
            let mut state = self.state.borrow_mut();
            state.compact();
            state.with_room()
        };
        woken.iter().for_each(|client| client.wake());
        thread.check_quiet();
        Ok(())
    }

    fn answer(&self, thread: &Thread, reply: &[u8]) -> Result<(), String> {
        let mut state = self.state.borrow_mut();
        let Some(pending) = state.pending.pop_front() else {
            return Err("the node answered what nobody asked".to_owned());
        };
        let start = state.answered;
        state.answered += pending.len;
        state.writes -= usize::from(pending.write);
        let Some(client) = &pending.client else { return Ok(()) };
        let refused = thread.has_service() && is_refusal(reply);
        if refused && self.standby {
            let until = thread.now() + STANDBY_RETRY;
            state.refusing = Some(Refusing { until, routes: thread.routes().version });
        } else if refused && pending.write {
            // Once for all that was pipelined behind the first refusal.
            if state.refusing.is_none() {
                state.retry = (state.retry * 2).clamp(RETRY_MIN, RETRY_MAX);
                let until = thread.now() + state.retry;
                state.refusing = Some(Refusing { until, routes: thread.routes().version });
            }
        } else if pending.write {
            state.retry = RETRY_MIN / 2;
        }
        // A read that passed a refused write of the same client saw the time before it.
        if refused || (!pending.write && client.has_refused(self.id, pending.seq)) {
            let bytes = &state.out[start..start + pending.len];
            client.send_again(thread, self.id, &pending, bytes, pending.tries);
        } else {
            client.deliver(thread, &pending, reply);
        }
        Ok(())
    }

    /// The connection carries commands from now on; `false` if no route leads here any more.
    pub(super) fn up(&self, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        if state.link == Link::Retired {
            return false;
        }
        state.link = Link::Up;
        // The connection is new, and so is what the node thinks of it.
        state.refusing = None;
        state.pending.iter_mut().for_each(|pending| pending.at = now);
        true
    }
}

/// Whether a node's answer proves that the command did not run and that another node, or this one
/// later, will run it.
fn is_refusal(reply: &[u8]) -> bool {
    reply.first() == Some(&b'-')
        && [&b"-READONLY "[..], b"-MOVED ", b"-LOADING "].iter().any(|code| reply.starts_with(code))
}

impl State {
    fn compact(&mut self) {
        if self.answered == self.out.len() {
            self.out.clear();
            self.out.shrink_to(COMPACT_BYTES);
            (self.answered, self.written) = (0, 0);
        } else if self.answered >= COMPACT_BYTES && self.answered * 2 >= self.out.len() {
            self.out.drain(..self.answered);
            self.written -= self.answered;
            self.answered = 0;
        }
    }

    /// Clients that may go on, once half of the room is free.
    fn with_room(&mut self) -> Vec<Rc<Client>> {
        let free = self.pending.len() <= IN_FLIGHT_MAX / 2
            && self.out.len() - self.answered <= IN_FLIGHT_BYTES_MAX / 2;
        if free { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}
