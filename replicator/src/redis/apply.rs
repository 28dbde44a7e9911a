//! The command stream into a target: read from the spool, cut into groups, each group one transaction a
//! shard with the position behind it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use resp::command::{Limits, Parser};
use tokio::sync::watch;

use super::board::Board;
use super::cross::{Crossing, copy, crossing, leaving, name_of_leaving, with_copies};
use super::place::{Place, Standing};
use super::spool::{Reader, Spool, SpoolError};
use super::tally::{Tally, Why};
use super::target::{Batch, Done, Route, Target, TargetError};

/// A group is sent at this size, or as soon as nothing more is there.
const GROUP_BYTES: usize = 512 << 10;
const GROUP_COMMANDS: usize = 2048;
/// A transaction of the source is applied whole up to this size, and in parts beyond it: in order and
/// once all the same, but to be seen half for a moment.
const TRANSACTION_BYTES_MAX: usize = 64 << 20;
const TRANSACTION_COMMANDS_MAX: usize = 16 << 10;
/// The most that is read ahead of what is applied.
const UNPARSED_BYTES: usize = 256 << 10;
/// A shard that has nothing to apply is told the position this often.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Why the stream is not applied further.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What was received.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The stream.
    #[error("the source's stream cannot be read at offset {offset}: {why}")]
    Stream {
        /// Where.
        offset: u64,
        /// What is there.
        why: resp::ProtocolError,
    },
    /// The receiver has ended.
    #[error("nothing more is received")]
    Ended,
}

/// Applies what is received.
#[derive(Debug)]
pub struct Applier {
    target: Target,
    spool: Arc<Mutex<Spool>>,
    /// The offset of the last byte received.
    received: watch::Receiver<u64>,
    tally: Tally,
    board: Board,
    batches: Vec<Batch>,
    /// Up to where each shard has what is its own.
    applied: Vec<u64>,
    marked: Instant,
    /// Up to where commands were read.
    offset: u64,
    database: u64,
    in_transaction: bool,
}

/// What a command is to the stream.
enum Step {
    /// Nothing to be applied.
    Nothing,
    /// To be applied.
    Apply,
}

impl Applier {
    /// An applier for a target whose every shard stands somewhere.
    pub fn new(
        target: Target,
        spool: Arc<Mutex<Spool>>,
        received: watch::Receiver<u64>,
        tally: Tally,
        board: Board,
    ) -> Self {
        let at = |shard: &super::target::Shard| match shard.standing() {
            Some(Standing::At(place)) => (place.offset, place.database),
            Some(Standing::Loading | Standing::Log(_)) | None => (0, 0),
        };
        let places: Vec<_> = target.shards.iter().map(at).collect();
        let (offset, database) = places.iter().copied().min().unwrap_or_default();
        Self {
            batches: vec![Batch::default(); target.shards.len()],
            applied: places.iter().map(|(offset, _)| *offset).collect(),
            target,
            spool,
            received,
            tally,
            board,
            marked: Instant::now(),
            offset,
            database,
            in_transaction: false,
        }
    }

