//! What may be asked.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use keyspace::{Hlc, Slot, SlotSet};
use topology::record::UnixMs;
use topology::{Epoch, FreezeId, ShardName};
use wal::{Chain, Position, Sequence, TimelineId};

use crate::{Adopt, Follow, Replay, ReplayEntry, ReplayMode, Slice};

/// A control command. Bytes that may be large are borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `PING`.
    Ping,
    /// `AUTH user password`: who asks on this connection.
    Auth {
        /// The user.
        user: &'a [u8],
        /// The password.
        password: &'a [u8],
    },
    /// `GODWIT.ON timeline command...`: carries out the command only while the node's own log is on this
    /// timeline. One that has swapped its database since, or opened it again, refuses with
    /// [`Code::Database`](crate::Code::Database).
    On {
        /// That of the `position` that `GODWIT.STATUS` says.
        timeline: TimelineId,
        /// The command; none that is `GODWIT.ON` or `AUTH`.
        request: Box<Request<'a>>,
    },
    /// `GODWIT.STATUS`: [`crate::Status`] as JSON.
    Status,
    /// `GODWIT.POSITION`: the end of the node's log.
    Position,
    /// `GODWIT.ROLE`: the role's name.
    Role,
    /// `GODWIT.SYNC`: syncs the log; [`crate::Synced`] as JSON.
    Sync,
    /// `GODWIT.COMPACT`: compacts everything, answers when done.
    Compact,
    /// `GODWIT.CHECKPOINT name`: makes one; [`crate::CheckpointInfo`] as JSON.
    Checkpoint(Cow<'a, str>),
    /// `GODWIT.CHECKPOINT DROP name`.
    DropCheckpoint(Cow<'a, str>),
    /// `GODWIT.APPLY source frame`: the source sequence that is applied then.
    Apply {
        /// The source shard.
        source: ShardName,
        /// `wal::frame` bytes.
        frame: &'a [u8],
    },
    /// `GODWIT.FOLLOW source position log-chain stream-chain epoch`: a standby begins to follow.
    Follow(Follow),
    /// `GODWIT.SEED path adopt`: swaps the database for the directory at path.
    Seed {
        /// Inside the node's directory.
        path: PathBuf,
        /// What it becomes.
        adopt: Adopt,
    },
    /// `GODWIT.SEED LINK|COPY path adopt`: the same of files that lie elsewhere and stay there: their
    /// table files are linked into the node's directory, or copied.
    Activate {
        /// An absolute path that the node can read.
        path: PathBuf,
        /// What it becomes.
        adopt: Adopt,
        /// Whether table files are copied: from another file system they cannot be linked.
        copy: bool,
    },
    /// `GODWIT.SEED SLOTS path slice`: what the node has of the slice's slots becomes what is in the
    /// files at path.
    SeedSlots {
        /// A directory among those of received loads.
        path: PathBuf,
        /// What it is.
        slice: Box<Slice>,
    },
    /// `GODWIT.INGEST path [LINK]`: takes in the load in the directory at path; [`crate::Ingested`] as
    /// JSON.
    Ingest {
        /// Where the load is.
        path: PathBuf,
        /// Its files may be linked: nobody changes them any more.
        link: bool,
    },
    /// `GODWIT.SLOTS DUMP slots path`: writes all that is live in these slots, as of one position, into
    /// a load at path; [`crate::SlotsExported`] as JSON.
    DumpSlots {
        /// Which slots.
        slots: SlotSet,
        /// A directory that is not there yet, or empty.
        path: PathBuf,
    },
    /// `GODWIT.SLOTS DELETE slots [YES]`: deletes all that is in these slots at once;
    /// [`crate::SlotsDeleted`] as JSON.
    DeleteSlots {
        /// Which slots.
        slots: SlotSet,
        /// Those that the node holds, which clients use, too.
        yes: bool,
    },
    /// `GODWIT.EXPORT key...`: the position and a batch of all raw records of the keys.
    Export(Vec<&'a [u8]>),
    /// `GODWIT.RECORDS key...`: the position and a batch of those of these raw records of no slot that
    /// are there.
    Records(Vec<&'a [u8]>),
    /// `GODWIT.SLOTS MEASURE slots`: how much they hold; [`crate::Measured`] as JSON.
    Measure(SlotSet),
    /// `GODWIT.SLOTS EXPORT slots after`: a position, the key to go on after (null at the end) and a
    /// batch of all raw records of the next keys.
    ExportSlots {
        /// Whose keys.
        slots: SlotSet,
        /// The meta key after which to begin; empty: from the first on.
        after: &'a [u8],
    },
    /// `GODWIT.SLOTS STAMPED slots stamp after`: the key to go on after (null at the end), and the
    /// next keys whose record has exactly this stamp: those that a load brought.
    Stamped {
        /// Whose keys.
        slots: SlotSet,
        /// The stamp.
        stamp: Hlc,
        /// The meta key after which to begin; empty: from the first on.
        after: &'a [u8],
    },
    /// `GODWIT.REWIND BEGIN source fork`: not readable, not promotable from here on.
    RewindBegin {
        /// The shard that is followed then.
        source: ShardName,
        /// The last common position.
        fork: Position,
    },
    /// `GODWIT.REWIND KEYS n key... batch`: the keys become what the batch says.
    RewindKeys {
        /// The keys.
        keys: Vec<&'a [u8]>,
        /// What `GODWIT.EXPORT` of the source answered for them.
        batch: &'a [u8],
    },
    /// `GODWIT.REWIND RECORDS n key... batch`: the raw records of no slot become what the batch says.
    RewindRecords {
        /// Their keys.
        keys: Vec<&'a [u8]>,
        /// What `GODWIT.RECORDS` of the source answered for them.
        batch: &'a [u8],
    },
    /// `GODWIT.REWIND SLOTS slots`: all that they hold goes.
    RewindSlots(SlotSet),
    /// `GODWIT.REWIND PUT slots batch`: what a batch of `GODWIT.SLOTS EXPORT` puts is put.
    RewindPut {
        /// The slots that the records may be of.
        slots: SlotSet,
        /// What the source answered.
        batch: &'a [u8],
    },
    /// `GODWIT.REWIND FORGET load`: it was never taken in here.
    RewindForget(u128),
    /// `GODWIT.REWIND END source resume log-chain stream-chain epoch until`: follows from there,
    /// readable again once applied up to `until`.
    RewindEnd(Follow),
    /// `GODWIT.REPLAY mode TRY|DO fork (key stamp records)...`: a primary writes what was stranded;
    /// [`crate::Replayed`] as JSON.
    Replay(Replay<'a>),
    /// `GODWIT.BARRIER`: writes a barrier batch and digests there; its id and position.
    Barrier,
    /// `GODWIT.DIGEST id`: [`crate::Digest`] as JSON.
    Digest(u128),
    /// `GODWIT.DIGEST KEYS id slot after`: the meta key to go on after (null at the end), then key and
    /// digest of the slot's next keys, as the digest of that barrier saw them.
    DigestKeys {
        /// The barrier.
        id: u128,
        /// The slot.
        slot: Slot,
        /// The meta key after which to begin; empty: from the first on.
        after: &'a [u8],
    },
    /// `GODWIT.REPAIR key...`: a primary writes all that it has of these keys to its log once more,
    /// behind what deletes all that a follower may have of them; [`crate::Repaired`] as JSON.
    Repair(Vec<&'a [u8]>),
    /// `GODWIT.DIGEST DROP id`.
    DropDigest(u128),
    /// `GODWIT.FREEZE id deadline-unix-ms`: as the record's freeze, on a node without a service.
    Freeze {
        /// Names the end batch.
        id: FreezeId,
        /// When it ends by itself.
        deadline: UnixMs,
    },
    /// `GODWIT.FENCE epoch`: no writes as primary below this epoch.
    Fence(Epoch),
    /// `GODWIT.PROMOTE epoch`: as the record's commit, on a node without a service.
    Promote(Epoch),
    /// `GODWIT.PROMISE WANTED`: what a primary wants of others while the registry is silent, a
    /// [`crate::PromiseWish`] as JSON; null where it wants nothing.
    PromiseWanted,
    /// `GODWIT.PROMISE HAVE id shard...`: these have promised what was wanted.
    PromiseHave {
        /// The wish.
        id: u64,
        /// Who has.
        of: BTreeSet<ShardName>,
    },
    /// `GODWIT.PROMISE GIVE primary epoch lease-ms`: the node refuses to be promoted for so long from now
    /// on; that is on its disk before the answer.
    PromiseGive {
        /// To whom it promises that.
        primary: ShardName,
        /// The epoch that the primary acts under.
        epoch: Epoch,
        /// For how long, in milliseconds.
        lease_ms: u64,
    },
}

/// Why arguments are no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such command.
    #[error("unknown control command `{0}`; data commands go to the client listener")]
    Unknown(String),
    /// The wrong number of arguments.
    #[error("wrong number of arguments for `{0}`")]
    Arity(&'static str),
    /// An argument that cannot be read.
    #[error("{0}")]
    Argument(String),
}

impl<'a> Request<'a> {
    /// Its name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Auth { .. } => "AUTH",
            Self::On { .. } => "GODWIT.ON",
            Self::Status => "GODWIT.STATUS",
            Self::Position => "GODWIT.POSITION",
            Self::Role => "GODWIT.ROLE",
            Self::Sync => "GODWIT.SYNC",
            Self::Compact => "GODWIT.COMPACT",
            Self::Checkpoint(_) | Self::DropCheckpoint(_) => "GODWIT.CHECKPOINT",
            Self::Apply { .. } => "GODWIT.APPLY",
            Self::Follow(_) => "GODWIT.FOLLOW",
            Self::Seed { .. } | Self::Activate { .. } | Self::SeedSlots { .. } => "GODWIT.SEED",
            Self::Ingest { .. } => "GODWIT.INGEST",
            Self::Export(_) => "GODWIT.EXPORT",
            Self::Records(_) => "GODWIT.RECORDS",
            Self::Measure(_)
            | Self::ExportSlots { .. }
            | Self::Stamped { .. }
            | Self::DumpSlots { .. }
            | Self::DeleteSlots { .. } => "GODWIT.SLOTS",
            Self::RewindBegin { .. }
            | Self::RewindKeys { .. }
            | Self::RewindRecords { .. }
            | Self::RewindSlots(_)
            | Self::RewindPut { .. }
            | Self::RewindForget(_)
            | Self::RewindEnd(_) => "GODWIT.REWIND",
            Self::Replay(_) => "GODWIT.REPLAY",
            Self::Barrier => "GODWIT.BARRIER",
            Self::Digest(_) | Self::DigestKeys { .. } | Self::DropDigest(_) => "GODWIT.DIGEST",
            Self::Repair(_) => "GODWIT.REPAIR",
            Self::Freeze { .. } => "GODWIT.FREEZE",
            Self::Fence(_) => "GODWIT.FENCE",
            Self::Promote(_) => "GODWIT.PROMOTE",
            Self::PromiseWanted | Self::PromiseHave { .. } | Self::PromiseGive { .. } => {
                "GODWIT.PROMISE"
            }
        }
    }

    /// Appends the command as a client sends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.name().as_bytes();
        let text: Vec<String> = match self {
            Self::Auth { user, password } => {
                return resp::command::write(out, &[name, user, password]);
            }
            Self::On { timeline, request } => return write_on(*timeline, request, out),
            Self::Checkpoint(name) => vec![name.to_string()],
            Self::DropCheckpoint(name) => vec!["DROP".to_owned(), name.to_string()],
            Self::Apply { source, frame } => {
                return resp::command::write(out, &[name, source.to_string().as_bytes(), frame]);
            }
            Self::Follow(follow) => follow_args(follow),
            Self::Seed { path, adopt } => {
                let path = path.to_string_lossy();
                return resp::command::write(out, &[name, path.as_bytes(), &adopt.to_bytes()]);
            }
            Self::Activate { path, adopt, copy } => {
                let verb: &[u8] = if *copy { b"COPY" } else { b"LINK" };
                let path = path.to_string_lossy();
                let args: [&[u8]; 4] = [name, verb, path.as_bytes(), &adopt.to_bytes()];
                return resp::command::write(out, &args);
            }
            Self::SeedSlots { path, slice } => {
                let path = path.to_string_lossy();
                let args: [&[u8]; 4] = [name, b"SLOTS", path.as_bytes(), &slice.to_bytes()];
                return resp::command::write(out, &args);
            }
            Self::Ingest { path, link } => {
                let path = path.to_string_lossy();
                let args: [&[u8]; 3] = [name, path.as_bytes(), b"LINK"];
                return resp::command::write(out, if *link { &args } else { &args[..2] });
            }
            Self::DumpSlots { slots, path } => {
                let (slots, path) = (slots.to_string(), path.to_string_lossy());
                let args = [name, b"DUMP", slots.as_bytes(), path.as_bytes()];
                return resp::command::write(out, &args);
            }
            Self::DeleteSlots { slots, yes } => {
                let slots = slots.to_string();
                let args: [&[u8]; 4] = [name, b"DELETE", slots.as_bytes(), b"YES"];
                return resp::command::write(out, if *yes { &args } else { &args[..3] });
            }
            Self::Export(keys) | Self::Records(keys) => {
                let args: Vec<&[u8]> = [&[name], keys.as_slice()].concat();
                return resp::command::write(out, &args);
            }
            Self::RewindBegin { source, fork } => {
                vec!["BEGIN".to_owned(), source.to_string(), fork.to_string()]
            }
            Self::RewindKeys { keys, batch } | Self::RewindRecords { keys, batch } => {
                let count = keys.len().to_string();
                let of_keys = matches!(self, Self::RewindKeys { .. });
                let verb: &[u8] = if of_keys { b"KEYS" } else { b"RECORDS" };
                let head: [&[u8]; 3] = [name, verb, count.as_bytes()];
                return resp::command::write(out, &[&head, keys.as_slice(), &[batch]].concat());
            }
            Self::Measure(slots) => vec!["MEASURE".to_owned(), slots.to_string()],
            Self::ExportSlots { slots, after } => {
                let slots = slots.to_string();
                return resp::command::write(out, &[name, b"EXPORT", slots.as_bytes(), after]);
            }
            Self::Stamped { slots, stamp, after } => {
                let (slots, stamp) = (slots.to_string(), stamp.0.to_string());
                let args = [name, b"STAMPED", slots.as_bytes(), stamp.as_bytes(), after];
                return resp::command::write(out, &args);
            }
            Self::RewindSlots(slots) => vec!["SLOTS".to_owned(), slots.to_string()],
            Self::RewindForget(id) => vec!["FORGET".to_owned(), format!("{id:032x}")],
            Self::RewindPut { slots, batch } => {
                let slots = slots.to_string();
                return resp::command::write(out, &[name, b"PUT", slots.as_bytes(), batch]);
            }
            Self::RewindEnd(follow) => {
                let mut args = vec!["END".to_owned()];
                args.extend(follow_args(follow));
                args.push(follow.until.to_string());
                args
            }
            Self::Replay(replay) => return write_replay(name, replay, out),
            Self::DigestKeys { id, slot, after } => {
                let (id, slot) = (format!("{id:032x}"), slot.to_string());
                let args = [name, b"KEYS", id.as_bytes(), slot.as_bytes(), after];
                return resp::command::write(out, &args);
            }
            Self::Repair(keys) => {
                let args: Vec<&[u8]> = [&[name], keys.as_slice()].concat();
                return resp::command::write(out, &args);
            }
            Self::Digest(id) => vec![format!("{id:032x}")],
            Self::DropDigest(id) => vec!["DROP".to_owned(), format!("{id:032x}")],
            Self::Freeze { id, deadline } => vec![id.to_string(), deadline.0.to_string()],
            Self::Fence(epoch) | Self::Promote(epoch) => vec![epoch.to_string()],
            Self::PromiseWanted => vec!["WANTED".to_owned()],
            Self::PromiseHave { id, of } => {
                let mut args = vec!["HAVE".to_owned(), id.to_string()];
                args.extend(of.iter().map(ToString::to_string));
                args
            }
            Self::PromiseGive { primary, epoch, lease_ms } => {
                let (primary, epoch) = (primary.to_string(), epoch.to_string());
                vec!["GIVE".to_owned(), primary, epoch, lease_ms.to_string()]
            }
            Self::Ping
            | Self::Status
            | Self::Position
            | Self::Role
            | Self::Sync
            | Self::Compact
            | Self::Barrier => Vec::new(),
        };
        let mut args = vec![name];
        args.extend(text.iter().map(|arg| arg.as_bytes()));
        resp::command::write(out, &args);
    }

    /// Reads a command's arguments, the name first.
    pub fn parse(args: &[&'a [u8]]) -> Result<Self, RequestError> {
        let (name, rest) = args.split_first().ok_or(RequestError::Arity("a command"))?;
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        match (name.as_str(), rest) {
            ("PING", []) => Ok(Self::Ping),
            ("AUTH", [user, password]) => Ok(Self::Auth { user, password }),
            ("GODWIT.ON", [timeline, inner @ ..]) => read_on(timeline, inner),
            ("GODWIT.STATUS", []) => Ok(Self::Status),
            ("GODWIT.POSITION", []) => Ok(Self::Position),
            ("GODWIT.ROLE", []) => Ok(Self::Role),
            ("GODWIT.SYNC", []) => Ok(Self::Sync),
            ("GODWIT.COMPACT", []) => Ok(Self::Compact),
            ("GODWIT.CHECKPOINT", [name]) => Ok(Self::Checkpoint(text(name)?.into())),
            ("GODWIT.CHECKPOINT", [drop, name]) if is(drop, "DROP") => {
                Ok(Self::DropCheckpoint(text(name)?.into()))
            }
            ("GODWIT.APPLY", [source, frame]) => Ok(Self::Apply { source: read(source)?, frame }),
            ("GODWIT.FOLLOW", [source, position, log, stream, epoch]) => {
                Ok(Self::Follow(follow([source, position, log, stream, epoch], None)?))
            }
            ("GODWIT.SEED", [path, adopt]) => Ok(Self::Seed {
                path: PathBuf::from(text(path)?),
                adopt: Adopt::parse(adopt).map_err(RequestError::Argument)?,
            }),
            ("GODWIT.SEED", [verb, path, slice]) if is(verb, "SLOTS") => Ok(Self::SeedSlots {
                path: PathBuf::from(text(path)?),
                slice: Slice::parse(slice).map(Box::new).map_err(RequestError::Argument)?,
            }),
            ("GODWIT.SEED", [verb, path, adopt]) if is(verb, "LINK") || is(verb, "COPY") => {
                Ok(Self::Activate {
                    path: PathBuf::from(text(path)?),
                    adopt: Adopt::parse(adopt).map_err(RequestError::Argument)?,
                    copy: is(verb, "COPY"),
                })
            }
            ("GODWIT.INGEST", [path]) => {
                Ok(Self::Ingest { path: PathBuf::from(text(path)?), link: false })
            }
            ("GODWIT.INGEST", [path, link]) if is(link, "LINK") => {
                Ok(Self::Ingest { path: PathBuf::from(text(path)?), link: true })
            }
            ("GODWIT.SLOTS", [verb, slots, path]) if is(verb, "DUMP") => {
                Ok(Self::DumpSlots { slots: read_slots(slots)?, path: PathBuf::from(text(path)?) })
            }
            ("GODWIT.SLOTS", [verb, slots]) if is(verb, "DELETE") => {
                Ok(Self::DeleteSlots { slots: read_slots(slots)?, yes: false })
            }
            ("GODWIT.SLOTS", [verb, slots, yes]) if is(verb, "DELETE") && is(yes, "YES") => {
                Ok(Self::DeleteSlots { slots: read_slots(slots)?, yes: true })
            }
            ("GODWIT.EXPORT", [_, ..]) => Ok(Self::Export(rest.to_vec())),
            ("GODWIT.RECORDS", [_, ..]) => Ok(Self::Records(rest.to_vec())),
            ("GODWIT.REWIND", [verb, source, fork]) if is(verb, "BEGIN") => {
                Ok(Self::RewindBegin { source: read(source)?, fork: read(fork)? })
            }
            ("GODWIT.REWIND", [verb, count, keys @ .., batch]) if is(verb, "KEYS") => {
                if read::<usize>(count)? != keys.len() {
                    return Err(RequestError::Arity("GODWIT.REWIND KEYS"));
                }
                Ok(Self::RewindKeys { keys: keys.to_vec(), batch })
            }
            ("GODWIT.REWIND", [verb, count, keys @ .., batch]) if is(verb, "RECORDS") => {
                if read::<usize>(count)? != keys.len() {
                    return Err(RequestError::Arity("GODWIT.REWIND RECORDS"));
                }
                Ok(Self::RewindRecords { keys: keys.to_vec(), batch })
            }
            ("GODWIT.SLOTS", [verb, slots]) if is(verb, "MEASURE") => {
                Ok(Self::Measure(read_slots(slots)?))
            }
            ("GODWIT.SLOTS", [verb, slots, after]) if is(verb, "EXPORT") => {
                Ok(Self::ExportSlots { slots: read_slots(slots)?, after })
            }
            ("GODWIT.SLOTS", [verb, slots, stamp, after]) if is(verb, "STAMPED") => {
                let stamp = Hlc(read(stamp)?);
                Ok(Self::Stamped { slots: read_slots(slots)?, stamp, after })
            }
            ("GODWIT.REWIND", [verb, slots]) if is(verb, "SLOTS") => {
                Ok(Self::RewindSlots(read_slots(slots)?))
            }
            ("GODWIT.REWIND", [verb, id]) if is(verb, "FORGET") => Ok(Self::RewindForget(hex(id)?)),
            ("GODWIT.REWIND", [verb, slots, batch]) if is(verb, "PUT") => {
                Ok(Self::RewindPut { slots: read_slots(slots)?, batch })
            }
            ("GODWIT.REWIND", [verb, source, resume, log, stream, epoch, until])
                if is(verb, "END") =>
            {
                let until = Sequence(read(until)?);
                Ok(Self::RewindEnd(follow([source, resume, log, stream, epoch], Some(until))?))
            }
            ("GODWIT.REPLAY", [mode, how, fork, entries @ ..]) => {
                read_replay(mode, how, fork, entries).map(Self::Replay)
            }
            ("GODWIT.BARRIER", []) => Ok(Self::Barrier),
            ("GODWIT.DIGEST", [id]) => Ok(Self::Digest(hex(id)?)),
            ("GODWIT.DIGEST", [drop, id]) if is(drop, "DROP") => Ok(Self::DropDigest(hex(id)?)),
            ("GODWIT.DIGEST", [verb, id, slot, after]) if is(verb, "KEYS") => {
                let slot = Slot::new(read(slot)?);
                let beyond = || RequestError::Argument("slots are 0 to 16383".to_owned());
                Ok(Self::DigestKeys { id: hex(id)?, slot: slot.ok_or_else(beyond)?, after })
            }
            ("GODWIT.REPAIR", [_, ..]) => Ok(Self::Repair(rest.to_vec())),
            ("GODWIT.FREEZE", [id, deadline]) => {
                Ok(Self::Freeze { id: FreezeId(hex(id)?), deadline: UnixMs(read(deadline)?) })
            }
            ("GODWIT.FENCE", [epoch]) => Ok(Self::Fence(Epoch(read(epoch)?))),
            ("GODWIT.PROMOTE", [epoch]) => Ok(Self::Promote(Epoch(read(epoch)?))),
            ("GODWIT.PROMISE", [verb]) if is(verb, "WANTED") => Ok(Self::PromiseWanted),
            ("GODWIT.PROMISE", [verb, id, of @ ..]) if is(verb, "HAVE") => {
                let of = of.iter().map(|shard| read(shard)).collect::<Result<_, _>>()?;
                Ok(Self::PromiseHave { id: read(id)?, of })
            }
            ("GODWIT.PROMISE", [verb, primary, epoch, lease_ms]) if is(verb, "GIVE") => {
                let (primary, epoch) = (read(primary)?, Epoch(read(epoch)?));
                Ok(Self::PromiseGive { primary, epoch, lease_ms: read(lease_ms)? })
            }
            _ => Err(match NAMES.iter().find(|known| **known == name) {
                Some(known) => RequestError::Arity(known),
                None => RequestError::Unknown(name.chars().take(64).collect()),
            }),
        }
    }
}

const NAMES: [&str; 25] = [
    "PING",
    "AUTH",
    "GODWIT.ON",
    "GODWIT.STATUS",
    "GODWIT.POSITION",
    "GODWIT.ROLE",
    "GODWIT.SYNC",
    "GODWIT.COMPACT",
    "GODWIT.CHECKPOINT",
    "GODWIT.APPLY",
    "GODWIT.FOLLOW",
    "GODWIT.SEED",
    "GODWIT.INGEST",
    "GODWIT.EXPORT",
    "GODWIT.RECORDS",
    "GODWIT.SLOTS",
    "GODWIT.REWIND",
    "GODWIT.REPLAY",
    "GODWIT.BARRIER",
    "GODWIT.DIGEST",
    "GODWIT.REPAIR",
    "GODWIT.FREEZE",
    "GODWIT.FENCE",
    "GODWIT.PROMOTE",
    "GODWIT.PROMISE",
];

/// The command as it is by itself, with two more arguments before it.
pub(crate) fn write_on(timeline: TimelineId, request: &Request<'_>, out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    request.write(&mut inner);
    let head = inner.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (count, args) = inner.split_at(head);
    let count = count.get(1..).unwrap_or_default().trim_ascii_end();
    let count = resp::integer(count).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    resp::command::write_header(out, count + 2);
    resp::command::write_arg(out, b"GODWIT.ON");
    resp::command::write_arg(out, timeline.to_string().as_bytes());
    out.extend_from_slice(args);
}

fn read_on<'a>(timeline: &[u8], inner: &[&'a [u8]]) -> Result<Request<'a>, RequestError> {
    let timeline = read(timeline)?;
    // It is looked at before it is read: requests are not nested.
    let refused = |name: &&&[u8]| is(name, "GODWIT.ON") || is(name, "AUTH");
    if inner.is_empty() || inner.first().is_some_and(|name| refused(&name)) {
        return Err(RequestError::Arity("GODWIT.ON"));
    }
    let request = Box::new(Request::parse(inner)?);
    Ok(Request::On { timeline, request })
}

