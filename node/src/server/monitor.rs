//! MONITOR: clients that see every command that the node is given.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::Client;
use super::redact::{REDACTED, is_secret};
use super::session::{Session, Shared};
use crate::command::{Args, Fail, Flags, Spec};

/// Those who look on.
#[derive(Default)]
pub(super) struct Monitors {
    /// While there are none, a command costs one look at this.
    count: AtomicUsize,
    clients: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    fn clients(&self) -> MutexGuard<'_, Vec<Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody looks on.
    pub(super) fn watch(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody looks on changed.
    fn counted(&self, clients: &[Arc<Client>], shared: &Shared) {
        self.count.store(clients.len(), Ordering::Relaxed);
        let scripting = shared.workers.scripting();
        scripting.watched.store(!clients.is_empty(), Ordering::Relaxed);
    }
}

pub(super) fn monitor(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    if !session.monitoring {
        session.monitoring = true;
        session.client.monitors.store(true, Ordering::Relaxed);
        session.client.mail().speak(session.version);
        let shared = &session.shared;
        let mut clients = shared.monitors.clients();
        clients.push(session.client.clone());
        shared.monitors.counted(&clients, shared);
    }
    resp::reply::Writer::new(out, session.version).simple("OK");
    Ok(())
}

/// A client looks on no more.
pub(super) fn leave(session: &mut Session) {
    if !std::mem::take(&mut session.monitoring) {
        return;
    }
    let (shared, client) = (&session.shared, &session.client);
    let mut clients = shared.monitors.clients();
    clients.retain(|other| other.id != client.id);
    client.monitors.store(false, Ordering::Relaxed);
    shared.monitors.counted(&clients, shared);
}

/// Shows a command of a client.
pub(super) fn show(session: &Session, spec: &Spec, args: &Args<'_>) {
    if !session.monitoring {
        show_as(&session.shared, &session.client.peer.to_string(), spec, args);
    }
}

/// Shows a command that was given by `origin`, a client's address or `lua`, unless it is one for
/// operators.
pub(super) fn show_as(shared: &Shared, origin: &str, spec: &Spec, args: &Args<'_>) {
    if spec.flags.has(Flags::ADMIN) {
        return;
    }
    let shown = args.from(0).enumerate().map(|(at, arg)| match is_secret(args, at) {
        true => REDACTED,
        false => arg,
    });
    feed(shared, origin, shown);
}

fn feed<'a>(shared: &Shared, origin: &str, args: impl Iterator<Item = &'a [u8]>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = format!("+{}.{:06} [0 {origin}]", now.as_secs(), now.subsec_micros());
    for arg in args {
        line.push_str(" \"");
        for &byte in arg {
            // As Redis quotes (`sdscatrepr`); writing to a string cannot fail.
            let _ = match byte {
                b'\\' | b'"' => write!(line, "\\{}", char::from(byte)),
                b'\n' => line.write_str("\\n"),
                b'\r' => line.write_str("\\r"),
                b'\t' => line.write_str("\\t"),
                7 => line.write_str("\\a"),
                8 => line.write_str("\\b"),
                b' '..=b'~' => line.write_char(char::from(byte)),
                _ => write!(line, "\\x{byte:02x}"),
            };
        }
        line.push('"');
    }
    line.push_str("\r\n");
    let clients = shared.monitors.clients().clone();
    for client in clients {
        shared.broker.post_bytes(&client, line.as_bytes());
    }
}