    fn spool<T>(&self, work: impl FnOnce(&mut Spool) -> T) -> T {
        work(&mut self.spool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies until something fails.
    pub async fn run(mut self) -> Result<std::convert::Infallible, ApplyError> {
        let Some(mut reader) = self.spool(|spool| spool.reader(self.offset))? else {
            return Err(ApplyError::Ended);
        };
        let (mut bytes, mut parser, mut args) = (Vec::new(), Parser::new(), Vec::new());
        let limits = Limits::default();
        loop {
            self.read(&mut reader, &mut bytes, parser.at_least()).await?;
            let mut parsed = 0;
            loop {
                let unread = bytes.get_mut(parsed..).unwrap_or_default();
                let found = parser.next(unread, &limits, &mut args);
                let found = found.map_err(|why| ApplyError::Stream { offset: self.offset, why })?;
                let Some(length) = found else { break };
                let before = self.offset;
                self.offset += length as u64;
                let texts: Vec<&[u8]> =
                    args.iter().map(|arg| unread.get(arg.clone()).unwrap_or_default()).collect();
                self.take(&texts, before).await?;
                parsed += length;
                if self.is_full() {
                    self.commit().await?;
                }
            }
            bytes.drain(..parsed);
            let more = reader.offset() < *self.received.borrow();
            if !more && (!self.in_transaction || self.is_full()) {
                self.commit().await?;
            }
        }
    }

    /// Reads what is there, and waits if there is nothing.
    async fn read(
        &mut self,
        reader: &mut Reader,
        bytes: &mut Vec<u8>,
        at_least: usize,
    ) -> Result<(), ApplyError> {
        while reader.offset() >= *self.received.borrow_and_update() {
            match tokio::time::timeout(MARK_EVERY, self.received.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ApplyError::Ended),
                // The position goes on over what there was not to apply.
                Err(_) if !self.in_transaction => self.commit().await?,
                Err(_) => {}
            }
        }
        // A long command is looked at again once it may be whole.
        let enough = UNPARSED_BYTES.max(at_least);
        let end = *self.received.borrow();
        while reader.offset() < end && bytes.len() < enough {
            reader.read(bytes)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let (bytes_max, commands_max) = if self.in_transaction {
            (TRANSACTION_BYTES_MAX, TRANSACTION_COMMANDS_MAX)
        } else {
            (GROUP_BYTES, GROUP_COMMANDS)
        };
        self.batches.iter().any(|b| b.bytes() >= bytes_max || b.len() >= commands_max)
    }

    /// Puts a command into the batches of the shards that it is for; the stream stood at `before` in
    /// front of it.
    async fn take(&mut self, args: &[&[u8]], before: u64) -> Result<(), ApplyError> {
        let Some(name) = args.first() else { return Ok(()) };
        let name = name.to_ascii_lowercase();
        if let Step::Nothing = self.step(&name, args) {
            return Ok(());
        }
        if args.get(1).is_some_and(|key| self.target.is_position(key)) {
            return Ok(());
        }
        let what = || String::from_utf8_lossy(&name).to_ascii_uppercase();
        match self.target.route(&name, args).await? {
            Route::Unknown => self.tally.add(Why::Command, &what()),
            Route::Crosses => match crossing(&name, args) {
                Some(crossing) => self.cross(&crossing, args, before).await?,
                None => self.tally.add(Why::Shards, &what()),
            },
            Route::One(shard) => self.push(shard, args),
            Route::All => (0..self.batches.len()).for_each(|shard| self.push(shard, args)),
            Route::Split(parts) => {
                // The source says so of one that took effect: none of the keys was there.
                let name = if name == b"msetnx" { &b"MSET"[..] } else { args[0] };
                for (shard, own) in parts {
                    let own = own.into_iter().filter_map(|at| args.get(at).copied());
                    let part: Vec<&[u8]> = [name].into_iter().chain(own).collect();
                    self.push(shard, &part);
                }
            }
        }
        Ok(())
    }

    /// What is to be done of a command; follows databases and transactions.
    fn step(&mut self, name: &[u8], args: &[&[u8]]) -> Step {
        let what = || String::from_utf8_lossy(name).to_ascii_uppercase();
        match name {
            b"ping" | b"replconf" => Step::Nothing,
            b"multi" => {
                self.in_transaction = true;
                Step::Nothing
            }
            // Without its MULTI where the transaction was taken in in parts.
            b"exec" => {
                self.in_transaction = false;
                Step::Nothing
            }
            b"select" => {
                let number = args.get(1).and_then(|text| resp::integer(text));
                self.database = number.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                Step::Nothing
            }
            b"swapdb" | b"move" => {
                self.tally.add(Why::Database, &what());
                Step::Nothing
            }
            b"copy" if args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"db")) => {
                self.tally.add(Why::Database, "COPY ... DB");
                Step::Nothing
            }
            // Of all databases and of none.
            b"flushall" | b"function" | b"script" | b"publish" | b"spublish" => Step::Apply,
            _ if self.database != 0 => {
                self.tally.add(Why::Database, &format!("database {}", self.database));
                Step::Nothing
            }
            _ => Step::Apply,
        }
    }

    fn push(&mut self, shard: usize, args: &[&[u8]]) {
        let done = self.applied.get(shard).is_some_and(|applied| *applied >= self.offset);
        if let Some(batch) = self.batches.get_mut(shard).filter(|_| !done) {
            batch.push(args, self.offset);
        }
    }

    /// Applies a command whose keys are on several shards, on one of them after the other, once all that
    /// comes before it is applied.
    async fn cross(
        &mut self,
        crossing: &Crossing,
        args: &[&[u8]],
        before: u64,
    ) -> Result<(), ApplyError> {
        self.commit_at(before).await?;
        let key = |at: usize| args.get(at).copied().unwrap_or_default();
        let what = || String::from_utf8_lossy(key(0)).to_ascii_uppercase();
        let is_due = |applied: &[u64], shard: usize, offset: u64| {
            applied.get(shard).is_some_and(|applied| *applied < offset)
        };
        let to = self.target.shard_of(key(crossing.to))?;
        if is_due(&self.applied, to, self.offset) {
            let mut gone_on = false;
            for at in &crossing.from {
                let from = self.target.shard_of(key(*at))?;
                gone_on |= from != to && !is_due(&self.applied, from, self.offset);
            }
            let copied = match gone_on {
                // One came back with older data than the other: what was read then is there no more.
                true => Err("a shard that it reads has gone on".to_owned()),
                false => copy(&mut self.target, to, crossing, args).await?,
            };
            match copied {
                Ok(copied) => self.push_all(to, with_copies(args, &copied)),
                Err(why) => self.tally.add(Why::Shards, &format!("{}: {why}", what())),
            }
            self.commit_shard(to).await?;
        }
        let from = crossing.from.first().filter(|_| crossing.moves);
        let Some(from) = from.map(|at| self.target.shard_of(key(*at))).transpose()? else {
            return Ok(());
        };
        if is_due(&self.applied, from, self.offset) {
            let name = name_of_leaving(&self.target, from);
            self.push_all(from, leaving(args, crossing.to, name));
            self.commit_shard(from).await?;
        }
        Ok(())
    }

