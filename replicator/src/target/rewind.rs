//! Rewinding this side's node: the ledger first, then every key that was touched past the fork, and
//! all slots that were emptied, are replaced by the source's. Interrupted, it begins again; each step
//! may be done twice.

use std::time::Duration;

use admin::{Measured, Status};
use keyspace::SlotSet;
use stream::message::{HAS_RECORDS, HAS_SLOTS, Incoming, Point};
use stream::{Message, WireError};
use wal::{Position, Sequence};

use super::ledger::Stranded;
use super::session::{Session, SessionError, follow};

/// Keys asked for at a time.
const KEYS_AT_A_TIME: usize = 512;
/// Bytes of their names at a time.
const KEY_BYTES_AT_A_TIME: usize = 1 << 20;
/// How long the source may take to read them.
const EXPORT_WITHIN: Duration = Duration::from_secs(60);
/// Whole slots of up to so many bytes, on both sides together, are always fetched: a seed makes the
/// source take a checkpoint and the node open another database, however little there is.
const SLOTS_ALWAYS: u64 = 64 << 20;

/// What was asked for, or what the node says once the source, which could not hand it out, has seeded it
/// instead: the ledger is written, so nothing is thrown away.
type Fetched<T> = Result<T, Box<Status>>;

impl Session {
    /// Rewinds the database that said `settled`, or tells the source why it cannot be; what the node
    /// says then. The caller holds the gate.
    pub(super) async fn rewind(
        &mut self,
        fork: Position,
        resume: Point,
        settled: &Status,
    ) -> Result<Status, SessionError> {
        let again = settled.clone();
        let stranded = match self.strand(fork, settled).await {
            Ok(stranded) => stranded,
            Err(reason) => return self.cannot_rewind(reason, again).await,
        };
        if let Some(reason) = stranded.untold {
            return self.cannot_rewind(reason, again).await;
        }
        if let Some(reason) = self.records_cannot_be(&stranded, settled) {
            return self.cannot_rewind(reason, again).await;
        }
        // A rewind is to one log, and asks one source for what all its keys are now.
        let view = self.sidecar.service.view();
        let sources = view.record().map(|record| record.sources_of(&self.sidecar.shard));
        if let Some(others) = sources.filter(|sources| sources.len() > 1) {
            let reason = format!("its slots come from {} shards now", others.len());
            return self.cannot_rewind(reason, again).await;
        }
        // Only after the ledger: what a seed throws away is kept there.
        let status = self.status_again(settled).await?;
        let reclaimed = status.reclaim.reclaimed.own.filter(|own| own.sequence > fork.sequence);
        if let Some(reclaimed) = reclaimed {
            let reason = format!(
                "space was reclaimed here up to {reclaimed}, past the fork {fork}: what was live there \
                 may be gone"
            );
            return self.cannot_rewind(reason, again).await;
        }
        self.conn.reader.set_deadline(EXPORT_WITHIN);
        let slots = stranded.flushed_slots().intersection(&status.slots);
        if let Some(reason) = self.slots_are_too_much(&slots).await? {
            return self.cannot_rewind(reason, again).await;
        }
        // Where its log is since this began: the fork was found on that one.
        let node = self.sidecar.node.own_client().await?.on(settled);
        node.rewind_begin(&self.source, fork).await?;
        for load in &stranded.loads {
            node.rewind_forget(load.id).await?;
        }
        let mut until: Sequence = resume.position.sequence;
        // What is in a slot that is fetched whole comes with it.
        let alone = |key: &Vec<u8>| !slots.contains(keyspace::Slot::of_key(key));
        let keys: Vec<Vec<u8>> = stranded.keys.into_keys().filter(alone).collect();
        for chunk in chunks(&keys) {
            self.conn.writer.message(&Message::Keys(chunk.to_vec())).await?;
            let (position, batch) = match self.exported(settled).await? {
                Ok(exported) => exported,
                Err(seeded) => return Ok(*seeded),
            };
            let chunk: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            node.rewind_keys(&chunk, &batch).await?;
            until = until.max(position.sequence);
        }
        let records: Vec<Vec<u8>> = stranded.records.into_keys().collect();
        for chunk in chunks(&records) {
            self.conn.writer.message(&Message::Records(chunk.to_vec())).await?;
            let (position, batch) = match self.exported(settled).await? {
                Ok(exported) => exported,
                Err(seeded) => return Ok(*seeded),
            };
            let chunk: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            node.rewind_records(&chunk, &batch).await?;
            until = until.max(position.sequence);
        }
        if !slots.is_empty() {
            match self.fetch_slots(&node, &slots, settled).await? {
                Ok(position) => until = until.max(position),
                Err(seeded) => return Ok(*seeded),
            }
        }
        node.rewind_end(follow(self.source.clone(), self.epoch, resume, until)).await?;
        self.inbound.restart_at(resume)?;
        let status = self.brought_to(resume).await?;
        self.conn.writer.message(&Message::RewindDone).await?;
        Ok(status)
    }

    /// Why stranded records of no slot cannot be fetched, if there are any.
    fn records_cannot_be(&self, stranded: &Stranded, settled: &Status) -> Option<String> {
        let count = stranded.records.len();
        let older = match (self.version < HAS_RECORDS, settled.control < Status::HAS_RECORDS) {
            _ if count == 0 => return None,
            (true, _) => "the source's sidecar",
            (false, true) => "this node",
            (false, false) => return None,
        };
        Some(format!(
            "it changed {count} users or libraries of functions past the fork, and {older} is older and knows nothing of fetching those"
        ))
    }

