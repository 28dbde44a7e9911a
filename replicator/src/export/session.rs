//! One export, step by step as [`stream::export`] has it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyspace::Hlc;
use stream::export::{Arrived, Begun, End, Export, Open, Ready, next, pinging, send};
use stream::{Reader, WireError, Writer};
use tokio::io::{AsyncRead, AsyncWrite};
use topology::members::Role;
use wal::segment::SegmentHeader;
use wal::{History, Position};

use super::files::Listing;
use super::last::Exporting;
use super::log::{self, Log, Reached};
use super::pieces::Sending;
use super::remember::Remembered;
use super::{Context, ExportError, Exported, refuse_half_filled};
use crate::archive::Limit;
use crate::checkpoint;
use crate::cursor::read_facts;
use crate::identity::DatabaseId;

/// How long a digest may take: it reads all that the node holds.
const DIGEST_WITHIN: std::time::Duration = std::time::Duration::from_secs(3600);

/// An export.
pub(super) struct Session<'a, R, W> {
    reader: &'a mut Reader<R>,
    writer: &'a mut Writer<W>,
    ctx: &'a Context,
    node: &'a admin::Client,
    open: &'a Open,
    /// The checkpoint's.
    name: &'a str,
    checkpoint: bool,
}

/// What was begun.
struct Work {
    begun: Begun,
    database: DatabaseId,
    /// The log from there on; none on a standby.
    log: Option<Log>,
    files: Option<Arc<Listing>>,
    /// Where the checkpoint is, if there is one.
    path: Option<PathBuf>,
    /// The barrier whose digest was asked for.
    barrier: Option<admin::Barrier>,
}

