//! Who takes what the source wrote: a Godwit node, the nodes of a Godwit cluster, or any server that
//! stands alone, speaks Redis's protocol and has transactions. The nodes of a Redis Cluster take no
//! transaction over several of their slots: [`Target::open`] refuses them.
//!
//! What is applied and the position go into one transaction (`MULTI ... SET <position key> ... EXEC`),
//! so a command takes effect once, whoever is killed and whenever. Of several shards each has a position
//! of its own. The position key is watched from one transaction to the next: who writes it beside us
//! makes ours fail, so two sidecars never apply the same twice.

use std::collections::HashMap;

use keyspace::{Slot, SlotRange, SlotSet};
use ops::tls::Client;
use resp::reply::Reply;

use super::address::Address;
use super::connection::{ANSWER_WITHIN, Connection, Error};
use super::place::{Standing, StandingError};

/// Why a target cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A connection.
    #[error(transparent)]
    Connection(#[from] Error),
    /// What its position key holds.
    #[error("{at}: {why}")]
    Standing {
        /// The server.
        at: String,
        /// What is there.
        why: StandingError,
    },
    /// It cannot write now.
    #[error("{at} takes no writes now: {why}. Nothing of the group was applied; it is tried again")]
    NotNow {
        /// The server.
        at: String,
        /// Its words.
        why: String,
    },
    /// Another one writes its position.
    #[error(
        "the position of {at} was changed by someone else, or it changed its role: nothing of the group was applied, and what is there now is read again. Never run two sidecars for one target"
    )]
    Superseded {
        /// The server.
        at: String,
    },
    /// It is a cluster that is not Godwit's.
    #[error(
        "{at} is of a cluster whose nodes take no transaction over several slots ({why}): without one a command could take effect twice. Give a Godwit cluster or a server that stands alone; nothing was written"
    )]
    Cluster {
        /// The server.
        at: String,
        /// Its words.
        why: String,
    },
    /// Its shards do not have all slots.
    #[error("the target's cluster has nobody for slot {0}: it is tried again")]
    NoShard(u16),
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    first: i64,
    last: i64,
    step: i64,
    /// Only the server can tell.
    movable: bool,
}

/// A shard of the target.
#[derive(Debug)]
pub struct Shard {
    connection: Connection,
    slots: SlotSet,
    /// Its position says of which slots it is: in a cluster they may change hands.
    in_cluster: bool,
    position_key: Vec<u8>,
    standing: Option<Standing>,
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Done {
    /// It ran with the position; these of its commands were refused while it ran.
    Ran(Vec<(usize, String)>),
    /// Nothing ran: the server will never take these commands.
    Unfit(Vec<(usize, String)>),
}

/// Commands for one shard, as they go over the wire.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each command begins, and where the stream stands behind it.
    commands: Vec<(usize, u64)>,
}

impl Batch {
    /// Adds a command that ends at this offset of the stream.
    pub fn push(&mut self, args: &[&[u8]], end: u64) {
        self.commands.push((self.bytes.len(), end));
        resp::command::write(&mut self.bytes, args);
    }

    /// How many commands.
    pub const fn len(&self) -> usize {
        self.commands.len()
    }

    /// None.
    pub const fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Bytes on the wire.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each command by itself, with where the stream stands behind it.
    pub fn singly(&self) -> impl Iterator<Item = (Self, u64)> + '_ {
        let ends = self.commands.iter().skip(1).map(|(start, _)| *start);
        let ends = ends.chain([self.bytes.len()]);
        self.commands.iter().zip(ends).map(|((start, offset), end)| {
            let bytes = self.bytes.get(*start..end).unwrap_or_default().to_vec();
            (Self { bytes, commands: vec![(0, *offset)] }, *offset)
        })
    }

    /// The name of a command.
    pub fn name(&self, index: usize) -> String {
        let start = self.commands.get(index).map_or(0, |(start, _)| *start);
        let text = self.bytes.get(start..).unwrap_or_default();
        // `*<count>`, `$<length>`, the name.
        let name = text.splitn(3, |byte| *byte == b'\n').nth(2).unwrap_or_default();
        let name = name.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(name).to_ascii_uppercase()
    }

    /// A command's arguments, its name first.
    pub fn args(&self, index: usize) -> Option<Vec<Vec<u8>>> {
        let (start, _) = self.commands.get(index)?;
        let end = self.commands.get(index + 1).map_or(self.bytes.len(), |(start, _)| *start);
        let mut bytes = self.bytes.get(*start..end)?.to_vec();
        let mut ranges = Vec::new();
        resp::command::parse(&mut bytes, &resp::command::Limits::default(), &mut ranges).ok()??;
        ranges.into_iter().map(|range| bytes.get(range).map(<[u8]>::to_vec)).collect()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        // One great value does not hold memory for all that follow.
        self.bytes.shrink_to(4 << 20);
        self.commands.clear();
    }
}

