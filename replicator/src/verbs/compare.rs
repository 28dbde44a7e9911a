//! `verify` and `repair`: what a standby holds against what its primary holds, at one position,
//! while writes go on.

use std::collections::BTreeMap;

use admin::{Access, Client, Digest};
use anyhow::Context;
use clap::Args;
use keyspace::Slot;
use ops::exit::{Exit, Stop};
use ops::units::Span;
use serde::Serialize;
use tokio::time::Instant;
use topology::{Record, ServiceView, ShardName};

use super::{Form, Of, node_of};

/// Keys that are repaired by one request, and so in one step of the primary.
const KEYS_AT_A_TIME: usize = 64;
/// Comparisons until a repair is given up: each finds what the one before has left.
const ROUNDS_MAX: u32 = 5;
/// Differing keys that a result names; the rest are counted.
const NAMED_MAX: usize = 10_000;

/// `verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Find the keys that differ in the slots that do
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    with: With,
}

/// `repair`
#[derive(Args, Clone, Debug)]
pub struct RepairArgs {
    /// Do it; without, say what would be sent and exit 3
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    with: With,
}

/// What is compared, and how.
#[derive(Args, Clone, Debug)]
struct With {
    /// Only with the followers of this cluster
    #[arg(long, value_name = "CLUSTER")]
    target: Option<String>,
    /// How long a follower may take to reach the position and digest what it holds
    #[arg(long, value_name = "SPAN", default_value = "10m")]
    timeout: Span,
    #[command(flatten)]
    of: Of,
    /// How to ask nodes of other machines.
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    form: Form,
}

/// A follower compared with its primary.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Comparison {
    source: String,
    target: String,
    position: String,
    keys: u64,
    different_slots: Vec<u16>,
    /// The keys that differ, where they were asked for.
    different_keys: Vec<String>,
    different_keys_count: u64,
    #[serde(skip)]
    raw: Vec<Vec<u8>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    operation: &'static str,
    equal: bool,
    comparisons: Vec<Comparison>,
    rounds: u32,
    repaired_keys: u64,
    repaired_bytes: u64,
    exit: u8,
}

/// `verify`: exit 0 where all is equal, 1 where something differs.
pub(super) async fn verify(args: VerifyArgs) -> anyhow::Result<Exit> {
    let comparisons = compare_all(&args.with, args.keys).await?;
    let equal = comparisons.iter().all(|c| c.different_slots.is_empty());
    let exit = if equal { Exit::Done } else { Exit::Failed };
    let mut report = Report {
        operation: "verify",
        equal,
        comparisons,
        rounds: 1,
        repaired_keys: 0,
        repaired_bytes: 0,
        exit: exit.code(),
    };
    print(&args.with, &mut report)?;
    Ok(exit)
}

/// `repair`: compares, has the primaries send again what differs, and compares once more.
pub(super) async fn repair(args: RepairArgs) -> anyhow::Result<Exit> {
    let mut report = Report {
        operation: "repair",
        equal: false,
        comparisons: Vec::new(),
        rounds: 0,
        repaired_keys: 0,
        repaired_bytes: 0,
        exit: Exit::Done.code(),
    };
    let exit = loop {
        report.rounds += 1;
        report.comparisons = compare_all(&args.with, true).await?;
        report.equal = report.comparisons.iter().all(|c| c.different_slots.is_empty());
        if report.equal {
            break Exit::Done;
        }
        if !args.yes {
            break Exit::Refused;
        }
        if report.rounds > ROUNDS_MAX {
            break Exit::Incomplete;
        }
        let (view, _) = args.with.of.open().await?;
        for comparison in &report.comparisons {
            let source: ShardName = comparison.source.parse()?;
            let node = node_of(&view, &source, &args.with.access).await?;
            for keys in comparison.raw.chunks(KEYS_AT_A_TIME) {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let done = node.repair(&keys).await.map_err(|why| {
                    let message = format!("repairing {} from {source}: {why}; what was sent before it stands, run repair again", comparison.target);
                    Stop::new(Exit::Incomplete, message)
                })?;
                report.repaired_keys += done.written + done.deleted;
                report.repaired_bytes += done.bytes;
            }
        }
    };
    report.exit = exit.code();
    print(&args.with, &mut report)?;
    Ok(exit)
}

