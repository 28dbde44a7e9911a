//! One connection that reads back what was acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use resp::reply::Reply;

use super::ledger::Outcome;
use super::operation::{Kind, Operation};
use super::traffic::Shared;
use crate::client::Client;
use crate::wait;

/// How long until a read that did not show its write is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is asked again before it counts as wrong.
const AGAIN_MAX: u32 = 10;

/// Reads until told to stop.
pub(super) fn run(shared: &Shared, reader: u32) {
    let pause = Duration::from_secs(1) / shared.plan.read_rate.max(1);
    let mut client: Option<Client> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        wait::pause(pause);
        let Some(operation) = pick(shared) else { continue };
        if client.is_none() {
            client = shared.connect(reader as usize).ok();
        }
        let Some(connected) = client.as_mut() else { continue };
        match check(shared, connected, operation) {
            Ok(()) => {}
            Err(error) => {
                shared.disconnected(&error);
                client = None;
            }
        }
    }
}

/// A SET that was acknowledged: nobody writes its key again.
fn pick(shared: &Shared) -> Option<Operation> {
    let writer = rand::random_range(0..shared.plan.writers.max(1));
    let entries = shared.entries.get(writer as usize)?.lock().ok()?;
    // The newest ones more often than not: they are the ones at risk.
    let newest = entries.len().saturating_sub(200);
    let from = if rand::random() { newest } else { 0 };
    if entries.is_empty() {
        return None;
    }
    let entry = entries.get(rand::random_range(from..entries.len()))?;
    let acknowledged = matches!(entry.outcome, Outcome::Acknowledged(_));
    (acknowledged && entry.operation.kind() == Kind::Set).then_some(entry.operation)
}

fn check(shared: &Shared, client: &mut Client, operation: Operation) -> Result<()> {
    let (key, value) = (operation.key(&shared.plan.run), operation.value(&shared.plan.run));
    for attempt in 0..=AGAIN_MAX {
        client.push(&["GET", &key]);
        client.flush()?;
        let reply = client.answer()?;
        if let Reply::Error(text) = &reply {
            shared.read_failed(text);
            return Ok(());
        }
        if reply.as_bytes() == Some(value.as_bytes()) {
            shared.read_done(attempt);
            return Ok(());
        }
        wait::pause(AGAIN);
    }
    shared.read_wrong(&key);
    Ok(())
}
