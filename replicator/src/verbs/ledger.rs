//! `ledger`: what is stranded, and giving it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use admin::{Outcome, Replay, ReplayEntry, ReplayMode};
use anyhow::Context;
use clap::{Args, Subcommand};
use keyspace::library::LibraryValue;
use keyspace::user::UserValue;
use keyspace::{Hlc, Slot, library, user};
use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::ShardName;

use super::{At, Form, Of, node_of};
use crate::ledger::{self, Entry, KEYS, Reader, Value, What};

/// Entries in one request.
const ENTRIES_AT_A_TIME: usize = 256;
/// Bytes of their records in one request; a greater one goes alone.
const BYTES_AT_A_TIME: usize = 8 << 20;
/// Skipped entries that a result names; the rest are counted.
const NAMED_MAX: usize = 10_000;

/// `ledger ...`
#[derive(Subcommand, Clone, Debug)]
pub enum LedgerVerb {
    /// List the ledgers of a node
    List {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        form: Form,
    },
    /// Show each entry of a ledger: key, type, value or its digest, stamp, batch
    Show {
        /// Its name, as `list` says it, or the path of its file
        name: String,
        #[command(flatten)]
        at: MaybeAt,
        #[command(flatten)]
        form: Form,
    },
    /// Write what a ledger holds where its keys live now; done again, it does nothing twice
    Replay(ReplayArgs),
}

/// Where ledgers are, for who names none by its path.
#[derive(Args, Clone, Debug)]
pub struct MaybeAt {
    /// The node's directory, which has the spool
    #[arg(long, env = "GODWIT_NODE_DIR", value_name = "DIR")]
    node_dir: Option<PathBuf>,
}

/// `ledger replay ...`
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The ledger's name, as `list` says it, or the path of its file
    name: String,
    /// Write keys that the new side has not written since it took over
    #[arg(long, conflicts_with = "newest_wins", required_unless_present = "newest_wins")]
    if_unchanged: bool,
    /// Write keys whose stranded write is newer than what the new side has
    #[arg(long)]
    newest_wins: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: MaybeAt,
    #[command(flatten)]
    of: Of,
    /// How to ask nodes of other machines.
    #[command(flatten)]
    access: admin::Access,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(verb: LedgerVerb) -> anyhow::Result<Exit> {
    match verb {
        LedgerVerb::List { at, form } => list(&at, form),
        LedgerVerb::Show { name, at, form } => show(&path_of(&name, &at)?, form),
        LedgerVerb::Replay(args) => replay(args).await,
    }
}

fn path_of(name: &str, at: &MaybeAt) -> anyhow::Result<PathBuf> {
    if name.contains('/') || Path::new(name).exists() {
        return Ok(PathBuf::from(name));
    }
    let dir = at.node_dir.as_ref().ok_or_else(|| {
        Stop::new(Exit::Usage, format!("say where the ledger `{name}` is: --node-dir, or its path"))
    })?;
    let name = name.strip_suffix(&format!(".{KEYS}")).unwrap_or(name);
    Ok(dir.join("spool/ledger").join(format!("{name}.{KEYS}")))
}

fn name_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a ledger holds, counted.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Counts {
    keys: u64,
    deleted: u64,
    not_kept: u64,
    flushes: u64,
    loads: u64,
    records: u64,
    other: u64,
}

