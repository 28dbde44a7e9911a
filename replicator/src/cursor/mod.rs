//! Reads a node's log from the spool, batch after batch, from any position on.
//!
//! Each batch must start where the last one ended; anything else is a typed [`CursorError`], never
//! data. A cursor goes on to the next file only when that file's first sequence is the one expected,
//! so damage or a half-written record at the end of a file that was left behind costs nothing.
//!
//! Numbers of files are not enough to tell which comes next: after a power cut a number may come
//! again, with another inode. What goes on from the position decides ([`head`]).

mod facts;
mod growth;
mod head;
mod index;
mod reader;
mod tail;

use admin::Intent;
use wal::batch::BatchRef;
use wal::log::Damage;
use wal::{Chain, Consumed, History, Kind, Position, Sequence, TimelineId};

pub use facts::{Facts, read_facts};
pub use growth::Growth;
use head::intent_in;
pub use head::{Head, history_in};
pub(crate) use index::Index;
use reader::FileReader;

use crate::identity::DatabaseId;
use crate::spool::{LogFile, Spool, SpoolError};

/// Why a log cannot be read on from where a cursor stands.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// Batches are missing.
    #[error(
        "the log has a gap: the batch after sequence {after} is in no file of the spool, the next one found starts at {found:?}; it was dropped, and the follower must be seeded again"
    )]
    Gap {
        /// The end of the last batch that was read.
        after: Sequence,
        /// What there is instead.
        found: Option<Sequence>,
    },
    /// The log was recovered to an earlier point than what was read before.
    #[error(
        "the node recovered its log to before sequence {at} (timeline {timeline} starts at {first}): what was read past that is not in the database any more, and who has it must rewind"
    )]
    Forked {
        /// Where the cursor stood.
        at: Sequence,
        /// The timeline that begins earlier.
        timeline: TimelineId,
        /// Its first sequence.
        first: Sequence,
    },
    /// The position is inside a batch or was never on this log.
    #[error(
        "position {0} is not the end of a batch of this log: the follower must be seeded again"
    )]
    NotHere(Position),
    /// A file does not read on, and no later file goes on from there.
    #[error("the log file {path} is damaged and nothing goes on from there: {damage}")]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// A record that no node of ours writes.
    #[error("the log file {path} holds what cannot be shipped: {why}")]
    Foreign {
        /// The file.
        path: std::path::PathBuf,
        /// What.
        why: String,
    },
    /// The spool or the disk.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// A place in the log of one database.
#[derive(Debug)]
pub struct Cursor {
    spool: Spool,
    database: DatabaseId,
    reader: FileReader,
    at: Position,
    chain: Chain,
    /// The chains at `at`, while seeking: batches without a record share their sequence.
    chains_at: Vec<Chain>,
    /// A batch was read ahead while seeking.
    ahead: bool,
    /// The timeline list that the last batch carried, if it started one.
    started: Option<History>,
    /// The load that the last batch announced.
    load: Option<Intent>,
    /// The highest epoch and stamp of the tags read.
    highest: (u64, keyspace::Hlc),
}

impl Cursor {
    /// A cursor behind the batch that ends at `at`. `history` tells timelines apart.
    pub fn open(
        spool: &Spool,
        database: &DatabaseId,
        history: &History,
        at: Position,
    ) -> Result<Self, CursorError> {
        let files = head::in_order(spool, database)?;
        let file = head::locate(&files, history, at)?;
        let mut cursor = Self {
            spool: spool.clone(),
            database: database.clone(),
            reader: FileReader::open(&file)?,
            at,
            chain: Chain::START,
            chains_at: Vec::new(),
            ahead: false,
            started: None,
            load: None,
            highest: Default::default(),
        };
        cursor.seek(at)?;
        Ok(cursor)
    }

    /// Reads up to the wanted position within the file that holds it.
    fn seek(&mut self, wanted: Position) -> Result<(), CursorError> {
        let mut first = true;
        loop {
            let Ok(true) = self.reader.advance() else {
                // An empty file, or nothing after it yet: fine if that is where it ends.
                let here = first || !self.chains_at.is_empty();
                return if here { Ok(()) } else { Err(CursorError::NotHere(wanted)) };
            };
            let batch = self.reader.batch()?;
            let consumed = Consumed::before(&batch);
            let begins = consumed.map_or(batch.sequence(), |consumed| consumed.first);
            if first && begins > wanted.sequence.next() {
                return Err(CursorError::Gap {
                    after: wanted.sequence,
                    found: Some(batch.sequence()),
                });
            }
            if batch.sequence() > wanted.sequence {
                self.ahead = true;
                let here = begins == wanted.sequence.next();
                return if here { Ok(()) } else { Err(CursorError::NotHere(wanted)) };
            }
            first = false;
            for tag in batch.tags().flatten() {
                self.highest = (self.highest.0.max(tag.epoch), self.highest.1.max(tag.stamp));
            }
            self.chain = self.chain.extend(batch.bytes());
            if batch.end() == wanted.sequence {
                self.chains_at.push(self.chain);
            }
            if batch.end() > wanted.sequence {
                return Err(CursorError::NotHere(wanted));
            }
        }
    }

