//! One connection that writes, and remembers every answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use resp::reply::Reply;

use super::ledger::{Entry, Outcome};
use super::operation::Operation;
use super::traffic::Shared;
use crate::client::Client;
use crate::wait;

/// Pause between two tries to connect again.
const AGAIN: Duration = Duration::from_millis(50);

/// Writes until told to stop or until it has made all it may make.
pub(super) fn run(shared: &Shared, writer: u32) {
    let plan = &shared.plan;
    let mut number = 0;
    let mut client: Option<Client> = None;
    let interval = Duration::from_secs(1) * plan.pipeline / plan.rate.max(1);
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) && number + plan.pipeline <= plan.writes_max {
        let connected = match client.take() {
            Some(client) => client,
            None => match shared.connect(writer as usize) {
                Ok(client) => client,
                Err(_) => {
                    wait::pause(AGAIN);
                    continue;
                }
            },
        };
        let batch: Vec<_> =
            (number..number + plan.pipeline).map(|number| Operation { writer, number }).collect();
        number += plan.pipeline;
        client = write(shared, connected, &batch);
        next += interval;
        // Behind after a pause: go on from here at the same rate, no burst.
        next = next.max(Instant::now().checked_sub(interval).unwrap_or(next));
        wait::pause(next.saturating_duration_since(Instant::now()));
    }
}

/// Sends a batch and notes each outcome; answers the connection if it is still good.
fn write(shared: &Shared, mut client: Client, batch: &[Operation]) -> Option<Client> {
    let run = &shared.plan.run;
    let sent_us = shared.now_us();
    for operation in batch {
        client.push(&operation.command(run));
    }
    let mut broken = client.flush().err();
    for &operation in batch {
        let outcome = match &broken {
            Some(_) => Outcome::Unknown,
            None => match client.answer() {
                Ok(reply) => outcome_of(reply),
                Err(error) => {
                    broken = Some(error);
                    Outcome::Unknown
                }
            },
        };
        let slot = operation.slot(run).number();
        shared.note(Entry { operation, outcome, slot, sent_us, done_us: shared.now_us() });
    }
    match broken {
        Some(error) => {
            shared.disconnected(&error);
            None
        }
        None => Some(client),
    }
}

fn outcome_of(reply: Reply) -> Outcome {
    match reply {
        Reply::Integer(n) => Outcome::Acknowledged(n),
        Reply::Error(text) if text.starts_with("UNKNOWN ") || text == "UNKNOWN" => Outcome::Unknown,
        Reply::Error(text) => Outcome::Refused(text),
        _ => Outcome::Acknowledged(0),
    }
}

impl Shared {
    /// Connects to a proxy: each connection begins with another one, and goes round.
    pub(super) fn connect(&self, from: usize) -> Result<Client> {
        let tries = self.connects.fetch_add(1, Ordering::Relaxed);
        let proxies = &self.plan.proxies;
        // At first by its number, so that all proxies get their share.
        let which = if tries < self.plan.writers as usize { from } else { tries };
        let proxy = proxies.get(which % proxies.len().max(1));
        // Longer than a proxy holds a command: its own answer comes first.
        Client::connect_with(proxy.map_or("", String::as_str), Duration::from_secs(60))
    }
}