impl Counts {
    fn add(&mut self, what: &What) {
        match what {
            What::Key { value, .. } => {
                self.keys += 1;
                self.deleted += u64::from(*value == Value::Deleted);
                let lost = matches!(value, Value::Digest { .. } | Value::Unknown(_));
                self.not_kept += u64::from(lost);
            }
            What::Flushed(_) => self.flushes += 1,
            What::Load { .. } => self.loads += 1,
            What::Record { .. } => self.records += 1,
            What::Other(_) => self.other += 1,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    name: String,
    source: String,
    fork: String,
    end: u64,
    fork_ms: u64,
    #[serde(flatten)]
    counts: Counts,
}

fn list(at: &At, form: Form) -> anyhow::Result<Exit> {
    let mut all = Vec::new();
    let mut text = String::new();
    for path in ledger::list(&at.spool()).context("listing the ledgers")? {
        let mut reader = Reader::open(&path)?;
        let head = reader.head().clone();
        let mut counts = Counts::default();
        while let Some(entry) = reader.read()? {
            counts.add(&entry.what);
        }
        text.push_str(&format!(
            "{}: of {} past {}: {} keys ({} deleted, {} not kept), {} flushes, {} loads, {} users and libraries\n",
            name_of(&path),
            head.source,
            head.fork,
            counts.keys,
            counts.deleted,
            counts.not_kept,
            counts.flushes,
            counts.loads,
            counts.records
        ));
        let (name, fork) = (name_of(&path), head.fork.to_string());
        let (end, fork_ms) = (head.end.0, head.stamp.ms());
        all.push(Listed { name, source: head.source, fork, end, fork_ms, counts });
    }
    if all.is_empty() {
        text.push_str("no ledger: nothing was stranded here\n");
    }
    form.result(&text, &serde_json::json!({ "operation": "ledger list", "ledgers": all }))?;
    Ok(Exit::Done)
}

/// An entry as it is shown. Bytes that are no UTF-8 are shown with replacement characters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown {
    what: &'static str,
    stamp_ms: u64,
    batch: u64,
    key: Option<String>,
    r#type: Option<&'static str>,
    bytes: Option<u64>,
    blake3: Option<String>,
    note: Option<String>,
}

fn shown(entry: &Entry) -> Shown {
    let mut shown = Shown {
        what: "key",
        stamp_ms: entry.touched.stamp.ms(),
        batch: entry.touched.end.0,
        key: None,
        r#type: None,
        bytes: None,
        blake3: None,
        note: None,
    };
    match &entry.what {
        What::Key { key, value } => {
            shown.key = Some(String::from_utf8_lossy(key).into_owned());
            match value {
                Value::Deleted => shown.what = "deleted",
                Value::Kept { kind, records } => {
                    shown.r#type = Some(kind.name());
                    shown.bytes = Some(records.len() as u64);
                    shown.blake3 = Some(blake3::hash(records).to_hex().to_string());
                }
                Value::Digest { kind, bytes, blake3 } => {
                    shown.what = "not-kept";
                    shown.r#type = Some(kind.name());
                    shown.bytes = Some(*bytes);
                    shown.blake3 = Some(blake3::Hash::from_bytes(*blake3).to_hex().to_string());
                }
                Value::Unknown(why) => {
                    shown.what = "not-kept";
                    shown.note = Some(why.clone());
                }
            }
        }
        What::Flushed(slots) => {
            shown.what = "flushed";
            shown.note = Some(format!("slots {slots}"));
        }
        What::Load { id, slots } => {
            shown.what = "load";
            shown.note = Some(format!("{id:032x}, slots {slots}"));
        }
        What::Record { key, value } => {
            let (kind, name) = named(key);
            shown.what = if value.is_some() { kind } else { "deleted" };
            shown.r#type = value.is_none().then_some(kind);
            shown.key = Some(name);
            shown.bytes = value.as_ref().map(|value| value.len() as u64);
            shown.note = value.as_deref().and_then(|value| as_it_was(key, value));
        }
        What::Other(text) => {
            shown.what = "other";
            shown.note = Some(text.clone());
        }
    }
    shown
}

/// What a record of no slot is, and its name.
fn named(key: &[u8]) -> (&'static str, String) {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match (user::decode_key(key), key.strip_prefix(&library::bounds().0[..])) {
        (Some(name), _) => ("user", text(name)),
        (None, Some(name)) => ("library", text(name)),
        (None, None) => ("record", format!("{key:02x?}")),
    }
}

/// A user's line of an ACL file, or the first line of a library.
fn as_it_was(key: &[u8], value: &[u8]) -> Option<String> {
    let text = if user::decode_key(key).is_some() {
        UserValue::decode(value).ok()?.line
    } else {
        LibraryValue::decode(value).ok()?.text
    };
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Some(String::from_utf8_lossy(line).into_owned())
}

/// One line an entry, written as it is read: a ledger may have a million.
fn show(path: &Path, form: Form) -> anyhow::Result<Exit> {
    let mut reader = Reader::open(path)?;
    while let Some(entry) = reader.read()? {
        let shown = shown(&entry);
        let text = [
            Some(format!("{} {} @{}", shown.what, shown.stamp_ms, shown.batch)),
            shown.r#type.map(str::to_owned),
            shown.key.clone(),
            shown.bytes.map(|bytes| format!("{bytes} bytes")),
            shown.blake3.clone(),
            shown.note.clone(),
        ];
        form.result(&text.into_iter().flatten().collect::<Vec<_>>().join("  "), &shown)?;
    }
    Ok(Exit::Done)
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    operation: &'static str,
    ledger: String,
    dry_run: bool,
    /// By what came of them: `replaced`, `created`, `deleted`, `same`, and why others were skipped.
    outcomes: BTreeMap<String, u64>,
    /// What was not written, key and reason; the first [`NAMED_MAX`].
    skipped: Vec<(String, String)>,
    exit: u8,
}

impl Report {
    fn count(&mut self, key: &str, what: &str, why: Option<&str>) {
        *self.outcomes.entry(what.to_owned()).or_default() += 1;
        if let Some(why) = why.filter(|_| self.skipped.len() < NAMED_MAX) {
            self.skipped.push((key.to_owned(), why.to_owned()));
        }
    }
}

fn told(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        Outcome::Replaced => ("replaced", None),
        Outcome::Created => ("created", None),
        Outcome::Deleted => ("deleted", None),
        Outcome::Same => ("same", None),
        Outcome::Changed => ("changed", Some("the new side has written it since it took over")),
        Outcome::Newer => ("newer", Some("the new side has written it later")),
        Outcome::Expired => ("expired", Some("the stranded value has expired since")),
    }
}

