//! What a node goes on with that has a materialised shard.

use std::path::PathBuf;

use admin::{Applied, Follow};
use anyhow::Context;
use keyspace::{Cf, system};
use restore::Copy;
use rocksdb::{Direction, IteratorMode};
use store::repository::Manifest;
use topology::{Epoch, ShardName};
use wal::Chain;

/// What a standby follows that has this: the log of the shard itself if it was a primary then, and that of
/// its source if it was a standby.
pub(super) fn of(
    manifest: &Manifest,
    shard: ShardName,
    path: PathBuf,
) -> anyhow::Result<Option<Follow>> {
    let copy = Copy::open(path)?;
    let db = copy.db();
    let family = db.cf_handle(Cf::System.name()).context("it has no family `system`")?;
    let standing = db.get_cf(family, system::STANDING)?;
    let role = standing.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let primary = role.is_some_and(|standing| standing["role"] == "primary");
    let follow = if primary || manifest.cut.is_some() {
        let position = manifest.end();
        let last = manifest.log.last();
        Some(Follow {
            source: shard,
            position,
            log_chain: last.map_or(Chain::START, |segment| segment.log_chain),
            stream_chain: Chain::START,
            epoch: Epoch(manifest.epoch),
            until: position.sequence,
        })
    } else {
        let prefix = system::applied("");
        let mut sources = Vec::new();
        for found in db.iterator_cf(family, IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = found?;
            let Some(source) = system::applied_source(&key) else { break };
            let Applied { position, log_chain, stream_chain, epoch, .. } =
                serde_json::from_slice(&value).context("reading how far it was with its source")?;
            let (source, until) = (source.parse::<ShardName>()?, position.sequence);
            sources.push(Follow { source, position, log_chain, stream_chain, epoch, until });
        }
        // Of several logs, each has a part of its slots.
        if sources.len() == 1 { sources.pop() } else { None }
    };
    copy.close()?;
    Ok(follow)
}