fn follow_args(follow: &Follow) -> Vec<String> {
    vec![
        follow.source.to_string(),
        follow.position.to_string(),
        follow.log_chain.0.to_string(),
        follow.stream_chain.0.to_string(),
        follow.epoch.to_string(),
    ]
}

fn follow(args: [&[u8]; 5], until: Option<Sequence>) -> Result<Follow, RequestError> {
    let [source, position, log, stream, epoch] = args;
    let position: Position = read(position)?;
    Ok(Follow {
        source: read(source)?,
        position,
        log_chain: Chain(read(log)?),
        stream_chain: Chain(read(stream)?),
        epoch: Epoch(read(epoch)?),
        until: until.unwrap_or(position.sequence),
    })
}

fn write_replay(name: &[u8], replay: &Replay<'_>, out: &mut Vec<u8>) {
    let fork = replay.fork.0.to_string();
    let how: &[u8] = if replay.dry { b"TRY" } else { b"DO" };
    let stamps: Vec<_> = replay.entries.iter().map(|entry| entry.stamp.0.to_string()).collect();
    let mut args = vec![name, replay.mode.word().as_bytes(), how, fork.as_bytes()];
    for (entry, stamp) in replay.entries.iter().zip(&stamps) {
        args.extend([entry.key, stamp.as_bytes(), entry.records]);
    }
    resp::command::write(out, &args);
}

