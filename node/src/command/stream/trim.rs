//! Taking entries off the head of a stream: all that are too many, or whole blocks of them.

use keyspace::stream::StreamId;

use super::log::{Stream, Walk};
use crate::command::Fail;
use crate::worker::{Direction, View};

/// What a stream is to be trimmed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// So many entries.
    Length(u64),
    /// Entries from this id on.
    Id(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    /// To what.
    pub(super) to: To,
    /// `~`: whole blocks, and so only nearly.
    pub(super) blocks: bool,
    /// The most entries that are deleted at once; 0: any number.
    pub(super) limit: u64,
}

/// An entry that the command adds: counted already, and written if it stays.
pub(super) type Added = Option<(StreamId, u64)>;

/// Entries in order, stored ones first, then the one that is being added.
struct Candidates<'a> {
    stored: Walk<'a>,
    added: Added,
}

impl Candidates<'_> {
    fn step(&mut self) -> Result<Option<(StreamId, u64)>, Fail> {
        match self.stored.step()? {
            Some((id, entry)) => Ok(Some((id, entry.block))),
            None => Ok(self.added.take()),
        }
    }
}

/// What trimming came to.
#[derive(Default)]
pub(super) struct Trimmed {
    /// How many entries are gone.
    pub(super) deleted: u64,
    /// The one that was being added is among them.
    pub(super) added: bool,
}

impl Trim {
    /// Whether there is anything to do, as far as the header can tell.
    fn is_idle(&self, stream: &Stream<'_>) -> bool {
        let header = &stream.header;
        let head = header.head_entries;
        if self.blocks && self.limit > 0 && head > self.limit {
            return true;
        }
        match self.to {
            To::Length(most) => {
                header.length <= most || self.blocks && head > 0 && header.length - head < most
            }
            To::Id(least) => header.length == 0 || header.first >= least,
        }
    }

    /// Deletes what is too much, and brings the header up to date; the caller saves it. To be called
    /// before the command's first write.
    pub(super) fn run(
        &self,
        view: &mut View<'_>,
        stream: &mut Stream<'_>,
        added: Added,
    ) -> Result<Trimmed, Fail> {
        if self.is_idle(stream) {
            return Ok(Trimmed::default());
        }
        let to = match added {
            Some((id, _)) => id.previous().unwrap_or(StreamId::MIN),
            None => stream.header.last,
        };
        let stored = stream.walk(view, stream.header.first, to, Direction::Up)?;
        let mut candidates = Candidates { stored, added };
        let mut trimmed = Trimmed::default();
        let mut delete = |view: &mut View<'_>, stream: &mut Stream<'_>, id: StreamId| {
            match added {
                Some((added, _)) if added == id => trimmed.added = true,
                _ => stream.delete_entry(view, id),
            }
            stream.header.length -= 1;
            trimmed.deleted += 1;
        };
        if self.blocks {
            self.take_blocks(view, stream, &mut candidates, &mut delete)?;
        } else {
            self.take_each(view, stream, &mut candidates, &mut delete)?;
        }
        if stream.header.length == 0 {
            stream.header.first = StreamId::MIN;
            stream.header.head_entries = 0;
        }
        Ok(trimmed)
    }

    fn take_each(
        &self,
        view: &mut View<'_>,
        stream: &mut Stream<'_>,
        candidates: &mut Candidates<'_>,
        delete: &mut impl FnMut(&mut View<'_>, &mut Stream<'_>, StreamId),
    ) -> Result<(), Fail> {
        let before = stream.header.length;
        while let Some((id, _)) = candidates.step()? {
            let stays = match self.to {
                To::Length(most) => stream.header.length <= most,
                To::Id(least) => id >= least,
            };
            if stays {
                stream.header.first = id;
                break;
            }
            delete(view, stream, id);
        }
        let deleted = before - stream.header.length;
        let header = &mut stream.header;
        // All of the first block is gone: the next one has to be counted.
        header.head_entries = header.head_entries.saturating_sub(deleted);
        Ok(())
    }

    fn take_blocks(
        &self,
        view: &mut View<'_>,
        stream: &mut Stream<'_>,
        candidates: &mut Candidates<'_>,
        delete: &mut impl FnMut(&mut View<'_>, &mut Stream<'_>, StreamId),
    ) -> Result<(), Fail> {
        let before = stream.header.length;
        let (mut ids, mut block): (Vec<StreamId>, _) = (Vec::new(), stream.header.head_block);
        loop {
            let next = candidates.step()?;
            let ended = next.is_none_or(|(_, of)| of != block);
            if ended && !ids.is_empty() {
                let count = ids.len() as u64;
                let goes = match self.to {
                    To::Length(most) => stream.header.length - count >= most,
                    To::Id(_) => true,
                };
                if !goes || self.is_beyond(before - stream.header.length + count) {
                    let header = &mut stream.header;
                    header.first = ids[0];
                    (header.head_block, header.head_entries) = (block, count);
                    return Ok(());
                }
                ids.drain(..).for_each(|id| delete(view, stream, id));
            }
            let Some((id, of)) = next else { return Ok(()) };
            block = of;
            ids.push(id);
            let stays = matches!(self.to, To::Id(least) if id >= least);
            if stays || self.is_beyond(before - stream.header.length + ids.len() as u64) {
                // Its block is not counted to its end.
                let header = &mut stream.header;
                header.first = ids[0];
                if header.length < before {
                    (header.head_block, header.head_entries) = (block, 0);
                }
                return Ok(());
            }
        }
    }

    fn is_beyond(&self, deleted: u64) -> bool {
        self.limit > 0 && deleted > self.limit
    }
}
