//! The parts of a reply until all have come.

use rand::seq::IndexedRandom;
use resp::Version;
use resp::reply::Writer;

use super::{CURSOR_BITS, Split, integer_reply};
use crate::command::{Fan, Request};

/// What became of one part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// The node's answer.
    Answer(&'a [u8]),
    /// It did not run.
    Again,
}

/// What a part made of the whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// Others are to come.
    Not,
    /// The reply.
    Whole(Vec<u8>),
    /// Some part did not run, so the command is to be sent again: these are its bytes.
    Again(Vec<u8>),
}

/// The parts of one reply.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) kind: Fan,
    left: usize,
    /// Answers that are kept until all are there.
    parts: Vec<Vec<u8>>,
    owners: Vec<u16>,
    at: (u16, u16),
    sum: i64,
    /// The first error: it is the reply. A reply is never short of a part.
    error: Option<Vec<u8>>,
    again: bool,
    /// The command, to send it again as a whole; empty where each part can be.
    original: Vec<u8>,
}

impl Fan {
    /// Whether each part can be sent again without the others: it must be where parts change keys.
    pub(crate) const fn parts_stand_alone(self) -> bool {
        matches!(self, Self::Mset | Self::SumWrite)
    }
}

impl Gather {
    pub(crate) fn new(kind: Fan, split: &Split<'_>, request: &Request<'_>) -> Self {
        let mut original = Vec::new();
        if !kind.parts_stand_alone() {
            resp::command::write_header(&mut original, request.len());
            request.args_from(0).for_each(|arg| resp::command::write_arg(&mut original, arg));
        }
        Self {
            kind,
            left: split.parts.len(),
            parts: vec![Vec::new(); split.parts.len()],
            owners: split.owners.clone(),
            at: split.at,
            sum: 0,
            error: None,
            again: false,
            original,
        }
    }

    /// One part was split into so many.
    pub(crate) fn expect_more(&mut self, parts: usize) {
        self.left += parts.saturating_sub(1);
    }

    /// Takes one part.
    pub(crate) fn take(&mut self, part: u32, answer: Part<'_>, version: Version) -> Gathered {
        self.left = self.left.saturating_sub(1);
        match answer {
            Part::Again => self.again = true,
            Part::Answer(bytes) if bytes.first() == Some(&b'-') => {
                self.error.get_or_insert_with(|| bytes.to_vec());
            }
            Part::Answer(bytes) => self.keep(part, bytes),
        }
        if self.left > 0 {
            return Gathered::Not;
        }
        if self.again {
            return Gathered::Again(std::mem::take(&mut self.original));
        }
        if let Some(error) = self.error.take() {
            return Gathered::Whole(error);
        }
        let merged = self.merge(version);
        Gathered::Whole(merged.unwrap_or_else(|| {
            b"-ERR a node's answer is not what this command answers\r\n".to_vec()
        }))
    }

    fn keep(&mut self, part: u32, bytes: &[u8]) {
        match self.kind {
            Fan::SumRead | Fan::SumWrite | Fan::AllSum => {
                self.sum = self.sum.saturating_add(number(bytes).unwrap_or(0));
            }
            Fan::Mset => {}
            _ => {
                let kept = usize::try_from(part).ok().and_then(|at| self.parts.get_mut(at));
                if let Some(kept) = kept {
                    *kept = bytes.to_vec();
                }
            }
        }
    }

    fn merge(&self, version: Version) -> Option<Vec<u8>> {
        match self.kind {
            Fan::SumRead | Fan::SumWrite | Fan::AllSum => Some(integer_reply(self.sum)),
            Fan::Mset => Some(b"+OK\r\n".to_vec()),
            Fan::AllWrite => self.parts.first().cloned(),
            Fan::AllAny => {
                let some =
                    |reply: &&Vec<u8>| !reply.starts_with(b"_") && !reply.starts_with(b"$-1");
                let found: Vec<_> = self.parts.iter().filter(some).collect();
                let null = || self.parts.first();
                found.choose(&mut rand::rng()).copied().or_else(null).cloned()
            }
            Fan::AllJoin => {
                let arrays: Option<Vec<_>> = self.parts.iter().map(|part| array(part)).collect();
                let arrays = arrays?;
                let mut out = Vec::new();
                let total = arrays.iter().map(|(count, _)| count).sum();
                Writer::new(&mut out, version).array(total);
                arrays.iter().for_each(|(_, body)| out.extend_from_slice(body));
                Some(out)
            }
            Fan::Mget => {
                let bodies: Option<Vec<_>> =
                    self.parts.iter().map(|part| Some(array(part)?.1)).collect();
                let mut bodies = bodies?;
                let mut out = Vec::new();
                Writer::new(&mut out, version).array(self.owners.len());
                for owner in &self.owners {
                    let body = bodies.get_mut(usize::from(*owner))?;
                    let length = resp::reply::scan(body).ok()??;
                    let (value, rest) = body.split_at(length);
                    out.extend_from_slice(value);
                    *body = rest;
                }
                Some(out)
            }
            Fan::Scan => self.scanned(version),
        }
    }

    /// The cursor with the number of the shard above it; after a shard's last keys comes the next.
    fn scanned(&self, version: Version) -> Option<Vec<u8>> {
        let (2, body) = array(self.parts.first()?)? else { return None };
        let length = resp::reply::scan(body).ok()??;
        let (cursor, keys) = body.split_at(length);
        let line = cursor.iter().position(|&b| b == b'\n')? + 1;
        let text = std::str::from_utf8(cursor.get(line..length - 2)?).ok()?;
        let own: u64 = text.parse().ok()?;
        let (at, count) = self.at;
        let next = match own {
            0 if at + 1 == count => 0,
            0 => u64::from(at + 1) << CURSOR_BITS,
            own if own >> CURSOR_BITS == 0 => u64::from(at) << CURSOR_BITS | own,
            _ => return Some(b"-ERR the node's cursor is too big to carry\r\n".to_vec()),
        };
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, version);
        writer.array(2);
        writer.bulk(next.to_string().as_bytes());
        out.extend_from_slice(keys);
        Some(out)
    }
}

/// The integer of an integer reply.
fn number(reply: &[u8]) -> Option<i64> {
    resp::integer(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// How many values an array has, and the bytes of them.
fn array(reply: &[u8]) -> Option<(usize, &[u8])> {
    let line = reply.iter().position(|&b| b == b'\n')?;
    if !matches!(reply.first(), Some(b'*' | b'~')) {
        return None;
    }
    let count = resp::integer(reply.get(1..line - 1)?)?;
    Some((usize::try_from(count).ok()?, &reply[line + 1..]))
}