/// Whether a server that says so will say it again to the same command.
pub fn is_final(error: &str) -> bool {
    let code = error.split(' ').next().unwrap_or_default();
    let codes = [
        "ERR",
        "WRONGTYPE",
        "BUSYKEY",
        "NOSCRIPT",
        "BUSYGROUP",
        "NOGROUP",
        "CROSSSLOT",
        "INVALIDOBJ",
    ];
    codes.contains(&code)
}

impl Shard {
    async fn open(
        address: &Address,
        tls: Option<&Client>,
        slots: SlotSet,
        position_key: Vec<u8>,
    ) -> Result<Self, TargetError> {
        let connection = Connection::open(address, tls).await?;
        Self::watching(connection, (slots, false), position_key).await
    }

    /// A node of a cluster, once it has agreed to transactions over all slots of its shard.
    async fn open_in_cluster(
        address: &Address,
        tls: Option<&Client>,
        slots: SlotSet,
        position_key: Vec<u8>,
    ) -> Result<Self, TargetError> {
        let mut connection = Connection::open(address, tls).await?;
        match connection.call(&[b"GODWIT.CROSSSLOT"]).await {
            Ok(_) => Self::watching(connection, (slots, true), position_key).await,
            Err(Error::Refused { at, why, .. }) => Err(TargetError::Cluster { at, why }),
            Err(error) => Err(error.into()),
        }
    }

    async fn watching(
        connection: Connection,
        (slots, in_cluster): (SlotSet, bool),
        position_key: Vec<u8>,
    ) -> Result<Self, TargetError> {
        let mut shard = Self { connection, slots, in_cluster, position_key, standing: None };
        let key = shard.position_key.clone();
        shard.connection.call(&[b"WATCH", &key]).await?;
        let reply = shard.connection.call(&[b"GET", &key]).await?;
        shard.standing = shard.standing_in(&reply)?;
        Ok(shard)
    }

    fn standing_in(&self, reply: &Reply) -> Result<Option<Standing>, TargetError> {
        let Some(bytes) = reply.as_bytes() else { return Ok(None) };
        let text = String::from_utf8_lossy(bytes);
        let standing = standing_of(&text, self.in_cluster.then_some(&self.slots));
        standing.map_err(|why| TargetError::Standing { at: self.at(), why })
    }

    fn at(&self) -> String {
        self.connection.at().to_owned()
    }

    /// What it says of itself.
    pub const fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// How many keys it has, its position among them.
    pub async fn size(&mut self) -> Result<i64, TargetError> {
        Ok(self.connection.call(&[b"DBSIZE"]).await?.as_integer().unwrap_or(0))
    }

    /// Runs these commands and sets the position, in one transaction.
    pub async fn transact(&mut self, batch: &Batch, to: Standing) -> Result<Done, TargetError> {
        let value =
            if self.in_cluster { format!("{to}{OF}{}", self.slots) } else { to.to_string() };
        let mut bytes = Vec::with_capacity(batch.bytes.len() + 512);
        resp::command::write(&mut bytes, &[b"MULTI"]);
        bytes.extend_from_slice(&batch.bytes);
        let key = self.position_key.clone();
        resp::command::write(&mut bytes, &[b"SET", &key, value.as_bytes()]);
        resp::command::write(&mut bytes, &[b"EXEC"]);
        resp::command::write(&mut bytes, &[b"WATCH", &key]);
        resp::command::write(&mut bytes, &[b"GET", &key]);
        self.connection.send(&bytes).await?;
        let begun = self.connection.answer(ANSWER_WITHIN).await?;
        let mut unfit = Vec::new();
        let mut passing = begun.as_error().map(str::to_owned);
        for index in 0..=batch.len() {
            if let Reply::Error(why) = self.connection.answer(ANSWER_WITHIN).await? {
                if is_final(&why) && index < batch.len() {
                    unfit.push((index, why));
                } else {
                    passing.get_or_insert(why);
                }
            }
        }
        let ran = self.connection.answer(ANSWER_WITHIN).await?;
        let watching = self.connection.answer(ANSWER_WITHIN).await?;
        let now = self.connection.answer(ANSWER_WITHIN).await?;
        let at = self.at();
        if let Some(why) = passing {
            return Err(TargetError::NotNow { at, why });
        }
        match ran {
            Reply::Array(answers) => {
                if watching.as_error().is_some() || now.as_bytes() != Some(value.as_bytes()) {
                    return Err(TargetError::Superseded { at });
                }
                self.standing = Some(to);
                let refused = answers.into_iter().take(batch.len()).enumerate();
                let refused = refused.filter_map(|(index, reply)| match reply {
                    Reply::Error(why) => Some((index, why)),
                    _ => None,
                });
                Ok(Done::Ran(refused.collect()))
            }
            Reply::Null => Err(TargetError::Superseded { at }),
            Reply::Error(_) if !unfit.is_empty() => Ok(Done::Unfit(unfit)),
            Reply::Error(why) => Err(TargetError::NotNow { at, why }),
            other => Err(self.connection.unexpected(format!("{other:?} for EXEC")).into()),
        }
    }

