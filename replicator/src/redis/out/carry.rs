//! Carries keys as they are now from the node to the target. It is their state that is carried, never a
//! command: to carry a key twice, or later than it was touched, does no harm.

use resp::reply::Reply;

use crate::redis::board::Board;
use crate::redis::connection::{ANSWER_WITHIN, Connection, Error};
use crate::redis::load::write_elements;
use crate::redis::place::Standing;
use crate::redis::tally::{Tally, Why};
use crate::redis::target::{Batch, Done, Target, TargetError};

/// Keys that are asked for at once.
pub const KEYS: usize = 64;
/// What a transaction of the target is cut at.
const BATCH_BYTES: usize = 4 << 20;
/// Keys of one page of SCAN.
const PAGE: &[u8] = b"512";

/// Why keys are not carried.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The node.
    #[error(transparent)]
    Node(#[from] Error),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// From one to the other.
#[derive(Debug)]
pub struct Carrier {
    /// The node.
    pub node: Connection,
    /// The target.
    pub target: Target,
    /// What was not carried.
    pub tally: Tally,
    /// What is said of it.
    pub board: Board,
    /// What the target says of itself until the position is set.
    pub standing: Standing,
}

/// A key as the node has it.
enum Now {
    /// It is not there.
    Gone,
    /// It is another node's.
    Elsewhere,
    /// Its value, and when it expires in Unix milliseconds (0: never).
    Value(Vec<u8>, u64),
}

impl Carrier {
    /// Carries these keys.
    pub async fn keys<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), CarryError> {
        let keys: Vec<&[u8]> = keys.filter(|key| !self.target.is_position(key)).collect();
        for some in keys.chunks(KEYS) {
            let mut batches = vec![Batch::default(); self.target.shards.len()];
            for (key, now) in some.iter().zip(self.ask(some).await?) {
                let shard = self.target.shard_of(key)?;
                let Some(batch) = batches.get_mut(shard) else { continue };
                match now {
                    Now::Gone => batch.push(&[b"DEL", key], 0),
                    Now::Elsewhere => {}
                    Now::Value(payload, at_ms) => {
                        let at_ms = at_ms.to_string();
                        let args: [&[u8]; 6] =
                            [b"RESTORE", key, at_ms.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
                        batch.push(&args, 0);
                    }
                }
                if batch.bytes() >= BATCH_BYTES {
                    self.write(shard, batches.get_mut(shard)).await?;
                }
            }
            for (shard, batch) in batches.iter_mut().enumerate() {
                self.write(shard, Some(batch)).await?;
            }
        }
        Ok(())
    }

    /// What these keys are now.
    async fn ask(&mut self, keys: &[&[u8]]) -> Result<Vec<Now>, CarryError> {
        let mut bytes = Vec::new();
        for key in keys {
            resp::command::write(&mut bytes, &[b"PEXPIRETIME", key]);
            resp::command::write(&mut bytes, &[b"DUMP", key]);
        }
        self.node.send(&bytes).await?;
        let mut all = Vec::with_capacity(keys.len());
        for _ in keys {
            let expires = self.node.answer(ANSWER_WITHIN).await?;
            let value = self.node.answer(ANSWER_WITHIN).await?;
            all.push(match (value, expires) {
                (Reply::Error(why), _) if why.starts_with("MOVED") => Now::Elsewhere,
                (Reply::Error(why), _) | (_, Reply::Error(why)) => {
                    let at = self.node.at().to_owned();
                    return Err(Error::Refused { at, what: "DUMP".to_owned(), why }.into());
                }
                (Reply::Bulk(payload), expires) => {
                    let at_ms = expires.as_integer().and_then(|at| u64::try_from(at).ok());
                    Now::Value(payload, at_ms.unwrap_or(0))
                }
                _ => Now::Gone,
            });
        }
        Ok(all)
    }

    /// Writes a batch, under what the target says of itself now.
    async fn write(&mut self, shard: usize, batch: Option<&mut Batch>) -> Result<(), CarryError> {
        let (Some(batch), Some(to)) = (batch, self.target.shards.get_mut(shard)) else {
            return Ok(());
        };
        if batch.is_empty() {
            return Ok(());
        }
        let count = batch.len() as u64;
        let refused = match to.transact(batch, self.standing.clone()).await? {
            Done::Ran(refused) | Done::Unfit(refused) => refused,
        };
        for (at, why) in refused {
            let Some(args) = batch.args(at) else { continue };
            // What is in newer forms than the target takes goes in as ordinary commands.
            let mut again = Batch::default();
            if let [_, key, at_ms, payload, ..] = &args[..]
                && (why.contains("DUMP payload") || why.contains("Bad data format"))
                && write_payload(key, at_ms, payload, &mut again)
            {
                let done = to.transact(&again, self.standing.clone()).await?;
                let Done::Ran(refused) = done else {
                    self.tally.add(Why::Refused, &format!("{}: {why}", batch.name(at)));
                    continue;
                };
                for (at, why) in refused {
                    self.tally.add(Why::Refused, &format!("{}: {why}", again.name(at)));
                }
            } else {
                self.tally.add(Why::Refused, &format!("{}: {why}", batch.name(at)));
            }
        }
        self.board.update(|status| status.commands += count);
        batch.clear();
        Ok(())
    }

    /// Carries every key that the node has.
    pub async fn everything(&mut self) -> Result<(), CarryError> {
        let mut cursor = b"0".to_vec();
        loop {
            let page = self.node.call(&[b"SCAN", &cursor, b"COUNT", PAGE]).await?;
            let (next, keys) = self.page(&page)?;
            self.keys(keys.iter().map(Vec::as_slice)).await?;
            self.board.update(|status| status.keys_loaded += keys.len() as u64);
            cursor = next;
            if cursor == b"0" {
                return Ok(());
            }
        }
    }

    /// Deletes from the target what the node does not have. Keys of other nodes' slots stay.
    pub async fn sweep(&mut self) -> Result<(), CarryError> {
        for shard in 0..self.target.shards.len() {
            let mut cursor = b"0".to_vec();
            loop {
                let Some(of) = self.target.shards.get_mut(shard) else { return Ok(()) };
                let mut asked = Batch::default();
                asked.push(&[b"SCAN", &cursor, b"COUNT", PAGE], 0);
                let page = of.run(&asked).await?.pop().unwrap_or(Reply::Null);
                let (next, keys) = self.page(&page)?;
                let mut bytes = Vec::new();
                for key in &keys {
                    resp::command::write(&mut bytes, &[b"EXISTS", key]);
                }
                self.node.send(&bytes).await?;
                let mut batch = Batch::default();
                for key in &keys {
                    let gone = self.node.answer(ANSWER_WITHIN).await?.as_integer() == Some(0);
                    if gone && !self.target.is_position(key) {
                        batch.push(&[b"DEL", key], 0);
                    }
                }
                self.write(shard, Some(&mut batch)).await?;
                cursor = next;
                if cursor == b"0" {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Replaces the target's libraries of functions by the node's.
    pub async fn libraries(&mut self) -> Result<(), CarryError> {
        if !self.target.knows(b"function") {
            self.tally.add(Why::Command, "FUNCTION");
            return Ok(());
        }
        let dump = self.node.call(&[b"FUNCTION", b"DUMP"]).await?;
        for shard in 0..self.target.shards.len() {
            let mut batch = Batch::default();
            let payload = dump.as_bytes().unwrap_or_default();
            batch.push(&[b"FUNCTION", b"RESTORE", payload, b"FLUSH"], 0);
            self.write(shard, Some(&mut batch)).await?;
        }
        Ok(())
    }

    fn page(&self, reply: &Reply) -> Result<(Vec<u8>, Vec<Vec<u8>>), CarryError> {
        let parts = reply.as_array().unwrap_or_default();
        let cursor = parts.first().and_then(Reply::as_bytes);
        let keys = parts.get(1).and_then(Reply::as_array);
        let Some((cursor, keys)) = cursor.zip(keys) else {
            return Err(self.node.unexpected(format!("{reply:?} for SCAN")).into());
        };
        let keys = keys.iter().filter_map(Reply::as_bytes).map(<[u8]>::to_vec);
        Ok((cursor.to_vec(), keys.collect()))
    }
}

/// Adds a dumped value as ordinary commands; `false`: it cannot be.
fn write_payload(key: &[u8], at_ms: &[u8], payload: &[u8], batch: &mut Batch) -> bool {
    use rdb::file::{Entry, Part};
    let body = payload.get(..payload.len().saturating_sub(10)).unwrap_or_default().to_vec();
    let Some(form) = body.first().copied().and_then(rdb::Form::from_number) else { return false };
    let at_ms = resp::integer(at_ms).and_then(|at| u64::try_from(at).ok()).filter(|at| *at != 0);
    batch.push(&[b"DEL", key], 0);
    let entry = Entry { key: key.to_vec(), expire_ms: at_ms, form, body, part: Part::Whole };
    write_elements(&entry, batch)
}
