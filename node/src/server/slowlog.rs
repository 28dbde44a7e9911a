//! Commands that took long, and SLOWLOG, which shows them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resp::reply::Writer;

use super::client::Client;
use super::redact::{REDACTED, is_secret};
use super::session::Session;
use crate::command::{Args, Fail};
use crate::settings;

/// A command that took long.
#[derive(Clone)]
struct Entry {
    id: i64,
    at_s: u64,
    took_us: u64,
    args: Vec<Vec<u8>>,
    peer: String,
    name: String,
}

/// The last of them, the newest first.
#[derive(Default)]
pub(super) struct SlowLog(Mutex<State>);

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    next_id: i64,
}

impl SlowLog {
    /// The most arguments of a command that are kept.
    const ARGS_MAX: usize = 32;
    /// The most bytes of an argument that are kept.
    const ARG_BYTES_MAX: usize = 128;

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a command if it took long enough.
    pub(super) fn note(&self, client: &Client, args: &Args<'_>, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if !is_slow(took) {
            return;
        }
        let name = client.said().name.clone();
        let entry = Entry {
            id: 0,
            at_s: ops::clock::unix_ms() / 1000,
            took_us,
            args: Self::shown(args),
            peer: client.peer.to_string(),
            name,
        };
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.entries.push_front(Entry { id, ..entry });
        state.entries.truncate(settings::SLOW_LOG_MAX.get() as usize);
    }

    fn shown(args: &Args<'_>) -> Vec<Vec<u8>> {
        let kept = if args.len() > Self::ARGS_MAX { Self::ARGS_MAX - 1 } else { args.len() };
        let mut shown: Vec<Vec<u8>> = (0..kept)
            .map(|at| match args.at(at) {
                _ if is_secret(args, at) => REDACTED.to_vec(),
                arg if arg.len() > Self::ARG_BYTES_MAX => {
                    let (head, rest) = arg.split_at(Self::ARG_BYTES_MAX);
                    [head, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
                }
                arg => arg.to_vec(),
            })
            .collect();
        if kept < args.len() {
            shown.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
        }
        shown
    }
}

/// Whether a command that took so long is to be remembered.
pub(crate) fn is_slow(took: Duration) -> bool {
    let threshold = settings::SLOWER_THAN_US.get();
    u64::try_from(threshold).is_ok_and(|threshold| took.as_micros() >= u128::from(threshold))
}

pub(super) fn slowlog(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    const SHOWN: usize = 10;
    let mut state = session.shared.slow_log.state();
    let mut out = Writer::new(out, session.version);
    match (&args.at(1).to_ascii_lowercase()[..], args.len()) {
        (b"len", 2) => out.integer(state.entries.len() as i64),
        (b"reset", 2) => {
            state.entries.clear();
            out.simple("OK");
        }
        (b"get", 2 | 3) => {
            let least = "ERR count should be greater than or equal to -1";
            let count = match args.get(2).map(|_| args.integer(2)).transpose()? {
                None => SHOWN,
                Some(-1) => usize::MAX,
                Some(count) => usize::try_from(count).map_err(|_| Fail::text(least))?,
            };
            let count = count.min(state.entries.len());
            out.array(count);
            for entry in state.entries.iter().take(count) {
                out.array(6);
                out.integer(entry.id);
                out.integer(entry.at_s as i64);
                out.integer(entry.took_us as i64);
                out.array(entry.args.len());
                entry.args.iter().for_each(|arg| out.bulk(arg));
                out.bulk(entry.peer.as_bytes());
                out.bulk(entry.name.as_bytes());
            }
        }
        _ => return Err(super::unknown_subcommand_syntax(args)),
    }
    Ok(())
}