    async fn cannot_rewind(
        &mut self,
        reason: String,
        settled: Status,
    ) -> Result<Status, SessionError> {
        tracing::warn!(source = %self.source, "cannot rewind: {reason}; it is seeded instead");
        self.conn.writer.message(&Message::CannotRewind { reason }).await?;
        Ok(settled)
    }

    /// Why a seed is cheaper than fetching these slots, if it is.
    async fn slots_are_too_much(
        &mut self,
        slots: &SlotSet,
    ) -> Result<Option<String>, SessionError> {
        if slots.is_empty() {
            return Ok(None);
        }
        if self.version < HAS_SLOTS {
            let reason = "the source's sidecar is older, and knows nothing of fetching whole slots";
            return Ok(Some(reason.to_owned()));
        }
        let ours = self.sidecar.node.client().await?.measure(slots).await?;
        self.conn.writer.message(&Message::MeasureSlots(slots.clone())).await?;
        let theirs = match self.conn.reader.message().await? {
            Message::SlotsMeasured { bytes, all_bytes } => {
                Measured { bytes, all_bytes, all_keys: 0 }
            }
            got => {
                let (got, want) = (Incoming::Message(got).name(), "SlotsMeasured");
                return Err(WireError::Unexpected { got, want }.into());
            }
        };
        let said = format!(
            "the slots {slots}, which were emptied past the fork, hold about {} bytes there and {} here, and everything there is {} bytes",
            theirs.bytes, ours.bytes, theirs.all_bytes
        );
        if is_cheaper(&theirs, &ours) {
            tracing::info!(source = %self.source, "{said}: they are fetched, which is cheaper than a seed");
            return Ok(None);
        }
        Ok(Some(format!("{said}: a seed is cheaper than fetching them")))
    }

    /// Replaces all that these slots hold; up to where of the source it was read.
    async fn fetch_slots(
        &mut self,
        node: &admin::Client,
        slots: &SlotSet,
        settled: &Status,
    ) -> Result<Fetched<Sequence>, SessionError> {
        node.rewind_slots(slots).await?;
        let (mut after, mut until) = (Vec::new(), Sequence(0));
        loop {
            let ask = Message::ExportSlots { slots: slots.clone(), after };
            self.conn.writer.message(&ask).await?;
            let next = match self.conn.reader.message().await? {
                Message::SlotsExported { next } => next,
                Message::SeedBegin(begin) => {
                    return Ok(Err(self.receive_seed(begin, settled).await?.into()));
                }
                Message::SliceBegin(begin) => {
                    return Ok(Err(self.receive_slice(begin, settled).await?.into()));
                }
                got => {
                    let (got, want) = (Incoming::Message(got).name(), "SlotsExported");
                    return Err(WireError::Unexpected { got, want }.into());
                }
            };
            let (position, batch) = match self.exported(settled).await? {
                Ok(exported) => exported,
                Err(seeded) => return Ok(Err(seeded)),
            };
            node.rewind_put(slots, &batch).await?;
            until = until.max(position.sequence);
            match next {
                Some(next) => after = next,
                None => return Ok(Ok(until)),
            }
        }
    }

    /// The records that were asked for.
    async fn exported(
        &mut self,
        settled: &Status,
    ) -> Result<Fetched<(Position, bytes::Bytes)>, SessionError> {
        loop {
            match self.conn.reader.incoming().await? {
                Incoming::Exported { position, batch } => return Ok(Ok((position, batch))),
                Incoming::Message(Message::Ping) => {}
                Incoming::Message(Message::SeedBegin(begin)) => {
                    return Ok(Err(self.receive_seed(begin, settled).await?.into()));
                }
                Incoming::Message(Message::SliceBegin(begin)) => {
                    return Ok(Err(self.receive_slice(begin, settled).await?.into()));
                }
                got => {
                    let want = "exported records";
                    return Err(WireError::Unexpected { got: got.name(), want }.into());
                }
            }
        }
    }

    /// Writes the ledger and finds what was touched; in words, why that is not possible.
    pub(super) async fn strand(&self, fork: Position, status: &Status) -> Result<Stranded, String> {
        super::strand::strand(&self.sidecar, fork, status).await
    }
}

/// Whether fetching slots is cheaper than a seed. What is fetched goes through the node's memory and
/// its compactions, as what it replaces does, and a seed's files only over the wire: so both sides'
/// bytes count, and half of everything is the bound.
fn is_cheaper(theirs: &Measured, ours: &Measured) -> bool {
    let moved = theirs.bytes.saturating_add(ours.bytes);
    moved <= SLOTS_ALWAYS.max(theirs.all_bytes / 2)
}

fn chunks(keys: &[Vec<u8>]) -> impl Iterator<Item = &[Vec<u8>]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(chunk_len(rest));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// How many of these keys are asked for at a time: one at least, if there is one.
pub(super) fn chunk_len(keys: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = keys.iter().take(KEYS_AT_A_TIME).take_while(|key| {
        bytes += key.len();
        bytes <= KEY_BYTES_AT_A_TIME || bytes == key.len()
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_fetched_while_that_is_less_than_a_seed() {
        let check = |theirs: u64, ours: u64, all: u64, cheaper: bool| {
            let theirs = Measured { bytes: theirs, all_bytes: all, all_keys: 0 };
            let ours = Measured { bytes: ours, ..Measured::default() };
            assert_eq!(is_cheaper(&theirs, &ours), cheaper, "{theirs:?} {ours:?}");
        };
        check(1 << 20, 0, 1 << 20, true);
        check(SLOTS_ALWAYS, 0, SLOTS_ALWAYS, true);
        check(1 << 30, 0, 1 << 30, false);
        check(1 << 30, 0, 4 << 30, true);
        check(1 << 30, 2 << 30, 4 << 30, false);
    }
}
