//! Ends calls whose time is over, and those that wait on a node that is no primary any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyspace::Slot;

use super::blocked::Blocked;
use super::waiter::{Ending, Waiter};
use crate::command::Flags;
use crate::control::{Authority, Mode, Refusal};

/// While calls wait, the node's role is looked at so often.
const ROLE_EVERY: Duration = Duration::from_millis(20);
/// While calls wait, a primary's slots are looked at so often.
const SLOTS_EVERY: Duration = Duration::from_secs(1);
/// While none waits, the thread wakes so often; a call with less time wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// When calls that wait end.
#[derive(Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By time, then by ticket.
    due: BTreeMap<(Instant, u64), Arc<Waiter>>,
    /// When the thread will look again.
    wakes: Option<Instant>,
    closed: bool,
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins to wait.
    pub(super) fn set(&self, waiter: &Arc<Waiter>) {
        let mut state = self.lock();
        let mut first = Instant::now() + ROLE_EVERY;
        if let Some(deadline) = waiter.deadline {
            state.due.insert((deadline, waiter.ticket), waiter.clone());
            first = first.min(deadline);
        }
        if state.wakes.is_some_and(|wakes| first < wakes) {
            state.wakes = None;
            self.changed.notify_one();
        }
    }

    /// It waits no more.
    pub(super) fn clear(&self, waiter: &Waiter) {
        if let Some(deadline) = waiter.deadline {
            self.lock().due.remove(&(deadline, waiter.ticket));
        }
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}

/// Rings until the alarm is closed.
pub(super) fn run(blocked: &Blocked, authority: &Authority) {
    let alarm = blocked.alarm();
    let mut looked = Instant::now();
    let mut state = alarm.lock();
    while !state.closed {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some(entry) = state.due.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        let first = state.due.keys().next().map(|(first, _)| *first);
        drop(state);
        for waiter in due {
            blocked.end(&waiter, &Ending::TooLate);
        }
        let patience = if blocked.is_empty() { IDLE } else { ROLE_EVERY };
        // A primary may have lost some slots; that it is none any more is seen at once.
        let overdue = now.duration_since(looked) >= SLOTS_EVERY;
        if !blocked.is_empty() && (overdue || authority.mode() != Mode::Primary) {
            looked = now;
            dismiss(blocked, authority);
        }
        let wakes = first.map_or(now + patience, |first| first.min(now + patience));
        state = alarm.lock();
        // Whoever began to wait since then has to be seen.
        let newer = state.due.keys().next().map(|(first, _)| *first);
        let wakes = newer.map_or(wakes, |newer| newer.min(wakes));
        let wakes = if blocked.is_empty() { wakes } else { wakes.min(now + ROLE_EVERY) };
        state.wakes = Some(wakes);
        let left = wakes.saturating_duration_since(Instant::now());
        let waited = alarm
            .changed
            .wait_timeout_while(state, left, |state| state.wakes.is_some() && !state.closed);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Ends the calls that nobody here can serve any more. Redis's words when a master becomes a
/// replica: whoever asked may ask the new one.
fn dismiss(blocked: &Blocked, authority: &Authority) {
    if matches!(authority.mode(), Mode::Standalone) {
        return;
    }
    for waiter in blocked.all() {
        let (Some(slot), Some(call)) =
            (waiter.keys().next().map(Slot::of_key), waiter.request.calls.first())
        else {
            continue;
        };
        let admitted = match call.spec.flags.has(Flags::WRITE) {
            true => authority.admit_write(slot).map(|_| ()),
            false => authority.admit_read(slot, call.readonly),
        };
        let ending = match admitted {
            Ok(()) => continue,
            Err(moved @ Refusal::Moved { .. }) => moved.to_string(),
            // Between two leases it may be served yet.
            Err(Refusal::Lease) => continue,
            Err(_) => FORCED.to_owned(),
        };
        blocked.end(&waiter, &Ending::Error(ending));
    }
}

const FORCED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