/// Stops a thread that reads when nobody waits for what it finds.
struct Stops(Arc<AtomicBool>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl<'a, R, W> Session<'a, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pub(super) fn new(
        reader: &'a mut Reader<R>,
        writer: &'a mut Writer<W>,
        ctx: &'a Context,
        node: &'a admin::Client,
        open: &'a Open,
        name: &'a str,
    ) -> Self {
        Self { reader, writer, ctx, node, open, name, checkpoint: false }
    }

    /// Whether the node has a checkpoint that this made.
    pub(super) fn holds_checkpoint(&self) -> bool {
        self.checkpoint
    }

    /// Runs it to its end.
    pub(super) async fn run(&mut self) -> Result<Exported, ExportError> {
        let keeping = self.ctx.lasts.exporting();
        let status = self.node.status().await?;
        refuse_half_filled(&status, &self.ctx.shard)?;
        let remembered = self.remembered(&status.database).await?;
        let ready = self.ready(&status, &remembered).await?;
        send(self.writer, &Export::Ready(Box::new(ready))).await?;
        let mut work = loop {
            let asked = match next(self.reader).await {
                // Whoever only wants to know whether the log is there has its answer.
                Err(WireError::Closed) => return Ok(Exported::Asked),
                asked => asked?,
            };
            match asked {
                Arrived::Message(Export::Begin { log: false }) => {
                    break self.begin_files(&remembered).await?;
                }
                Arrived::Message(Export::Begin { log: true }) => {
                    match self.begin_log(&status).await {
                        Ok(work) => break work,
                        Err(why) => send(self.writer, &Export::NoLog { why }).await?,
                    }
                }
                other => return Err(other.unexpected("Begin").into()),
            }
        };
        if let Some(log) = &work.log {
            keeping.begins_at(&work.database, log.cursor.file().number);
        }
        if self.open.digest && work.begun.cuttable {
            let barrier = self.node.barrier().await?;
            // The cut comes behind it: the barrier's stamp is not above the clock as it is now.
            work.begun.stamp = work.begun.stamp.max(wall());
            work.barrier = Some(barrier);
        }
        send(self.writer, &Export::Begun(Box::new(work.begun.clone()))).await?;
        let cut = match next(self.reader).await? {
            Arrived::Message(Export::Cut(cut)) => cut,
            other => return Err(other.unexpected("Cut").into()),
        };
        let limit = || Limit::new(self.open.bandwidth.unwrap_or(u64::MAX));
        let log_only = work.files.is_none();
        let (reached, mut sent) = self.log(&mut work, cut, &limit()).await?;
        if let Some(listing) = work.files.take() {
            let wanted = match next(self.reader).await? {
                Arrived::Message(Export::Want(wanted)) => wanted,
                other => return Err(other.unexpected("Want").into()),
            };
            let sending = Sending {
                listing,
                remembered,
                naming: self.open.naming,
                wanted,
                rate: self.ctx.rate,
                limit: limit(),
                counter: &self.ctx.sent,
            };
            sent += sending.run(self.reader, self.writer).await?;
        }
        if let Some(barrier) = work.barrier {
            let deadline = tokio::time::Instant::now() + DIGEST_WITHIN;
            let digest = pinging(self.writer, self.node.digest_by(barrier.id, deadline)).await?;
            // What the node does not drop now it drops by itself, later.
            let _ = self.node.drop_digest(barrier.id).await;
            self.say(&digest?).await?;
        } else if let Some(path) = work.path.take().filter(|_| self.open.digest) {
            let digest = self.digest(&work.begun, path).await?;
            self.say(&digest).await?;
        }
        if self.checkpoint {
            super::drop_checkpoint(self.node, self.ctx, self.name).await?;
            self.checkpoint = false;
        }
        send(self.writer, &Export::Done).await?;
        self.keep(&keeping, &work.database, reached).await?;
        Ok(Exported::Sent { log: log_only, bytes: sent })
    }

    async fn say(&mut self, digest: &admin::Digest) -> Result<(), ExportError> {
        let json = serde_json::to_string(digest).expect("digests are plain JSON");
        Ok(send(self.writer, &Export::Digest(json)).await?)
    }

    /// Of a checkpoint of a standby, to whose log nobody adds a barrier.
    async fn digest(&mut self, begun: &Begun, path: PathBuf) -> Result<admin::Digest, ExportError> {
        let (position, stamp, slots) = (begun.position, begun.stamp, begun.slots.clone());
        let stops = Stops(Arc::default());
        let stop = stops.0.clone();
        let read = move || checkpoint::digest(&path, position, stamp, &slots, &stop);
        let read = pinging(self.writer, ops::background::spawn("export-digest", read)).await?;
        read.map_err(|_| died())?
            .map_err(|why| ExportError::Refused(format!("the checkpoint was not digested: {why}")))
    }

    async fn remembered(&mut self, database: &str) -> Result<Arc<Mutex<Remembered>>, ExportError> {
        let (spool, naming) = (self.ctx.spool.root().to_owned(), self.open.naming);
        let database = parse(database)?;
        let read = move || Remembered::open(&spool, naming.as_ref(), &database);
        let read = pinging(self.writer, tokio::task::spawn_blocking(read)).await?;
        Ok(Arc::new(Mutex::new(read.map_err(|_| died())?)))
    }

    /// What each way would take; nothing is done yet.
    async fn ready(
        &mut self,
        status: &admin::Status,
        remembered: &Arc<Mutex<Remembered>>,
    ) -> Result<Ready, ExportError> {
        let Some(after) = self.open.after.clone() else {
            let log = Err("there is no snapshot of this shard that it could follow on".to_owned());
            return Ok(Ready { files: Vec::new(), files_permille: 1000, log });
        };
        let (spool, remembered) = (self.ctx.spool.clone(), remembered.clone());
        let (slots, history) = (status.slots.clone(), status.history.clone());
        let (database, end) = (parse(&status.database)?, status.position.sequence);
        let primary = status.role == Role::Primary;
        let look = move || {
            let db = spool.node_dir().join("db");
            let remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let tables = Listing::of_tables(&db, &remembered)?;
            let log = match primary {
                true => log::open(&spool, &database, &history, end, &after)
                    .and_then(|log| log::measure(log, &slots, end)),
                false => Err("the node is a standby, whose own log says nothing".to_owned()),
            };
            let (files, files_permille) = (tables.describe(), tables.permille());
            Ok::<_, ExportError>(Ready { files, files_permille, log })
        };
        pinging(self.writer, tokio::task::spawn_blocking(look)).await?.map_err(|_| died())?
    }

    /// Has the node take a checkpoint.
    async fn begin_files(
        &mut self,
        remembered: &Arc<Mutex<Remembered>>,
    ) -> Result<Work, ExportError> {
        self.checkpoint = true;
        let made = pinging(self.writer, self.node.checkpoint(self.name)).await??;
        let status = self.node.status().await?;
        // Again: a seed or a rewind may have begun in between.
        refuse_half_filled(&status, &self.ctx.shard)?;
        // Stamps come from the wall clock, from what was applied or from the log before, whichever is
        // the highest; all were read after the checkpoint, so none in it is above.
        let applied = status.applied.values().map(|applied| applied.stamp).fold(wall(), Hlc::max);
        let (spool, remembered) = (self.ctx.spool.clone(), remembered.clone());
        let (database, history) = (parse(&made.database)?, made.history.clone());
        let (of, path, position) = (database.clone(), made.path.clone(), made.position);
        let checkpoint = (status.role != Role::Primary).then(|| path.clone());
        let cuttable = status.role == Role::Primary && made.database == status.database;
        let look = move || {
            let remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let listing = Listing::of(&path, &remembered)?;
            if !cuttable {
                return Ok((listing, None, Hlc::default()));
            }
            let log = log::behind_checkpoint(&spool, &of, &history, position)?;
            let facts = read_facts(&spool, &of);
            let facts = facts.map_err(|why| ExportError::Refused(why.to_string()))?;
            Ok::<_, ExportError>((listing, Some(log), facts.stamp))
        };
        let looked = pinging(self.writer, tokio::task::spawn_blocking(look)).await?;
        let (listing, log, logged) = looked.map_err(|_| died())??;
        let files = listing.describe();
        let stamp = applied.max(logged);
        let begun =
            self.begun(&status, &database, (made.position, made.history), stamp, log.is_some());
        let begun = Begun { files, ..begun };
        let files = Some(Arc::new(listing));
        Ok(Work { begun, database, log, files, path: checkpoint, barrier: None })
    }

    /// Goes on with the log; in words, why that cannot be.
    async fn begin_log(&mut self, status: &admin::Status) -> Result<Work, String> {
        let after = self.open.after.clone().ok_or("there is nothing that it could follow on")?;
        let database = parse(&status.database).map_err(|why| why.to_string())?;
        let (spool, of, history) =
            (self.ctx.spool.clone(), database.clone(), status.history.clone());
        let (at, end) = (after.position, status.position.sequence);
        let open = move || {
            let log = log::open(&spool, &of, &history, end, &after)?;
            let facts = read_facts(&spool, &of).map_err(|why| why.to_string())?;
            Ok::<_, String>((log, facts.stamp))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let (log, logged) = opened.map_err(|_| died().to_string())??;
        let place = (at, log::history_until(&status.history, at));
        let begun = self.begun(status, &database, place, wall().max(logged), true);
        Ok(Work { begun, database, log: Some(log), files: None, path: None, barrier: None })
    }

    fn begun(
        &self,
        status: &admin::Status,
        database: &DatabaseId,
        (position, history): (Position, History),
        stamp: Hlc,
        cuttable: bool,
    ) -> Begun {
        Begun {
            service: self.ctx.service.clone(),
            shard: self.ctx.shard.to_string(),
            slots: status.slots.clone(),
            database: database.to_string(),
            position,
            history,
            stamp,
            epoch: status.epoch.0,
            cuttable,
            files: Vec::new(),
        }
    }

    /// Sends the log up to the cut, if there is one, and says where that is.
    async fn log(
        &mut self,
        work: &mut Work,
        cut: Option<Hlc>,
        limit: &Limit,
    ) -> Result<(Option<Reached>, u64), ExportError> {
        let begun = &work.begun;
        let (Some(cut), Some(log)) = (cut, work.log.take()) else {
            let (position, history) = (begun.position, begun.history.clone());
            let end = End { position, history, stamp: begun.stamp };
            send(self.writer, &Export::End(Box::new(end))).await?;
            return Ok((None, 0));
        };
        if cut < begun.stamp {
            return Err(ExportError::Refused("the cut is before what was begun".to_owned()));
        }
        let whose = (SegmentHeader::service_of(&self.ctx.service), self.ctx.shard.to_string());
        let (reached, sent) =
            log::send(self.writer, log, begun.slots.clone(), whose, cut, limit).await?;
        let history = self.node.status().await?.history;
        let history = log::history_until(&history, reached.position);
        let end = End { position: reached.position, history, stamp: cut };
        send(self.writer, &Export::End(Box::new(end))).await?;
        Ok((Some(reached), sent))
    }

    /// Waits for the seal, and keeps the log from the end on for the next one.
    async fn keep(
        &mut self,
        keeping: &Exporting,
        database: &DatabaseId,
        reached: Option<Reached>,
    ) -> Result<(), ExportError> {
        match next(self.reader).await? {
            Arrived::Message(Export::Sealed) => {}
            other => return Err(other.unexpected("Sealed").into()),
        }
        let why = match (keeping.lost(), reached) {
            (Some(why), _) => Some(why),
            (None, None) => Some("a standby's own log is none to follow".to_owned()),
            (None, Some(Reached { position, file })) => {
                let (lasts, database) = (self.ctx.lasts.clone(), database.clone());
                let repository = self.open.repository.clone();
                let save = move || lasts.sealed(&repository, &database, position, file);
                let saved = tokio::task::spawn_blocking(save).await.map_err(|_| died())?;
                saved.err().map(|why| format!("it could not be noted: {why}"))
            }
        };
        Ok(send(self.writer, &Export::Kept { why }).await?)
    }
}

/// No stamp that was given before this is above it, unless another's was taken over.
fn wall() -> Hlc {
    Hlc::new(ops::clock::unix_ms(), u16::MAX)
}

fn parse(database: &str) -> Result<DatabaseId, ExportError> {
    DatabaseId::parse(database)
        .ok_or_else(|| ExportError::Refused("the node's database has no id".to_owned()))
}

fn died() -> ExportError {
    ExportError::Refused("a thread died: look at the log".to_owned())
}
