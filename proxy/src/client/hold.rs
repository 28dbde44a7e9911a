//! Commands that wait for a primary: how long, how many bytes, and sending again what came back.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::pump::LIMITS;
use super::route::{Sending, Stop};
use super::{Client, Held, State};
use crate::command::{self, Request};
use crate::fan;
use crate::routes::Routes;
use crate::stats::count;
use crate::thread::Thread;

impl State {
    /// The client waits. Returns the error to answer instead, if it has waited for long enough or
    /// too many bytes wait already.
    pub(super) fn wait(
        &mut self,
        thread: &Thread,
        client: &Rc<Client>,
        stop: Stop,
        stopping: bool,
    ) -> Option<String> {
        let Stop::Hold(reason) = stop else { return None };
        let config = &thread.shared.config;
        let next = self.first + self.replies.len() as u64;
        let seq = self.again.front().map_or(next, |held| held.seq);
        let since = match self.waited {
            Some((of, since)) if of == seq => since,
            // What came behind one that was given up has waited as long.
            _ => self.held_since.unwrap_or_else(|| thread.now()),
        };
        self.waited = Some((seq, since));
        if self.held_since.replace(since).is_none() {
            thread.shared.stats.held.inc();
        }
        let bytes =
            self.input.len() + self.again.iter().map(|held| held.bytes.len()).sum::<usize>();
        self.count_held(thread, bytes);
        let waited = thread.now().saturating_duration_since(since);
        let held = thread.shared.held_bytes.load(Ordering::Relaxed);
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
    pub(super) fn give_up_again(&mut self, thread: &Thread, why: &str) {
        if let Some(held) = self.again.pop_front() {
            let text = format!("-{why}\r\n");
            self.fill(thread, held.seq, u32::MAX, fan::Part::Answer(text.as_bytes()));
        }
    }

    /// Sends what came back, in order.
    pub(super) fn send_again(
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
                self.again.push_front(Held { bytes, ..held });
                return Err(stop);
            }
            count(&thread.counts.resent);
        }
        Ok(())
    }

    /// Something was sent: whatever this client waited for is over.
    pub(super) fn release_hold(&mut self, thread: &Thread) {
        if self.held_since.is_some() {
            self.release(thread);
        }
    }
}
