//! Seeding: the node's checkpoint is sent, file after file, and the log from there.

use std::path::{Path, PathBuf};

use admin::CheckpointInfo;
use keyspace::{Hlc, SlotSet};
use ops::tls::Socket;
use stream::message::{HAS_RECEIVED, Point, SeedBegin, SeedFile};
use stream::{Class, Connection, Message};
use tokio::task::JoinHandle;
use wal::Chain;

use super::files::{Credit, Files};
use super::session::{Onward, Session, SessionError, other, unexpected};
use crate::cursor::{Cursor, read_facts};
use crate::node::Known;
use crate::spool::Spool;

/// The names of such checkpoints begin so; the follower comes behind.
const PREFIX: &str = "seed-";

/// How long the target's node may take to swap its directory.
const ADOPT_WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

/// A checkpoint of our node, kept until its follower streams.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    begin: SeedBegin,
    history: wal::History,
}

/// That a checkpoint was asked of our node, and may be there.
#[derive(Debug)]
pub(super) struct Asked {
    name: String,
    /// Ends when the node is done with it.
    request: JoinHandle<Result<CheckpointInfo, admin::Error>>,
}

impl Asked {
    /// Waits until the node is done with it, whatever came of it; its name.
    async fn answered(self) -> String {
        // One that was waited for already cannot be waited for again.
        if !self.request.is_finished() {
            let _ = self.request.await;
        }
        self.name
    }
}

/// Removes the checkpoints that a former run of the sidecar had asked for: none goes on with them.
pub(crate) fn clear_seeds(spool: &Spool) {
    let Ok(entries) = std::fs::read_dir(spool.node_dir().join("checkpoints")) else { return };
    let seeds = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    for path in seeds.map(|entry| entry.path()) {
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed what a seed left behind"),
            Err(why) => tracing::warn!("removing {} failed: {why}", path.display()),
        }
    }
}

/// A checkpoint that was just taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) made: CheckpointInfo,
    /// The log from there on.
    pub(super) cursor: Box<Cursor>,
    pub(super) point: Point,
    /// No stamp in it is above this one.
    pub(super) stamp: Hlc,
}

impl Session {
    /// Sends a checkpoint; the stream goes on from its position.
    pub(super) async fn seed(
        &mut self,
        conn: &mut Connection<Socket>,
        known: &Known,
        slots: &SlotSet,
    ) -> Result<Onward, SessionError> {
        if *slots != known.slots {
            return self.seed_slice(conn, known, slots).await;
        }
        self.say("seeding");
        let (cursor, dir, begin) = self.checkpoint(known).await?;
        let point = begin.point;
        conn.writer.message(&Message::SeedBegin(begin.clone())).await?;
        let have = match conn.reader.message().await? {
            Message::SeedHave(have) if have.len() == begin.files.len() => have,
            got => return Err(unexpected(got, "SeedHave, a number for each file").into()),
        };
        conn.writer.set_class(Class::Bulk);
        let sent = |bytes| {
            self.sidecar.metrics.seed_bytes.inc_by(bytes);
            self.sidecar.board.stream(&self.follower, |status| {
                status.sent_bytes += bytes;
                status.seed_bytes += bytes;
            });
        };
        let knows = self.version >= HAS_RECEIVED;
        let window = self.sidecar.config.link.seed_window;
        let credit = knows.then(|| Credit::new(&mut conn.reader, window));
        let mut files = Files { writer: &mut conn.writer, credit, sent: &sent };
        for (index, (file, have)) in (0u32..).zip(begin.files.iter().zip(have)) {
            files.send(index, &dir.join(&file.name), have.min(file.size), file.size).await?;
        }
        conn.writer.set_class(Class::Live);
        conn.writer.message(&Message::SeedEnd).await?;
        self.seed_is_done(conn).await?;
        Ok((cursor, point))
    }

    /// Waits until the target's node has what was sent.
    pub(super) async fn seed_is_done(
        &self,
        conn: &mut Connection<Socket>,
    ) -> Result<(), SessionError> {
        conn.reader.set_deadline(ADOPT_WITHIN);
        loop {
            match conn.reader.message().await? {
                Message::SeedDone => break,
                Message::Received(_) | Message::SliceHave { .. } => {}
                got => return Err(unexpected(got, "SeedDone").into()),
            }
        }
        conn.reader.set_deadline(self.sidecar.config.link.peer_timeout);
        Ok(())
    }