/// An entry that is asked for.
struct Asked {
    key: Vec<u8>,
    stamp: Hlc,
    records: Vec<u8>,
}

async fn replay(args: ReplayArgs) -> anyhow::Result<Exit> {
    let path = path_of(&args.name, &args.at)?;
    let mode = if args.if_unchanged { ReplayMode::IfUnchanged } else { ReplayMode::NewestWins };
    let mut reader = Reader::open(&path)?;
    let (fork, source) = (reader.head().stamp, reader.head().source.clone());
    if reader.head().service != wal::segment::SegmentHeader::service_of(&args.of.service) {
        let why = format!("{} is of another service than `{}`", path.display(), args.of.service);
        return Err(Stop::new(Exit::Refused, why).into());
    }
    let mut report = Report {
        operation: "ledger replay",
        ledger: name_of(&path),
        dry_run: args.dry_run,
        ..Report::default()
    };
    let (view, record) = args.of.open().await?;
    let mut nodes: BTreeMap<ShardName, (admin::Client, Vec<Asked>)> = BTreeMap::new();
    while let Some(Entry { touched, what }) = reader.read()? {
        let (key, records) = match what {
            What::Key { key, value: Value::Kept { records, .. } } => (key, records),
            What::Key { key, value: Value::Deleted } => (key, Vec::new()),
            other => {
                not_replayed(&mut report, &other);
                continue;
            }
        };
        let slot = Slot::of_key(&key);
        let holds = |shard: &&ShardName| record.slots_of(shard).is_some_and(|s| s.contains(slot));
        let shard = record.primaries.iter().find(holds);
        let shard = shard.with_context(|| format!("nobody is primary of slot {slot}"))?;
        if !nodes.contains_key(shard) {
            nodes.insert(shard.clone(), (node_of(&view, shard, &args.access).await?, Vec::new()));
        }
        let (client, asked) = nodes.get_mut(shard).expect("it was put there");
        asked.push(Asked { key, stamp: touched.stamp, records });
        let bytes: usize = asked.iter().map(|entry| entry.records.len()).sum();
        if asked.len() >= ENTRIES_AT_A_TIME || bytes >= BYTES_AT_A_TIME {
            send(client, std::mem::take(asked), mode, fork, &mut report).await?;
        }
    }
    for (client, asked) in nodes.values_mut().filter(|(_, asked)| !asked.is_empty()) {
        send(client, std::mem::take(asked), mode, fork, &mut report).await?;
    }
    let mut text = format!(
        "{} of {source}{}\n",
        report.ledger,
        if args.dry_run { ", nothing was written" } else { "" }
    );
    for (what, count) in &report.outcomes {
        text.push_str(&format!("  {what}: {count}\n"));
    }
    for (key, why) in &report.skipped {
        text.push_str(&format!("  skipped {key}: {why}\n"));
    }
    report.exit = Exit::Done.code();
    args.form.result(&text, &report)?;
    Ok(Exit::Done)
}

fn not_replayed(report: &mut Report, what: &What) {
    let why = "not kept a second time, being too great: it is in the segment beside the ledger";
    match what {
        What::Key { key, value } => {
            let key = String::from_utf8_lossy(key).into_owned();
            let why = match value {
                Value::Unknown(reason) => reason.as_str(),
                _ => why,
            };
            report.count(&key, "not-kept", Some(why));
        }
        What::Flushed(slots) => {
            let why = "everything in these slots was deleted; say FLUSHALL again if it is meant";
            report.count(&format!("slots {slots}"), "flush", Some(why));
        }
        What::Load { id, .. } => {
            let why = "a bulk load: have the new primaries ingest it, it is kept beside the ledger";
            report.count(&format!("load {id:032x}"), "load", Some(why));
        }
        What::Record { key, .. } => {
            let (kind, name) = named(key);
            let why = match kind {
                "user" => {
                    "a user: `ledger show` has it as an ACL line; say ACL SETUSER or DELUSER again if it is meant"
                }
                _ => "no key: load or delete it again at the new primaries if it is meant",
            };
            report.count(&format!("{kind} {name}"), kind, Some(why));
        }
        What::Other(text) => report.count("", "other", Some(text)),
    }
}

async fn send(
    client: &admin::Client,
    asked: Vec<Asked>,
    mode: ReplayMode,
    fork: Hlc,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut entries = Vec::with_capacity(asked.len());
    for Asked { key, stamp, records } in &asked {
        entries.push(ReplayEntry { key, stamp: *stamp, records });
    }
    let answer = client.replay(Replay { mode, dry: report.dry_run, fork, entries }).await;
    let answer = answer.map_err(|why| {
        let message = format!(
            "{why}; entries before it were replayed, and may be replayed again: run the same command once more"
        );
        Stop::new(Exit::Incomplete, message)
    })?;
    for (asked, outcome) in asked.iter().zip(answer.outcomes) {
        let (what, why) = told(outcome);
        report.count(&String::from_utf8_lossy(&asked.key), what, why);
    }
    Ok(())
}
