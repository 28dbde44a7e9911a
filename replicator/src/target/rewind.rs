//! Rewinding this side's node: the ledger first, then every key that was touched past the fork is
//! replaced by the source's. Interrupted, it begins again; each step may be done twice.

use std::time::Duration;

use stream::message::{Incoming, Point};
use stream::{Message, WireError};
use wal::{Position, Sequence};

use super::ledger::{Stranded, write_ledger};
use super::session::{Session, SessionError, follow};
use crate::cursor::Cursor;

/// Keys asked for at a time.
const KEYS_AT_A_TIME: usize = 512;
/// Bytes of their names at a time.
const KEY_BYTES_AT_A_TIME: usize = 1 << 20;
/// How long the source may take to read them.
const EXPORT_WITHIN: Duration = Duration::from_secs(60);

impl Session {
    /// Rewinds, or tells the source why it cannot be. The caller holds the gate.
    pub(super) async fn rewind(
        &mut self,
        fork: Position,
        resume: Point,
    ) -> Result<(), SessionError> {
        let stranded = match self.strand(fork).await {
            Ok(stranded) => stranded,
            Err(reason) => {
                tracing::warn!(source = %self.source, "cannot rewind: {reason}; it is seeded instead");
                self.conn.writer.message(&Message::CannotRewind { reason }).await?;
                return Ok(());
            }
        };
        // Only after the ledger: what a seed throws away is kept there.
        let reclaimed = self.sidecar.node.status().await?.reclaim.reclaimed.own;
        if let Some(reclaimed) = reclaimed.filter(|own| own.sequence > fork.sequence) {
            let reason = format!(
                "space was reclaimed here up to {reclaimed}, past the fork {fork}: what was live there \
                 may be gone"
            );
            tracing::warn!(source = %self.source, "cannot rewind: {reason}; it is seeded instead");
            self.conn.writer.message(&Message::CannotRewind { reason }).await?;
            return Ok(());
        }
        let node = self.sidecar.node.own_client().await?;
        node.rewind_begin(&self.source, fork).await?;
        self.conn.reader.set_deadline(EXPORT_WITHIN);
        let mut until: Sequence = resume.position.sequence;
        let keys: Vec<Vec<u8>> = stranded.keys.into_iter().collect();
        for chunk in chunks(&keys) {
            self.conn.writer.message(&Message::Keys(chunk.to_vec())).await?;
            let (position, batch) = loop {
                match self.conn.reader.incoming().await? {
                    Incoming::Exported { position, batch } => break (position, batch),
                    Incoming::Message(Message::Ping) => {}
                    // It cannot hand them out; the ledger is written, so nothing is thrown away.
                    Incoming::Message(Message::SeedBegin(begin)) => {
                        return self.receive_seed(begin).await;
                    }
                    got => {
                        let want = "exported records";
                        return Err(WireError::Unexpected { got: got.name(), want }.into());
                    }
                }
            };
            let chunk: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            node.rewind_keys(&chunk, &batch).await?;
            until = until.max(position.sequence);
        }
        node.rewind_end(follow(self.source.clone(), self.epoch, resume, until)).await?;
        self.inbound.restart_at(resume)?;
        self.conn.writer.message(&Message::RewindDone).await?;
        Ok(())
    }

    /// Writes the ledger and finds the keys; in words, why that is not possible.
    pub(super) async fn strand(&self, fork: Position) -> Result<Stranded, String> {
        let status = self.sidecar.node.status().await.map_err(|error| error.to_string())?;
        let end = status.own_end.ok_or("the node has not been a primary since it was seeded")?;
        let database =
            crate::identity::DatabaseId::parse(&status.database).ok_or("it has no database")?;
        let sidecar = self.sidecar.clone();
        let work = move || {
            let spool = &sidecar.spool;
            spool.scan().map_err(|error| error.to_string())?;
            let cursor = Cursor::open(spool, &database, &status.history, fork)
                .map_err(|error| error.to_string())?;
            let (shard, dir) = (sidecar.shard.to_string(), spool.root().join("ledger"));
            write_ledger(cursor, end, &status.slots, &sidecar.config.service, &shard, &dir)
        };
        let (stranded, path) =
            tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())??;
        tracing::warn!(
            %fork, %end, batches = stranded.batches, keys = stranded.keys.len(), ledger = %path.display(),
            "stranded: acknowledged here and received by nobody before the switch; kept in the ledger, taken back in the database"
        );
        Ok(stranded)
    }
}

fn chunks(keys: &[Vec<u8>]) -> impl Iterator<Item = &[Vec<u8>]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(KEYS_AT_A_TIME).take_while(|key| {
            bytes += key.len();
            bytes <= KEY_BYTES_AT_A_TIME || bytes == key.len()
        });
        let count = fits.count();
        let (chunk, after) = rest.split_at(count);
        rest = after;
        (count > 0).then_some(chunk)
    })
}
