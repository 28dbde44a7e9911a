//! Seeding a follower of another shape: what both have in common is read from a checkpoint of our
//! node and written into table files, which are sent as they are made.
//!
//! It is done here and not in the node: this process may be bounded, slowed down and killed, and the
//! node does no more than take a checkpoint. What it costs is bounded too: one thread writes, for one
//! follower at a time, and it waits when [`AHEAD`] files of [`FILE_BYTES`] wait to be sent; so it is no
//! faster than the link, and slows down with it when the node is slow.

mod rewrite;

use std::collections::VecDeque;
use std::path::PathBuf;

use keyspace::SlotSet;
use ops::tls::Socket;
use stream::conn::PING_EVERY;
use stream::message::{HAS_SLICES, SliceBegin, SliceFile};
use stream::{Class, Connection, Message};
use tables::Piece;
use tokio::sync::mpsc;
use wal::History;

use super::files::{Credit, Files};
use super::session::{Onward, Session, SessionError, other, unexpected};
use crate::cursor::Cursor;
use crate::node::Known;
use crate::spool::Spool;
use rewrite::Made;

/// Bytes of records in a table file, about.
const FILE_BYTES: u64 = 64 << 20;
/// Files that are whole and wait to be sent.
const AHEAD: usize = 1;
/// The directory of such files in the spool.
const DIR: &str = "slices";

/// A checkpoint that is being rewritten, with what was made of it and the follower has not got yet;
/// kept until that streams.
#[derive(Debug)]
pub(super) struct Slice {
    begin: SliceBegin,
    history: History,
    files: Scratch,
    made: mpsc::Receiver<Result<Made, String>>,
    /// Made and perhaps not at the follower, in order.
    kept: VecDeque<Piece>,
    /// Files before this one are gone.
    first: u32,
    /// How many there are, once that is known.
    count: Option<u32>,
    failed: bool,
}

/// A directory that goes with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed at the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what a former run of the sidecar had made.
pub(crate) fn clear_slices(spool: &Spool) {
    let dir = spool.root().join(DIR);
    if let Err(why) = std::fs::remove_dir_all(&dir)
        && why.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("removing {} failed: {why}; it may be removed by hand", dir.display());
    }
}

impl Slice {
    /// Whether it can go on with this file: the follower has those before it.
    fn goes_on(&mut self, next: u32) -> bool {
        let made = self.first + u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        let here = self.first <= next && next <= made;
        if here {
            self.forget(next);
        }
        here
    }

    /// The follower has the files before this one.
    fn forget(&mut self, before: u32) {
        while self.kept.front().is_some_and(|piece| piece.index < before) {
            let Some(piece) = self.kept.pop_front() else { return };
            self.first = piece.index + 1;
            if let Err(why) = std::fs::remove_file(&piece.path) {
                tracing::warn!("removing {} failed: {why}", piece.path.display());
            }
        }
    }

    /// The file with this number, once it is made; `None` behind the last. May be dropped half-way.
    async fn piece(&mut self, index: u32) -> Result<Option<Piece>, SessionError> {
        loop {
            if let Some(piece) = self.kept.iter().find(|piece| piece.index == index) {
                return Ok(Some(piece.clone()));
            }
            if self.count.is_some_and(|count| index >= count) {
                return Ok(None);
            }
            let ended = || Err("the thread that reads the checkpoint ended".to_owned());
            match self.made.recv().await.unwrap_or_else(ended) {
                Ok(Made::Piece(piece)) => self.kept.push_back(piece),
                Ok(Made::All(count)) => self.count = Some(count),
                Err(why) => {
                    self.failed = true;
                    return Err(other(&format!(
                        "rewriting slots {} for it: {why}; it is tried again",
                        self.begin.slots
                    )));
                }
            }
        }
    }
}

impl Session {
    /// Sends what is in the slots that both have; the stream goes on from there.
    pub(super) async fn seed_slice(
        &mut self,
        conn: &mut Connection<Socket>,
        known: &Known,
        theirs: &SlotSet,
    ) -> Result<Onward, SessionError> {
        if self.version < HAS_SLICES {
            return Err(other(&format!(
                "it must be seeded and has slots {theirs} where this shard has {}, and its sidecar is of a version without seeds of another shape: upgrade it",
                known.slots
            )));
        }
        self.say("seeding");
        let keep = theirs.intersection(&known.slots);
        let (cursor, mut slice) = self.slice(known, &keep).await?;
        let sent = self.send_slice(conn, &mut slice).await;
        let point = slice.begin.point;
        // Also after an error: another connection goes on with it.
        self.slice = Some(slice);
        sent?;
        self.seed_is_done(conn).await?;
        Ok((cursor, point))
    }