    /// Runs these commands one by one; their answers.
    pub async fn run(&mut self, batch: &Batch) -> Result<Vec<Reply>, TargetError> {
        self.connection.send(&batch.bytes).await?;
        let mut answers = Vec::with_capacity(batch.len());
        for _ in 0..batch.len() {
            let answer = self.connection.answer(ANSWER_WITHIN).await?;
            if let Some(why) = answer.as_error().filter(|why| !is_final(why)) {
                return Err(TargetError::NotNow { at: self.at(), why: why.to_owned() });
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// Where a command goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// To one shard.
    One(usize),
    /// To all of them.
    All,
    /// Its keys are on several: to each the command's name with those arguments that are its own.
    Split(Vec<(usize, Vec<usize>)>),
    /// Its keys are on several, and its name with some of them is not what it does.
    Crosses,
    /// Nobody there knows it.
    Unknown,
}

/// The target.
#[derive(Debug)]
pub struct Target {
    /// Its shards; at least one.
    pub shards: Vec<Shard>,
    commands: HashMap<Vec<u8>, Keys>,
    position_key: Vec<u8>,
}

impl Target {
    /// Connects to all of it, and reads where it stands.
    pub async fn open(
        address: &Address,
        tls: Option<&Client>,
        position_key: &str,
    ) -> Result<Self, TargetError> {
        let mut first = Connection::open(address, tls).await?;
        let commands = commands(&mut first).await?;
        let position_key = position_key.as_bytes().to_vec();
        let nodes = nodes(&mut first, address).await?;
        drop(first);
        let mut shards = Vec::new();
        if nodes.is_empty() {
            shards.push(Shard::open(address, tls, SlotSet::all(), position_key.clone()).await?);
        }
        for (address, slots) in nodes {
            let key = key_among(&position_key, &slots);
            shards.push(Shard::open_in_cluster(&address, tls, slots, key).await?);
        }
        Ok(Self { shards, commands, position_key })
    }

    /// Whether a key is one of those that hold positions, this target's or another's.
    pub fn is_position(&self, key: &[u8]) -> bool {
        let rest = key.strip_prefix(&self.position_key[..]);
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| b"{.".contains(byte)))
    }

    /// Whether it knows a command, named in small letters.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.commands.contains_key(name)
    }

    /// The shard that has a key.
    pub fn shard_of(&self, key: &[u8]) -> Result<usize, TargetError> {
        if let [_] = &self.shards[..] {
            return Ok(0);
        }
        let slot = Slot::of_key(key);
        let at = self.shards.iter().position(|shard| shard.slots.contains(slot));
        at.ok_or(TargetError::NoShard(slot.number()))
    }

    /// Where a command goes; its name in small letters apart.
    pub async fn route(&mut self, name: &[u8], args: &[&[u8]]) -> Result<Route, TargetError> {
        let Some(keys) = self.commands.get(name).copied() else { return Ok(Route::Unknown) };
        if matches!(name, b"flushall" | b"flushdb" | b"function" | b"script") {
            return Ok(Route::All);
        }
        if let [_] = &self.shards[..] {
            return Ok(Route::One(0));
        }
        let at = if keys.movable {
            let texts = self.keys_of(args).await?;
            let shards = texts.iter().map(|key| self.shard_of(key));
            let mut shards = shards.collect::<Result<Vec<_>, _>>()?;
            shards.dedup();
            return Ok(match shards[..] {
                [] => Route::One(0),
                [one] => Route::One(one),
                _ => Route::Crosses,
            });
        } else {
            positions(keys, args.len())
        };
        let mut parts: Vec<(usize, Vec<usize>)> = Vec::new();
        for position in at {
            let shard = self.shard_of(args.get(position).copied().unwrap_or_default())?;
            let own = position..position + usize::try_from(keys.step).unwrap_or(1).max(1);
            match parts.iter_mut().find(|(of, _)| *of == shard) {
                Some((_, mine)) => mine.extend(own),
                None => parts.push((shard, own.collect())),
            }
        }
        Ok(match &parts[..] {
            [] => Route::One(0),
            [(one, _)] => Route::One(*one),
            _ if matches!(name, b"del" | b"unlink" | b"mset" | b"msetnx" | b"touch") => {
                Route::Split(parts)
            }
            _ => Route::Crosses,
        })
    }

