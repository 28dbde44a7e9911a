//! `verify`: per-slot digests of the active cluster and of its followers, at one position each.

use std::time::Instant;

use admin::{Access, Client, Digest, SlotDigest};
use anyhow::Context;
use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::{Record, ServiceView, ShardName};

use crate::tool::Tool;

/// Differing slots that are named; the rest are counted.
const NAMED_MAX: usize = 16;

/// A follower compared with its source.
#[derive(Debug, Serialize)]
struct Comparison {
    source: String,
    target: String,
    position: String,
    slots: usize,
    keys: u64,
    bytes: u64,
    different_slots: Vec<u16>,
}

#[derive(Debug, Serialize)]
struct Verified {
    operation: &'static str,
    equal: bool,
    /// Of the active cluster: what the digests cover.
    keys: u64,
    bytes: u64,
    comparisons: Vec<Comparison>,
    exit: u8,
}

/// `verify`.
pub(crate) async fn verify(tool: &Tool, access: &Access) -> anyhow::Result<Exit> {
    let (view, record, _) = tool.view()?;
    let deadline = Instant::now() + tool.config.digest_timeout;
    let mut comparisons = Vec::new();
    let mut total = SlotDigest::default();
    for source in &record.primaries {
        let digests = digests_of(tool, &view, &record, source, access, deadline).await?;
        let Some((_, ours)) = digests.first() else { continue };
        total.add(&ours.total);
        for (target, theirs) in &digests[1..] {
            comparisons.push(compare(&record, source, ours, target, theirs));
        }
    }
    if comparisons.is_empty() {
        return Err(Stop::new(
            Exit::Refused,
            "no cluster follows the active one: there is nothing to compare",
        )
        .into());
    }
    let equal = comparisons.iter().all(|c| c.different_slots.is_empty());
    let exit = if equal { Exit::Done } else { Exit::Failed };
    let mut text = format!(
        "{}: {} keys, {} bytes\n",
        if equal { "equal" } else { "DIFFERENT" },
        total.keys,
        total.bytes
    );
    for c in &comparisons {
        let different = match c.different_slots.len() {
            0 => "equal".to_owned(),
            count => {
                format!("{count} slots DIFFER: {:?}", &c.different_slots[..count.min(NAMED_MAX)])
            }
        };
        text.push_str(&format!(
            "  {} and {} at {}: {} keys, {} bytes: {different}\n",
            c.source, c.target, c.position, c.keys, c.bytes
        ));
    }
    let json = Verified {
        operation: "verify",
        equal,
        keys: total.keys,
        bytes: total.bytes,
        comparisons,
        exit: exit.code(),
    };
    tool.result(&text, &json)?;
    Ok(exit)
}

async fn client(view: &ServiceView, shard: &ShardName, access: &Access) -> anyhow::Result<Client> {
    let node = view
        .nodes
        .get(shard)
        .with_context(|| format!("the node of {shard} is not there, so it cannot be compared"))?;
    Ok(Client::connect_as(&node.admin, access).await?)
}

/// The digests at one barrier: the source's first, then each follower's.
async fn digests_of(
    tool: &Tool,
    view: &ServiceView,
    record: &Record,
    source: &ShardName,
    access: &Access,
    deadline: Instant,
) -> anyhow::Result<Vec<(ShardName, Digest)>> {
    let mut nodes = vec![(source.clone(), client(view, source, access).await?)];
    for target in record.followers_of(source) {
        let client = client(view, &target, access).await?;
        nodes.push((target, client));
    }
    let barrier =
        nodes[0].1.barrier().await.with_context(|| format!("writing a barrier on {source}"))?;
    tool.progress(format!("barrier of {source} at {}", barrier.position));
    let mut digests = Vec::new();
    for (shard, client) in &nodes {
        let digest = client.digest_by(barrier.id, deadline.into()).await;
        digests.push((shard.clone(), digest.with_context(|| format!("the digest of {shard}"))?));
    }
    for (shard, client) in &nodes {
        if let Err(why) = client.drop_digest(barrier.id).await {
            tracing::warn!("{shard} could not forget its digest: {why}");
        }
    }
    Ok(digests)
}

/// Compares the slots that both hold; a slot that is absent has no live key.
fn compare(
    record: &Record,
    source: &ShardName,
    ours: &Digest,
    target: &ShardName,
    theirs: &Digest,
) -> Comparison {
    let slots = |shard| record.slots_of(shard).cloned().unwrap_or_default();
    let both = slots(source).intersection(&slots(target));
    let (covered, different_slots) = ours.compare(theirs, &both);
    Comparison {
        source: source.to_string(),
        target: target.to_string(),
        position: ours.position.to_string(),
        slots: both.len(),
        keys: covered.keys,
        bytes: covered.bytes,
        different_slots,
    }
}