fn read_replay<'a>(
    mode: &[u8],
    how: &[u8],
    fork: &[u8],
    entries: &[&'a [u8]],
) -> Result<Replay<'a>, RequestError> {
    let word = |arg: &[u8]| String::from_utf8_lossy(&arg[..arg.len().min(64)]).into_owned();
    let unknown =
        |arg: &[u8]| RequestError::Argument(format!("`{}` is no way to replay", word(arg)));
    let mode = ReplayMode::of(mode).ok_or_else(|| unknown(mode))?;
    let dry = is(how, "TRY");
    if !dry && !is(how, "DO") {
        return Err(unknown(how));
    }
    let (entries, []) = entries.as_chunks::<3>() else {
        return Err(RequestError::Arity("GODWIT.REPLAY"));
    };
    let entry = |[key, stamp, records]: &[&'a [u8]; 3]| {
        Ok(ReplayEntry { key, stamp: Hlc(read(stamp)?), records })
    };
    let entries = entries.iter().map(entry).collect::<Result<_, RequestError>>()?;
    Ok(Replay { mode, dry, fork: Hlc(read(fork)?), entries })
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

fn text(arg: &[u8]) -> Result<String, RequestError> {
    let shown = || String::from_utf8_lossy(&arg[..arg.len().min(64)]).into_owned();
    match std::str::from_utf8(arg) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(RequestError::Argument(format!("`{}` is not UTF-8", shown()))),
    }
}

fn read<T: FromStr<Err: std::fmt::Display>>(arg: &[u8]) -> Result<T, RequestError> {
    let text = text(&arg[..arg.len().min(256)])?;
    text.parse().map_err(|why: T::Err| RequestError::Argument(format!("`{text}`: {why}")))
}

/// A set of slots may be longer than other arguments: every other slot is 8192 ranges.
fn read_slots(arg: &[u8]) -> Result<SlotSet, RequestError> {
    const SLOTS_TEXT_MAX: usize = 128 << 10;
    if arg.len() > SLOTS_TEXT_MAX {
        return Err(RequestError::Argument(format!("slots in more than {SLOTS_TEXT_MAX} bytes")));
    }
    let text = text(arg)?;
    text.parse().map_err(|why| RequestError::Argument(format!("{why}")))
}

fn hex(arg: &[u8]) -> Result<u128, RequestError> {
    let text = text(&arg[..arg.len().min(64)])?;
    u128::from_str_radix(&text, 16)
        .map_err(|_| RequestError::Argument(format!("`{text}` is no id: 32 hexadecimal digits")))
}