    /// The checkpoint of a former connection, if the log still goes on from there, or a new one.
    async fn checkpoint(
        &mut self,
        known: &Known,
    ) -> Result<(Box<Cursor>, PathBuf, SeedBegin), SessionError> {
        if let Some(held) = &self.checkpoint {
            let at = held.begin.point.position;
            match Cursor::open(&self.sidecar.spool, &known.database, &held.history, at) {
                Ok(cursor) if held.path.exists() => {
                    return Ok((Box::new(cursor), held.path.clone(), held.begin.clone()));
                }
                _ => self.drop_checkpoint().await,
            }
        }
        let Taken { made, cursor, point, stamp } = self.take_checkpoint().await?;
        let files = list(&made.path).map_err(|error| {
            other(&format!("cannot list the checkpoint {}: {error}", made.path.display()))
        })?;
        let begin = SeedBegin { id: rand::random(), point, stamp: stamp.0, files };
        let (path, history) = (made.path, made.history);
        self.checkpoint = Some(Checkpoint { path: path.clone(), begin: begin.clone(), history });
        Ok((cursor, path, begin))
    }

    /// Has the node take a checkpoint, with the log pinned from before it on.
    pub(super) async fn take_checkpoint(&mut self) -> Result<Taken, SessionError> {
        let name = format!("{PREFIX}{}-{}", self.follower.cluster, self.follower.shard);
        let node = self.sidecar.node.own_client().await?;
        // From here on the log must stay, until the stream starts.
        self.pin.hold();
        if let Some(asked) = self.asked.take() {
            // Of a connection that ended meanwhile: what it left is dropped below.
            asked.answered().await;
        }
        node.drop_checkpoint(&name).await?;
        // A task of its own, so that it is known when the node is done with it: whoever gives this
        // stream up waits for that, and nothing appears after the last look.
        let ask = {
            let name = name.clone();
            async move { node.checkpoint(&name).await }
        };
        let asked = self.asked.insert(Asked { name, request: tokio::spawn(ask) });
        let made = match (&mut asked.request).await {
            Ok(made) => made?,
            Err(why) => {
                return Err(other(&format!("asking the node for a checkpoint failed: {why}")));
            }
        };
        let database = crate::identity::DatabaseId::parse(&made.database)
            .ok_or_else(|| other("the node's checkpoint names no database"))?;
        self.sidecar.spool.scan().map_err(crate::cursor::CursorError::from)?;
        let cursor = Cursor::open(&self.sidecar.spool, &database, &made.history, made.position)?;
        let facts = read_facts(&self.sidecar.spool, &database)?;
        let stamp = facts.stamp.max(Hlc::new(ops::clock::unix_ms(), 0));
        let point = Point {
            position: made.position,
            log_chain: cursor.chain(),
            stream_chain: Chain::START,
        };
        Ok(Taken { made, cursor: Box::new(cursor), point, stamp })
    }

    /// Removes the checkpoint; a node that does not answer keeps it until the next seed.
    pub(super) async fn drop_checkpoint(&mut self) {
        self.checkpoint = None;
        self.slice = None;
        let Some(asked) = self.asked.take() else { return };
        let name = asked.answered().await;
        if let Ok(node) = self.sidecar.node.client().await
            && let Err(error) = node.drop_checkpoint(&name).await
        {
            tracing::warn!("checkpoint {name} stays: {error}");
        }
    }
}

fn list(dir: &Path) -> std::io::Result<Vec<SeedFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let (Ok(name), true) = (name, entry.file_type()?.is_file()) else { continue };
        // The node's own words about its directory: the target writes its own.
        if name == crate::identity::FILE || name == admin::Adopt::FILE || name == "LOCK" {
            continue;
        }
        files.push(SeedFile { name, size: entry.metadata()?.len() });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_removes_what_seeds_of_a_former_run_left_and_nothing_else() {
        let node = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(node.path().join("db")).unwrap();
        let spool = Spool::open(node.path()).unwrap();
        // Nothing was ever asked for.
        clear_seeds(&spool);
        let checkpoints = node.path().join("checkpoints");
        for name in ["seed-b-0", "seed-c-11", "archive", "by-hand", "drill-seed-1"] {
            std::fs::create_dir_all(checkpoints.join(name)).unwrap();
            std::fs::write(checkpoints.join(name).join("000007.sst"), b"x").unwrap();
        }
        clear_seeds(&spool);
        let left = std::fs::read_dir(&checkpoints).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["archive", "by-hand", "drill-seed-1"]);
    }
}