    /// Whether the log's chain can be this one where the cursor was opened: whether who stands there
    /// has read the same bytes. What is not known is not compared.
    pub fn agrees(&self, chain: Chain) -> bool {
        chain == Chain::START || self.chains_at.is_empty() || self.chains_at.contains(&chain)
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The log's chain there; [`Chain::START`] at the beginning of a file.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The file that it reads.
    pub fn file(&self) -> &LogFile {
        self.reader.file()
    }

    /// How many bytes of that file are not read yet.
    pub fn unread(&self) -> u64 {
        self.reader.unread()
    }

    /// Bytes of the log that nobody has read yet: the rest of this file and the later ones.
    pub fn behind(&self) -> u64 {
        let number = self.file().number;
        let later = self.spool.files(&self.database).into_iter().filter(|f| f.number > number);
        let size = |f: LogFile| std::fs::metadata(&f.path).map(|m| m.len()).unwrap_or(0);
        self.unread() + later.map(size).sum::<u64>()
    }

    /// Goes to the next batch; `false` while there is none.
    pub fn advance(&mut self) -> Result<bool, CursorError> {
        if self.ahead {
            self.ahead = false;
            return self.accept().map(|()| true);
        }
        loop {
            match self.reader.advance() {
                Ok(true) => return self.accept().map(|()| true),
                Ok(false) => {
                    if !self.next_file(None)? {
                        return Ok(false);
                    }
                }
                Err(damage) if damage.cause.is_refusal() => {
                    let path = self.file().path.clone();
                    return Err(CursorError::Foreign { path, why: damage.to_string() });
                }
                Err(damage) => {
                    if !self.next_file(Some(damage))? {
                        let path = self.file().path.clone();
                        return Err(CursorError::Damaged { path, damage });
                    }
                }
            }
        }
    }

    /// The batch that [`Cursor::advance`] went to.
    pub fn batch(&self) -> Result<BatchRef<'_>, CursorError> {
        self.reader.batch()
    }

    /// The timelines up to now, if that batch started one.
    pub fn started(&self) -> Option<&History> {
        self.started.as_ref()
    }

    /// The load that is taken in at that batch, if it announces one.
    pub fn load(&self) -> Option<&Intent> {
        self.load.as_ref()
    }

    fn accept(&mut self) -> Result<(), CursorError> {
        let batch = self.reader.batch()?;
        let expected = self.at.sequence.next();
        let consumed = Consumed::before(&batch).is_some_and(|consumed| consumed.first == expected);
        if batch.sequence() != expected && !consumed {
            return Err(CursorError::Gap {
                after: self.at.sequence,
                found: Some(batch.sequence()),
            });
        }
        let foreign =
            |why: String| CursorError::Foreign { path: self.reader.file().path.clone(), why };
        let (mut started, mut load) = (None, None);
        for tag in batch.tags() {
            let tag = tag.map_err(|error| foreign(error.to_string()))?;
            self.highest = (self.highest.0.max(tag.epoch), self.highest.1.max(tag.stamp));
            if tag.kind == Kind::Load {
                load = Some(intent_in(&batch).ok_or_else(|| {
                    foreign("a batch that announces a load does not name it".to_owned())
                })?);
            }
            if tag.kind == Kind::Timeline {
                started = Some(history_in(&batch).ok_or_else(|| {
                    foreign(
                        "a batch that starts a timeline does not hold the list of them".to_owned(),
                    )
                })?);
            }
        }
        self.chain = self.chain.extend(batch.bytes());
        self.at.sequence = batch.end();
        if let Some(start) = started.as_ref().and_then(History::current) {
            self.at.timeline = start.timeline;
        }
        self.started = started;
        self.load = load;
        Ok(())
    }

    /// Goes on to the file that goes on from here.
    fn next_file(&mut self, damage: Option<Damage>) -> Result<bool, CursorError> {
        let expected = self.at.sequence.next();
        if damage.is_none() && !self.spool.has_later(&self.database, self.file()) {
            return Ok(false);
        }
        for round in 0..2 {
            let files = head::in_order(&self.spool, &self.database)?;
            let later = head::after(self.file(), &files);
            let Some((_, nearest)) = later.first() else { return Ok(false) };
            // The file may have grown between its end and the look at the later ones.
            if damage.is_none() && round == 0 && self.reader.grew() {
                return Ok(true);
            }
            let fork = later.iter().find_map(|(_, head)| head.recovered_before(expected));
            if let Some((timeline, first)) = fork {
                return Err(CursorError::Forked { at: self.at.sequence, timeline, first });
            }
            if let Some(file) = head::going_on(&later, expected) {
                self.reader = FileReader::open(file)?;
                self.chain = Chain::START;
                return Ok(true);
            }
            if round == 0 {
                self.spool.scan()?;
            } else {
                let found = Some(nearest.first);
                return Err(CursorError::Gap { after: self.at.sequence, found });
            }
        }
        Ok(false)
    }

    /// The highest epoch and stamp of what it has read, from the beginning of the file on in which
    /// it was opened.
    pub fn highest(&self) -> (u64, keyspace::Hlc) {
        self.highest
    }

    /// Reads its file again from the beginning up to where it stands: for one that did not read on
    /// while it was being written.
    pub fn look_again(&mut self) -> Result<(), CursorError> {
        let file = self.reader.file().clone();
        let end = self.reader.end();
        self.reader = FileReader::open(&file)?;
        while self.reader.end() < end {
            if !matches!(self.reader.advance(), Ok(true)) {
                return Err(CursorError::NotHere(self.at));
            }
        }
        Ok(())
    }

    /// The database whose log it reads.
    pub fn database(&self) -> &DatabaseId {
        &self.database
    }
}
