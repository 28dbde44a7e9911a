//! A snapshot into a target: each value's bytes are handed on as they are, in a RESTORE; what the target
//! does not take in that form, and what is too big for one command, goes in as ordinary commands.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use rdb::Elements;
use rdb::file::{Entry, Item, Part, Reader};
use tokio::sync::mpsc;

use super::board::Board;
use super::place::Standing;
use super::tally::{Tally, Why};
use super::target::{Batch, Done, Target, TargetError};

/// What is sent to a shard before its answers are awaited.
const WINDOW_BYTES: usize = 1 << 20;
const WINDOW_COMMANDS: usize = 512;
/// Items of a snapshot that were read ahead.
const QUEUE: usize = 8;
/// Elements of one command.
const ELEMENTS: usize = 256;

/// Why a snapshot was not taken in. The target is marked as loading, and it is begun again.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] rdb::file::Error),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It will never work.
    #[error("{at} cannot be emptied for a snapshot: {why}")]
    Unfit {
        /// The server.
        at: String,
        /// Its words.
        why: String,
    },
}

/// What was sent to a shard and is not answered.
#[derive(Default)]
struct Window {
    batch: Batch,
    /// What each command restores; `None`: it is an ordinary one.
    restores: Vec<Option<Entry>>,
}

struct Loader<'a> {
    target: &'a mut Target,
    tally: &'a Tally,
    board: &'a Board,
    windows: Vec<Window>,
}

/// Empties the target and takes the snapshot in. The target says `loading` from before the first change
/// until its position is set by the caller.
pub async fn load(
    target: &mut Target,
    path: &Path,
    tally: &Tally,
    board: &Board,
) -> Result<(), LoadError> {
    let mut items = read_ahead(path)?;
    tally.clear();
    let mut empty = Batch::default();
    empty.push(&[b"FLUSHALL"], 0);
    if target.knows(b"function") {
        empty.push(&[b"FUNCTION", b"FLUSH"], 0);
    }
    for shard in &mut target.shards {
        // Marked in a transaction of its own: FLUSHALL need not be one with what stands beside it.
        for batch in [&Batch::default(), &empty] {
            match shard.transact(batch, Standing::Loading).await? {
                Done::Ran(refused) | Done::Unfit(refused) => {
                    if let Some((_, why)) = refused.into_iter().next() {
                        return Err(LoadError::Unfit { at: "the target".to_owned(), why });
                    }
                }
            }
        }
    }
    let windows = target.shards.iter().map(|_| Window::default()).collect();
    let mut loader = Loader { target, tally, board, windows };
    let mut database = 0;
    loop {
        match items.recv().await {
            None => {
                let why = std::io::Error::other("its reader has ended");
                return Err(rdb::file::Error::Io(why).into());
            }
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Item::End)) => break,
            Some(Ok(Item::About(..))) => {}
            Some(Ok(Item::Database(number))) => database = number,
            Some(Ok(Item::Library(text))) => loader.library(&text).await?,
            Some(Ok(Item::ModuleNotes(kind))) => {
                tally.add(Why::Module, &format!("notes of {kind}"))
            }
            Some(Ok(item)) if database != 0 => {
                let parts =
                    matches!(&item, Item::Entry(e) if matches!(e.part, Part::Next | Part::Last));
                if !parts {
                    tally.add(Why::Database, &format!("database {database}"));
                }
            }
            Some(Ok(Item::OfModule { kind, .. })) => tally.add(Why::Module, &kind),
            Some(Ok(Item::TooBig { form, .. })) => tally.add(Why::TooBig, &format!("{form:?}")),
            Some(Ok(Item::Entry(entry))) => loader.entry(entry).await?,
        }
    }
    loader.flush().await
}

/// Reads on a thread that may block.
fn read_ahead(path: &Path) -> Result<mpsc::Receiver<Result<Item, rdb::file::Error>>, LoadError> {
    let (sender, items) = mpsc::channel(QUEUE);
    let file = File::open(path).map_err(rdb::file::Error::Io)?;
    tokio::task::spawn_blocking(move || {
        let mut reader = match Reader::new(BufReader::with_capacity(1 << 20, file)) {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let item = reader.next_item();
            let last = matches!(item, Ok(Item::End) | Err(_));
            if sender.blocking_send(item).is_err() || last {
                return;
            }
        }
    });
    Ok(items)
}