    fn push_all(&mut self, shard: usize, commands: Vec<Vec<Vec<u8>>>) {
        for command in commands {
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            self.push(shard, &args);
        }
    }

    /// Where the stream stands at this offset.
    fn place_at(&self, offset: u64) -> Result<Place, ApplyError> {
        let id = self.spool(|spool| spool.history_at(offset).cloned());
        let id = id.ok_or(ApplyError::Ended)?;
        Ok(Place { id, offset, database: self.database })
    }

    /// Applies what was gathered for one shard, with the position behind it.
    async fn commit_shard(&mut self, shard: usize) -> Result<(), ApplyError> {
        let place = self.place_at(self.offset)?;
        let Self { target, batches, applied, tally, board, .. } = self;
        let of =
            target.shards.get_mut(shard).zip(batches.get_mut(shard)).zip(applied.get_mut(shard));
        if let Some(((shard, batch), applied)) = of {
            let commands = commit_one(shard, batch, applied, &place, tally).await?;
            board.update(|status| status.commands += commands);
        }
        Ok(())
    }

    /// Applies what was gathered, on all shards at once.
    async fn commit(&mut self) -> Result<(), ApplyError> {
        self.commit_at(self.offset).await
    }

    /// The same of what comes before this offset, where nothing behind it was gathered.
    async fn commit_at(&mut self, offset: u64) -> Result<(), ApplyError> {
        let place = self.place_at(offset)?;
        let marking = self.marked.elapsed() >= MARK_EVERY;
        let shards = self.target.shards.iter_mut().zip(&mut self.batches).zip(&mut self.applied);
        let committing = shards.filter_map(|((shard, batch), applied)| {
            let behind = *applied < place.offset;
            let due = !batch.is_empty() || (marking && behind);
            due.then(|| commit_one(shard, batch, applied, &place, &self.tally))
        });
        let committing: Vec<_> = committing.collect();
        if committing.is_empty() {
            return Ok(());
        }
        let mut commands = 0;
        for result in futures_util::future::join_all(committing).await {
            commands += result?;
        }
        if marking {
            self.marked = Instant::now();
        }
        let least = self.applied.iter().copied().min().unwrap_or(0);
        self.board.update(|status| {
            status.applied = least;
            status.commands += commands;
        });
        self.spool(|spool| spool.applied(least))?;
        Ok(())
    }
}

/// One shard's part of a group; how many commands it was.
async fn commit_one(
    shard: &mut super::target::Shard,
    batch: &mut Batch,
    applied: &mut u64,
    place: &Place,
    tally: &Tally,
) -> Result<u64, TargetError> {
    let count = batch.len() as u64;
    match shard.transact(batch, Standing::At(place.clone())).await? {
        Done::Ran(refused) => refused
            .iter()
            .for_each(|(at, why)| tally.add(Why::Refused, &format!("{}: {why}", batch.name(*at)))),
        // One that will never be taken keeps none of the others back. It may have stood in a
        // transaction of the source, whose other commands are then seen one by one.
        Done::Unfit(_) => {
            for (single, offset) in batch.singly() {
                let at = Place { offset, ..place.clone() };
                match shard.transact(&single, Standing::At(at.clone())).await? {
                    Done::Ran(refused) => refused.iter().for_each(|(_, why)| {
                        tally.add(Why::Refused, &format!("{}: {why}", single.name(0)));
                    }),
                    Done::Unfit(refused) => {
                        shard.transact(&Batch::default(), Standing::At(at)).await?;
                        refused.iter().for_each(|(_, why)| {
                            tally.add(Why::Refused, &format!("{}: {why}", single.name(0)));
                        });
                    }
                }
            }
            shard.transact(&Batch::default(), Standing::At(place.clone())).await?;
        }
    }
    *applied = place.offset;
    batch.clear();
    Ok(count)
}