fn print(with: &With, report: &mut Report) -> anyhow::Result<()> {
    let mut text = format!("{}\n", if report.equal { "equal" } else { "DIFFERENT" });
    for c in &mut report.comparisons {
        c.different_keys_count = c.raw.len() as u64;
        let named = c.raw.iter().take(NAMED_MAX);
        c.different_keys = named.map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        text.push_str(&format!(
            "  {} and {} at {}: {} keys, {} slots differ\n",
            c.source,
            c.target,
            c.position,
            c.keys,
            c.different_slots.len()
        ));
        if !c.different_slots.is_empty() {
            text.push_str(&format!("    slots {:?}\n", c.different_slots));
        }
        for key in &c.different_keys {
            text.push_str(&format!("    key {key}\n"));
        }
    }
    if report.repaired_keys > 0 {
        text.push_str(&format!(
            "  {} keys were sent again, {} bytes\n",
            report.repaired_keys, report.repaired_bytes
        ));
    }
    with.form.result(&text, report)
}

async fn compare_all(with: &With, keys: bool) -> anyhow::Result<Vec<Comparison>> {
    let (view, record) = with.of.open().await?;
    let deadline = Instant::now() + with.timeout.duration();
    let mut comparisons = Vec::new();
    for source in &record.primaries {
        let mut targets = record.followers_of(source);
        targets
            .retain(|target| with.target.as_ref().is_none_or(|wanted| target.cluster == *wanted));
        if !targets.is_empty() {
            comparisons
                .extend(compare(with, &view, &record, source, &targets, keys, deadline).await?);
        }
    }
    if comparisons.is_empty() {
        let why = "no cluster follows the active one: there is nothing to compare";
        return Err(Stop::new(Exit::Refused, why).into());
    }
    Ok(comparisons)
}

/// Compares a primary with its followers at one barrier.
async fn compare(
    with: &With,
    view: &ServiceView,
    record: &Record,
    source: &ShardName,
    targets: &[ShardName],
    keys: bool,
    deadline: Instant,
) -> anyhow::Result<Vec<Comparison>> {
    let node = node_of(view, source, &with.access).await?;
    let mut followers = Vec::new();
    for target in targets {
        followers.push((target, node_of(view, target, &with.access).await?));
    }
    let barrier = node.barrier().await.with_context(|| format!("writing a barrier on {source}"))?;
    let ours = node.digest_by(barrier.id, deadline).await;
    let ours = ours.with_context(|| format!("the digest of {source}"))?;
    let mut comparisons = Vec::new();
    for (target, client) in &followers {
        let theirs = client.digest_by(barrier.id, deadline).await;
        let theirs = theirs.with_context(|| format!("the digest of {target}"))?;
        let mut comparison = compare_slots(record, source, target, &ours, &theirs);
        if keys {
            for slot in &comparison.different_slots {
                let differing = differing_keys(&node, client, barrier.id, *slot).await?;
                comparison.raw.extend(differing);
            }
        }
        comparisons.push(comparison);
    }
    for (shard, client) in followers.iter().map(|(t, c)| (*t, c)).chain([(source, &node)]) {
        if let Err(why) = client.drop_digest(barrier.id).await {
            tracing::warn!("{shard} could not forget its digest: {why}");
        }
    }
    Ok(comparisons)
}

fn compare_slots(
    record: &Record,
    source: &ShardName,
    target: &ShardName,
    ours: &Digest,
    theirs: &Digest,
) -> Comparison {
    let slots = |shard| record.slots_of(shard).cloned().unwrap_or_default();
    let (covered, different_slots) =
        ours.compare(theirs, &slots(source).intersection(&slots(target)));
    Comparison {
        source: source.to_string(),
        target: target.to_string(),
        position: ours.position.to_string(),
        keys: covered.keys,
        different_slots,
        different_keys: Vec::new(),
        different_keys_count: 0,
        raw: Vec::new(),
    }
}

/// The keys of a slot whose digests differ, or that one of both lacks.
async fn differing_keys(
    ours: &Client,
    theirs: &Client,
    barrier: u128,
    slot: u16,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let slot = Slot::new(slot).context("a slot beyond the last")?;
    let (ours, theirs) =
        (keys_of(ours, barrier, slot).await?, keys_of(theirs, barrier, slot).await?);
    let mut differing: Vec<Vec<u8>> =
        ours.iter().filter(|(key, digest)| theirs.get(*key) != Some(*digest)).map(key).collect();
    differing.extend(theirs.iter().filter(|(name, _)| !ours.contains_key(*name)).map(key));
    Ok(differing)
}

fn key((key, _): (&Vec<u8>, &u128)) -> Vec<u8> {
    key.clone()
}

/// All live keys of a slot: a slot is a 16384th of the keys, so they fit.
async fn keys_of(
    client: &Client,
    barrier: u128,
    slot: Slot,
) -> anyhow::Result<BTreeMap<Vec<u8>, u128>> {
    let (mut all, mut after) = (BTreeMap::new(), Vec::new());
    loop {
        let page = client.digest_keys(barrier, slot, &after).await?;
        all.extend(page.keys);
        match page.next {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}