    /// What a shard has under this key, as DUMP says it, and until when it lives in Unix milliseconds
    /// (negative: for ever). Asked between two transactions.
    pub async fn value_of(
        &mut self,
        shard: usize,
        key: &[u8],
    ) -> Result<Option<(Vec<u8>, i64)>, TargetError> {
        let Some(shard) = self.shards.get_mut(shard) else { return Ok(None) };
        let dumped = shard.connection.call(&[b"DUMP", key]).await?;
        let Some(value) = dumped.as_bytes().map(<[u8]>::to_vec) else { return Ok(None) };
        let until = shard.connection.call(&[b"PEXPIRETIME", key]).await?;
        Ok(Some((value, until.as_integer().unwrap_or(-1))))
    }

    /// A name in the slots of a shard.
    pub fn name_on(&self, shard: usize, base: &str) -> Vec<u8> {
        let slots = self.shards.get(shard).map(|shard| &shard.slots);
        slots.map_or_else(Vec::new, |slots| key_among(base.as_bytes(), slots))
    }

    /// The keys of a command of which only the server can tell. Keys are watched on the connections of
    /// the shards; this asks the first of them, between two transactions.
    async fn keys_of(&mut self, args: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError> {
        let Some(shard) = self.shards.first_mut() else { return Ok(Vec::new()) };
        let asked: Vec<&[u8]> =
            [&b"COMMAND"[..], b"GETKEYS"].into_iter().chain(args.iter().copied()).collect();
        match shard.connection.call(&asked).await {
            Ok(reply) => {
                let keys = reply.as_array().unwrap_or_default();
                Ok(keys.iter().filter_map(Reply::as_bytes).map(<[u8]>::to_vec).collect())
            }
            // `The command has no key arguments`.
            Err(Error::Refused { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn positions(keys: Keys, count: usize) -> Vec<usize> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last = if keys.last < 0 { count + keys.last } else { keys.last.min(count - 1) };
    if keys.first <= 0 || keys.step <= 0 {
        return Vec::new();
    }
    let step = usize::try_from(keys.step).unwrap_or(1);
    let at = (keys.first..=last).step_by(step);
    at.filter_map(|position| usize::try_from(position).ok()).collect()
}

async fn commands(connection: &mut Connection) -> Result<HashMap<Vec<u8>, Keys>, Error> {
    let reply = connection.call(&[b"COMMAND"]).await?;
    let mut commands = HashMap::new();
    for command in reply.as_array().unwrap_or_default() {
        let parts = command.as_array().unwrap_or_default();
        let number = |at: usize| parts.get(at).and_then(Reply::as_integer).unwrap_or(0);
        let Some(name) = parts.first().and_then(Reply::as_bytes) else { continue };
        let flags = parts.get(2).and_then(Reply::as_array).unwrap_or_default();
        let movable = flags.iter().any(|flag| flag.as_bytes() == Some(b"movablekeys"));
        // A command with subcommands (XGROUP) has its keys with them.
        let parent = parts.get(9).and_then(Reply::as_array).is_some_and(|subs| !subs.is_empty());
        let movable = movable || (parent && number(3) == 0);
        let keys = Keys { first: number(3), last: number(4), step: number(5), movable };
        commands.insert(name.to_ascii_lowercase(), keys);
    }
    if commands.is_empty() {
        return Err(connection.unexpected("no commands for COMMAND"));
    }
    Ok(commands)
}

/// The primaries of a cluster with their slots; none for a server that is not in one.
async fn nodes(
    connection: &mut Connection,
    address: &Address,
) -> Result<Vec<(Address, SlotSet)>, Error> {
    let reply = match connection.call(&[b"CLUSTER", b"SLOTS"]).await {
        Ok(reply) => reply,
        Err(Error::Refused { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut nodes: Vec<(Address, Vec<SlotRange>)> = Vec::new();
    for range in reply.as_array().unwrap_or_default() {
        let parts = range.as_array().unwrap_or_default();
        let slot = |at: usize| {
            let number = parts.get(at).and_then(Reply::as_integer);
            number.and_then(|n| u16::try_from(n).ok()).and_then(Slot::new)
        };
        let node = parts.get(2).and_then(Reply::as_array).unwrap_or_default();
        let host = node.first().and_then(Reply::as_text).unwrap_or_default();
        let port = node.get(1).and_then(Reply::as_integer).and_then(|n| u16::try_from(n).ok());
        let (Some(first), Some(last), Some(port)) = (slot(0), slot(1), port.filter(|p| *p > 0))
        else {
            return Err(connection.unexpected("a shard without an address: it has no primary now"));
        };
        let address = match (host, &address.endpoint) {
            // It says so of itself where it does not know its own name.
            ("", super::address::Endpoint::Tcp(own, _)) => address.at(own, port),
            (host, _) => address.at(host, port),
        };
        let range = SlotRange { first, last };
        match nodes.iter_mut().find(|(of, _)| *of == address) {
            Some((_, ranges)) => ranges.push(range),
            None => nodes.push((address, vec![range])),
        }
    }
    Ok(nodes.into_iter().map(|(of, ranges)| (of, SlotSet::from_ranges(ranges))).collect())
}

/// What stands between a shard's position and the slots that it is of.
const OF: &str = " of ";

/// What a position key says of a shard with these slots; `None`: nothing, or nothing of some of them.
fn standing_of(text: &str, slots: Option<&SlotSet>) -> Result<Option<Standing>, StandingError> {
    let Some(slots) = slots else { return text.parse().map(Some) };
    let (standing, of) = text.split_once(OF).unwrap_or((text, ""));
    let standing = standing.parse()?;
    let theirs = of.parse::<SlotSet>().ok();
    let has_all = |theirs: SlotSet| theirs.intersection(slots).len() == slots.len();
    Ok(theirs.is_some_and(has_all).then_some(standing))
}

/// A position key in one of these slots: the first of those with a number as their hash tag.
fn key_among(base: &[u8], slots: &SlotSet) -> Vec<u8> {
    let keys = (0u32..).map(|number| [base, format!("{{{number}}}").as_bytes()].concat());
    let mut keys = keys.take(1 << 20);
    keys.find(|key| slots.contains(Slot::of_key(key))).unwrap_or_else(|| base.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_apart_again() {
        let mut batch = Batch::default();
        batch.push(&[b"set", b"a", b"1"], 10);
        batch.push(&[b"incr", b"b"], 25);
        assert_eq!((batch.name(0), batch.name(1)), ("SET".to_owned(), "INCR".to_owned()));
        let singly: Vec<_> = batch.singly().map(|(one, end)| (one.bytes, end)).collect();
        assert_eq!(singly.iter().map(|(_, end)| *end).collect::<Vec<_>>(), [10, 25]);
        assert_eq!(
            singly.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>(),
            batch.bytes
        );
    }

    #[test]
    fn each_shard_has_a_position_key_of_its_own() {
        let half = |range: &str| range.parse::<SlotSet>().unwrap();
        for slots in [half("0-8191"), half("8192-16383"), half("77")] {
            let key = key_among(b"position", &slots);
            assert!(slots.contains(Slot::of_key(&key)), "{slots}");
        }
    }

    #[test]
    fn a_position_counts_for_no_slots_but_its_own() {
        let slots = |range: &str| range.parse::<SlotSet>().unwrap();
        let read = |text: &str, range: &str| standing_of(text, Some(&slots(range)));
        // Half of a shard stands where the whole did, two together stand nowhere.
        for range in ["0-8191", "0-4095", "8191"] {
            assert_eq!(read("loading of 0-8191", range), Ok(Some(Standing::Loading)), "{range}");
        }
        for (text, range) in
            [("loading of 0-8191", "0-16383"), ("loading of 0-8191", "8191-8192"), ("loading", "0")]
        {
            assert_eq!(read(text, range), Ok(None), "{text}, {range}");
        }
        assert!(read("mine of 0-16383", "0").is_err());
        assert_eq!(standing_of("loading", None), Ok(Some(Standing::Loading)));
        assert!(standing_of("loading of 0-1", None).is_err());
    }

    #[test]
    fn keys_are_where_the_server_says() {
        let keys = |first, last, step| Keys { first, last, step, movable: false };
        assert_eq!(positions(keys(1, -1, 2), 5), [1, 3]);
        assert_eq!(positions(keys(1, 1, 1), 3), [1]);
        assert_eq!(positions(keys(0, 0, 0), 3), [0; 0]);
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_stay() {
        assert!(is_final("ERR unknown command 'x'") && is_final("WRONGTYPE Operation"));
        assert!(!is_final("READONLY frozen") && !is_final("LOADING") && !is_final("OOM x"));
    }
}
