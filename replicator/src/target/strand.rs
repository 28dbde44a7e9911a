//! The ledger of an old primary: its stranded batches from its log, and what the keys that they
//! touched hold now, before anything is taken back.

use std::path::Path;
use std::sync::Arc;

use admin::Status;
use topology::members::Role;
use wal::Position;
use wal::segment::SegmentHeader;

use super::ledger::{Stranded, write_ledger};
use super::rewind::chunk_len;
use crate::cursor::Cursor;
use crate::ledger::{Entry, Head, KEYS, Touched, Value, What, Writer, values_of};
use crate::sidecar::Sidecar;

/// Writes the ledger of the database that says this and finds what was touched; in words, why that is
/// not possible.
pub(super) async fn strand(
    sidecar: &Arc<Sidecar>,
    fork: Position,
    status: &Status,
) -> Result<Stranded, String> {
    let end = status.own_end.ok_or("the node has not been a primary since it was seeded")?;
    let database =
        crate::identity::DatabaseId::parse(&status.database).ok_or("it has no database")?;
    let (shared, history, slots) = (sidecar.clone(), status.history.clone(), status.slots.clone());
    let work = move || {
        let spool = &shared.spool;
        spool.scan().map_err(|error| error.to_string())?;
        let cursor = Cursor::open(spool, &database, &history, fork).map_err(|e| e.to_string())?;
        let (shard, dir) = (shared.shard.to_string(), spool.root().join("ledger"));
        write_ledger(cursor, end, &slots, &shared.config.service, &shard, &dir)
    };
    let (mut stranded, path) =
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())??;
    let in_log = stranded.keys.clone();
    let node = sidecar.node.own_client().await.map_err(|error| error.to_string())?.on(status);
    if stranded.untold.is_none() {
        stranded.untold = loaded_keys(&node, &mut stranded).await.err();
    }
    keep_loads(sidecar, &stranded, &path);
    let path = path.with_extension(KEYS);
    // A rewind that was interrupted has replaced values already: those of the first try hold.
    if !path.exists() {
        let head = Head {
            service: SegmentHeader::service_of(&sidecar.config.service),
            source: sidecar.shard.to_string(),
            fork,
            end: end.sequence,
            stamp: stranded.stamp,
        };
        let begun = status.role == Role::Rewinding;
        write_entries(&node, &head, &stranded, &in_log, begun, &path).await?;
    }
    tracing::warn!(
        %fork, %end, batches = stranded.batches, keys = stranded.keys.len(), records = stranded.records.len(), ledger = %path.display(),
        "stranded: acknowledged here and received by nobody before the switch; kept in the ledger, taken back in the database"
    );
    Ok(stranded)
}

/// Links the files of stranded loads into directories beside the ledger, where they can be taken in
/// from again: those of the node go once nobody follows it.
fn keep_loads(sidecar: &Sidecar, stranded: &Stranded, path: &Path) {
    for load in &stranded.loads {
        let from = sidecar.spool.node_dir().join(admin::Intent::DIR).join(&load.dir);
        let to = path.with_extension(format!("load-{:032x}", load.id));
        if let Err(why) = link_files(&from, &to) {
            tracing::error!(
                load = %format_args!("{:032x}", load.id),
                "a load that was taken in past the fork is not kept, {} to {}: {why}; whoever built it has it",
                from.display(),
                to.display()
            );
        }
    }
}

fn link_files(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = to.join(entry.file_name());
        let plain = entry.file_type()?.is_file() && entry.file_name() != admin::Intent::TAKEN;
        if plain && !name.exists() {
            std::fs::hard_link(entry.path(), name)?;
        }
    }
    Ok(())
}

/// Adds the keys that loads brought. Those of a load that are too many are fetched by slots.
async fn loaded_keys(node: &admin::Client, stranded: &mut Stranded) -> Result<(), String> {
    for load in stranded.loads.clone() {
        let mut after = Vec::new();
        loop {
            let page = node.stamped(&load.slots, load.stamp, &after).await;
            let page = page.map_err(|error| error.to_string())?;
            let added = page.keys.iter().try_for_each(|key| stranded.touch(key, load.touched));
            if added.is_err() {
                stranded.flushed.push((load.touched, load.slots.clone()));
                break;
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    Ok(())
}

/// Writes the entries: of the keys that the log names; those of a load are in its files.
async fn write_entries(
    node: &admin::Client,
    head: &Head,
    stranded: &Stranded,
    in_log: &std::collections::BTreeMap<Vec<u8>, Touched>,
    begun: bool,
    path: &Path,
) -> Result<(), String> {
    let failed = |error: crate::ledger::LedgerError| error.to_string();
    let mut writer = Writer::create(path, head).map_err(failed)?;
    for (touched, slots) in &stranded.flushed {
        let what = What::Flushed(slots.clone());
        writer.add(&Entry { touched: *touched, what }).map_err(failed)?;
    }
    for (key, (touched, value)) in &stranded.records {
        let what = What::Record { key: key.clone(), value: value.clone() };
        writer.add(&Entry { touched: *touched, what }).map_err(failed)?;
    }
    for load in &stranded.loads {
        let what = What::Load { id: load.id, slots: load.slots.clone() };
        writer.add(&Entry { touched: load.touched, what }).map_err(failed)?;
    }
    let keys: Vec<Vec<u8>> = in_log.keys().cloned().collect();
    let mut rest = keys.as_slice();
    let mut most = usize::MAX;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_len(rest).min(most));
        let names: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        let exported = match begun {
            true => Err("its rewind had begun when this ledger was written".to_owned()),
            false => match node.export(&names).await {
                Ok(exported) => Ok(values_of(&exported.batch)?),
                // Together they are more than a batch may be.
                Err(error) if error.code() == Some(admin::Code::Err) && chunk.len() > 1 => {
                    most = chunk.len() / 2;
                    continue;
                }
                Err(error) if error.code() == Some(admin::Code::Err) => Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            },
        };
        for key in chunk {
            let value = match &exported {
                Ok(values) => values.get(key).cloned().unwrap_or(Value::Deleted),
                Err(why) => Value::Unknown(why.clone()),
            };
            let touched = in_log.get(key).copied().unwrap_or_default();
            let what = What::Key { key: key.clone(), value };
            writer.add(&Entry { touched, what }).map_err(failed)?;
        }
        (rest, most) = (after, usize::MAX);
    }
    if let Some(why) = &stranded.untold {
        let what = What::Other(format!("{why}; the segment beside this file has all of it"));
        writer.add(&Entry { touched: Touched::default(), what }).map_err(failed)?;
    }
    writer.finish().map_err(failed).map(drop)
}
