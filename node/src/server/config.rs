//! CONFIG: the settings that exist here, under Redis's names.

use std::sync::atomic::Ordering;

use resp::reply::Writer;

use super::hello::unknown_subcommand;
use super::session::{Session, Shared};
use crate::command::encoding::{THRESHOLDS, Threshold};
use crate::command::{Args, Fail, glob_matches};
use crate::worker::{Class, Herald};

/// A setting: its name, its value, and how it is changed, if it can be.
type Setting = (&'static str, fn(&Shared) -> String, Option<Change>);

/// Changes a setting.
type Change = fn(&Shared, u64);

const SETTINGS: &[Setting] = &[
    // The log is always written; there are no dumps.
    ("appendonly", |_| "yes".to_owned(), None),
    ("save", |_| String::new(), None),
    ("databases", |_| "1".to_owned(), None),
    ("maxmemory", |_| "0".to_owned(), None),
    ("maxmemory-policy", |_| "noeviction".to_owned(), None),
    ("port", |s| s.address.port().to_string(), None),
    ("bind", |s| s.address.ip().to_string(), None),
    (
        "maxclients",
        |s| s.clients_max.load(Ordering::Relaxed).to_string(),
        Some(|s, value| s.clients_max.store(value.max(1) as usize, Ordering::Relaxed)),
    ),
    (
        "tracking-table-max-keys",
        |s| s.workers.listeners().tracked.keys_max().to_string(),
        Some(|s, value| {
            let pushed = s.workers.listeners().tracked.bound(value as usize);
            s.tell(pushed);
        }),
    ),
    (
        "proto-max-bulk-len",
        |s| s.bulk_bytes_max.load(Ordering::Relaxed).to_string(),
        Some(|s, value| {
            // Values are bounded whatever is allowed on the wire.
            let bound = resp::command::Limits::default().bulk_bytes;
            s.bulk_bytes_max.store((value as usize).clamp(1 << 20, bound), Ordering::Relaxed);
        }),
    ),
];

/// Changes a setting that is a word.
type ChangeWord = fn(&Shared, Vec<u8>) -> Result<(), Fail>;

/// Such a setting: its name, its value, and how it is changed.
type Word = (&'static str, fn(&Shared) -> String, ChangeWord);

/// Settings that are words.
const WORDS: &[Word] = &[(
    "notify-keyspace-events",
    |s| s.workers.listeners().classes().letters(),
    |s, value| {
        let bad = "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
        s.workers.listeners().set_classes(Class::parse(&value).ok_or(Fail::text(bad))?);
        Ok(())
    },
)];

pub(super) fn config(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    let shared = session.shared.clone();
    let mut out = Writer::new(out, session.version);
    match (&args.at(1).to_ascii_lowercase()[..], args.len()) {
        (b"get", 3..) => {
            let wanted = |name: &str| {
                args.from(2).any(|p| glob_matches(&p.to_ascii_lowercase(), name.as_bytes()))
            };
            let found = SETTINGS.iter().filter(|(name, ..)| wanted(name));
            let mut found: Vec<_> = found.map(|(name, value, _)| (*name, value(&shared))).collect();
            for (name, get, _) in WORDS.iter().filter(|(name, ..)| wanted(name)) {
                found.push((name, get(&shared)));
            }
            for threshold in THRESHOLDS {
                let names = [Some(threshold.name), threshold.old_name].into_iter().flatten();
                let names = names.filter(|name| wanted(name));
                found.extend(names.map(|name| (name, threshold.get().to_string())));
            }
            out.map(found.len());
            for (name, value) in found {
                out.bulk(name.as_bytes());
                out.bulk(value.as_bytes());
            }
        }
        (b"set", 4..) if args.len().is_multiple_of(2) => {
            let changes = args.pairs(2).map(|(name, value)| change(name, value));
            // All or none.
            for change in changes.collect::<Result<Vec<_>, _>>()? {
                match change {
                    To::Setting(set, value) => set(&shared, value),
                    To::Word(set, value) => set(&shared, value)?,
                    To::Threshold(threshold, value) => threshold.set(value),
                }
            }
            out.simple("OK");
        }
        (b"resetstat", 2) => {
            for counter in [
                &shared.stats.commands_processed,
                &shared.stats.connections_received,
                &shared.stats.connections_rejected,
            ] {
                counter.store(0, Ordering::Relaxed);
            }
            out.simple("OK");
        }
        (b"get" | b"set" | b"resetstat", _) => {
            let sub = String::from_utf8_lossy(args.at(1)).to_lowercase();
            return Err(Fail::text(format!(
                "ERR wrong number of arguments for 'config|{sub}' command"
            )));
        }
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

/// A change that can be made.
enum To {
    Setting(Change, u64),
    Word(ChangeWord, Vec<u8>),
    Threshold(&'static Threshold, i64),
}

fn change(name: &[u8], value: &[u8]) -> Result<To, Fail> {
    let failed = |why: &str| {
        let name = String::from_utf8_lossy(name);
        Fail::text(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    let no_integer = || failed("argument couldn't be parsed into an integer");
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if let Some(threshold) =
        THRESHOLDS.into_iter().find(|t| is(t.name) || t.old_name.is_some_and(is))
    {
        return Ok(To::Threshold(threshold, resp::integer(value).ok_or_else(no_integer)?));
    }
    if let Some((_, _, set)) = WORDS.iter().find(|(known, ..)| is(known)) {
        return Ok(To::Word(*set, value.to_vec()));
    }
    let Some((_, _, set)) = SETTINGS.iter().find(|(known, ..)| is(known)) else {
        let name = String::from_utf8_lossy(name);
        return Err(Fail::text(format!(
            "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
        )));
    };
    let set = set.ok_or_else(|| failed("can't set immutable config"))?;
    let number = resp::integer(value).and_then(|n| u64::try_from(n).ok());
    Ok(To::Setting(set, number.ok_or_else(no_integer)?))
}