impl Loader<'_> {
    async fn entry(&mut self, entry: Entry) -> Result<(), LoadError> {
        if self.target.is_position(&entry.key) {
            return Ok(());
        }
        if matches!(entry.part, Part::Whole | Part::First) {
            self.board.update(|status| status.keys_loaded += 1);
        }
        let shard = self.target.shard_of(&entry.key)?;
        let Some(window) = self.windows.get_mut(shard) else { return Ok(()) };
        if entry.part == Part::Whole {
            let ttl = entry.expire_ms.unwrap_or(0).to_string();
            let payload = rdb::payload::seal(entry.body.clone());
            let args: [&[u8]; 6] =
                [b"RESTORE", &entry.key, ttl.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
            window.batch.push(&args, 0);
            window.restores.push(Some(entry));
        } else if !write_elements(&entry, &mut window.batch) {
            self.tally
                .add(Why::Refused, &format!("a part of a {:?} that cannot be read", entry.form));
        } else {
            window.restores.resize_with(window.batch.len(), || None);
        }
        if window.batch.bytes() >= WINDOW_BYTES || window.batch.len() >= WINDOW_COMMANDS {
            self.flush().await?;
        }
        Ok(())
    }

    async fn library(&mut self, text: &[u8]) -> Result<(), LoadError> {
        if !self.target.knows(b"function") {
            self.tally.add(Why::Command, "FUNCTION");
            return Ok(());
        }
        for window in &mut self.windows {
            window.batch.push(&[b"FUNCTION", b"LOAD", b"REPLACE", text], 0);
            window.restores.push(None);
        }
        Ok(())
    }

    /// Sends every window, to all shards at once, and looks at the answers.
    async fn flush(&mut self) -> Result<(), LoadError> {
        let sent = self.target.shards.iter_mut().zip(&mut self.windows);
        let sent = sent.map(|(shard, window)| flush_one(shard, window, self.tally));
        for result in futures_util::future::join_all(sent).await {
            result?;
        }
        Ok(())
    }
}

async fn flush_one(
    shard: &mut super::target::Shard,
    window: &mut Window,
    tally: &Tally,
) -> Result<(), LoadError> {
    if window.batch.is_empty() {
        return Ok(());
    }
    let answers = shard.run(&window.batch).await?;
    for (index, (answer, restored)) in answers.iter().zip(&window.restores).enumerate() {
        let Some(why) = answer.as_error() else { continue };
        // An older server does not take newer forms; what is in them it takes.
        let mut again = Batch::default();
        let form = why.contains("Bad data format") || why.contains("DUMP payload");
        let retried = form && restored.as_ref().is_some_and(|e| write_elements(e, &mut again));
        if !retried {
            tally.add(Why::Refused, &format!("{}: {why}", window.batch.name(index)));
            continue;
        }
        for (at, answer) in shard.run(&again).await?.iter().enumerate() {
            if let Some(why) = answer.as_error() {
                tally.add(Why::Refused, &format!("{}: {why}", again.name(at)));
            }
        }
    }
    window.batch.clear();
    window.restores.clear();
    Ok(())
}

/// Adds a stream in an older form: no commands make one as it was.
fn write_stream(entry: &Entry, batch: &mut Batch) -> bool {
    let Some(older) = rdb::stream::as_of_7_0(&entry.body) else { return false };
    let at_ms = entry.expire_ms.unwrap_or(0).to_string();
    let payload = rdb::payload::seal(older);
    let args: [&[u8]; 6] =
        [b"RESTORE", &entry.key, at_ms.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
    batch.push(&args, 0);
    true
}

/// Adds a value's elements as ordinary commands, a stream in an older form; `false`: it cannot be.
pub fn write_elements(entry: &Entry, batch: &mut Batch) -> bool {
    let Some(elements) = rdb::elements(&entry.body) else { return write_stream(entry, batch) };
    let key = &entry.key[..];
    let mut many = |name: &[u8], all: &mut dyn Iterator<Item = Vec<&[u8]>>| {
        let mut args: Vec<&[u8]> = vec![name, key];
        let mut bytes = 0;
        for one in all {
            bytes += one.iter().map(|arg| arg.len()).sum::<usize>();
            args.extend(one);
            if args.len() >= ELEMENTS || bytes >= WINDOW_BYTES {
                batch.push(&args, 0);
                args.truncate(2);
                bytes = 0;
            }
        }
        if args.len() > 2 {
            batch.push(&args, 0);
        }
    };
    match &elements {
        Elements::String(text) => batch.push(&[b"SET", key, text], 0),
        Elements::List(all) => many(b"RPUSH", &mut all.iter().map(|one| vec![&one[..]])),
        Elements::Set(all) => many(b"SADD", &mut all.iter().map(|one| vec![&one[..]])),
        Elements::Zset(all) => {
            many(b"ZADD", &mut all.iter().map(|(member, score)| vec![&score[..], &member[..]]));
        }
        Elements::Hash(all) => {
            many(b"HSET", &mut all.iter().map(|(field, value, _)| vec![&field[..], &value[..]]));
            for (field, _, at_ms) in all.iter().filter(|(_, _, at_ms)| *at_ms != 0) {
                let at_ms = at_ms.to_string();
                let args: [&[u8]; 6] =
                    [b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field];
                batch.push(&args, 0);
            }
        }
    }
    if let (Some(at_ms), Part::Whole | Part::Last) = (entry.expire_ms, entry.part) {
        batch.push(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()], 0);
    }
    true
}