    async fn send_slice(
        &self,
        conn: &mut Connection<Socket>,
        slice: &mut Slice,
    ) -> Result<(), SessionError> {
        conn.writer.message(&Message::SliceBegin(slice.begin.clone())).await?;
        let (mut next, mut have) = match conn.reader.message().await? {
            Message::SliceHave { files, bytes } => (files, bytes),
            got => return Err(unexpected(got, "SliceHave").into()),
        };
        if !slice.goes_on(next) {
            slice.failed = true;
            let why = format!(
                "it has {next} files of the seed, and the next one is gone here: it is seeded anew"
            );
            return Err(other(&why));
        }
        conn.writer.set_class(Class::Bulk);
        let sent = |bytes| {
            self.sidecar.metrics.seed_bytes.inc_by(bytes);
            self.sidecar.board.stream(&self.follower, |status| {
                status.sent_bytes += bytes;
                status.seed_bytes += bytes;
            });
        };
        let window = self.sidecar.config.link.seed_window;
        let credit = Some(Credit::new(&mut conn.reader, window));
        let mut files = Files { writer: &mut conn.writer, credit, sent: &sent };
        loop {
            let piece = loop {
                tokio::select! {
                    piece = slice.piece(next) => break piece?,
                    () = tokio::time::sleep(PING_EVERY) => files.writer.message(&Message::Ping).await?,
                }
            };
            let Some(Piece { index: file, family, path, size }) = piece else { break };
            let announced = SliceFile { file, family: family.id(), size };
            files.writer.message(&Message::SliceFile(announced)).await?;
            files.send(file, &path, have.min(size), size).await?;
            (next, have) = (next + 1, 0);
            slice.forget(files.credit.as_ref().map_or(0, |credit| credit.whole));
        }
        conn.writer.set_class(Class::Live);
        conn.writer.message(&Message::SliceEnd { files: next }).await?;
        Ok(())
    }

    /// The slice that a former connection began to send, if the log still goes on from there, or a
    /// new one.
    async fn slice(
        &mut self,
        known: &Known,
        keep: &SlotSet,
    ) -> Result<(Box<Cursor>, Slice), SessionError> {
        if let Some(held) = self.slice.take_if(|held| !held.failed && held.begin.slots == *keep) {
            let at = held.begin.point.position;
            let spool = &self.sidecar.spool;
            if let Ok(cursor) = Cursor::open(spool, &known.database, &held.history, at) {
                return Ok((Box::new(cursor), held));
            }
        }
        self.drop_checkpoint().await;
        let taken = self.take_checkpoint().await?;
        let path = taken.made.path.clone();
        let opened = tokio::task::spawn_blocking(move || rewrite::open(&path)).await;
        let (db, horizon_ms, loaded) = opened
            .map_err(|error| other(&error.to_string()))?
            .map_err(|why| other(&format!("the checkpoint cannot be read: {why:#}")))?;
        let id: u128 = rand::random();
        let dir = self.sidecar.spool.root().join(DIR).join(format!("{id:032x}"));
        std::fs::create_dir_all(&dir)
            .map_err(|why| other(&format!("cannot make {}: {why}", dir.display())))?;
        let files = Scratch(dir);
        let turn = self.sidecar.rewriting.clone();
        let made = rewrite::start(db, files.0.clone(), keep.clone(), turn)
            .map_err(|why| other(&format!("cannot start a thread: {why}")))?;
        let begin = SliceBegin {
            id,
            point: taken.point,
            stamp: taken.stamp.0,
            slots: keep.clone(),
            horizon_ms,
            loaded,
        };
        let slice = Slice {
            begin,
            history: taken.made.history,
            files,
            made,
            kept: VecDeque::new(),
            first: 0,
            count: None,
            failed: false,
        };
        tracing::info!(follower = %self.follower, slots = %keep, at = %taken.point.position, files = %slice.files.0.display(), "a seed of another shape");
        Ok((taken.cursor, slice))
    }
}
