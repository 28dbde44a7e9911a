//! SUBSCRIBE and its kin: they run once all before them on their connection is answered, and what
//! comes after them is read after that.

use std::collections::BTreeSet;

use keyspace::Slot;
use resp::Version;
use resp::reply::Writer;

use super::broker::Kind;
use super::hello::unknown_subcommand;
use super::session::Session;
use crate::command::{Args, Fail, Flags, Spec};
use crate::control::Mode;

/// What one connection may be subscribed to, names in all.
const NAMES_MAX: usize = 1 << 20;

type Answer = Result<(), Fail>;

/// What a connection is subscribed to; ends with it.
#[derive(Default)]
pub(super) struct Subscriptions {
    names: [BTreeSet<Vec<u8>>; 3],
}

impl Subscriptions {
    pub(super) fn of(&self, kind: Kind) -> &BTreeSet<Vec<u8>> {
        &self.names[kind as usize]
    }

    fn change(&mut self, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
        &mut self.names[kind as usize]
    }

    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.names.iter().map(BTreeSet::len).sum()
    }

    /// What replies count: sharded ones apart from the others.
    fn counted(&self, kind: Kind) -> i64 {
        let [channels, patterns, sharded] = [0, 1, 2].map(|kind: usize| self.names[kind].len());
        (if kind == Kind::Sharded { sharded } else { channels + patterns }) as i64
    }
}

/// What a connection that speaks RESP2 may say while it is subscribed.
pub(super) fn check_mode(session: &Session, spec: &Spec) -> Answer {
    let subscribed = session.version == Version::V2 && session.subscriptions.len() > 0;
    if !subscribed
        || spec.flags.has(Flags::SUBSCRIBES)
        || matches!(spec.name, "ping" | "quit" | "reset")
    {
        return Ok(());
    }
    Err(Fail::text(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        spec.name
    )))
}

fn kind_of(args: &Args<'_>) -> Kind {
    match &args.at(0).to_ascii_lowercase()[..] {
        b"psubscribe" | b"punsubscribe" => Kind::Pattern,
        b"ssubscribe" | b"sunsubscribe" | b"spublish" => Kind::Sharded,
        _ => Kind::Channel,
    }
}

/// Channels of slots belong to the slot's node, and to one slot in a command.
fn check_slots(session: &Session, kind: Kind, args: &Args<'_>, end: usize) -> Answer {
    let authority = &session.shared.authority;
    if kind != Kind::Sharded || authority.mode() == Mode::Standalone {
        return Ok(());
    }
    let mut slots = args.from(1).take(end).map(Slot::of_key);
    let Some(first) = slots.next() else { return Ok(()) };
    if slots.any(|slot| slot != first) {
        return Err(Fail::text(super::transaction::CROSSSLOT));
    }
    Ok(authority.admit_read(first, session.readonly)?)
}

pub(super) fn subscribe(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let kind = kind_of(args);
    check_slots(session, kind, args, args.len())?;
    if session.subscriptions.len() + args.len() > NAMES_MAX {
        return Err(Fail::text("ERR a connection may be subscribed to 1048576 names"));
    }
    let (client, shared) = (session.client.clone(), session.shared.clone());
    client.mail().speak(session.version);
    for name in args.from(1) {
        if session.subscriptions.change(kind).insert(name.to_vec()) {
            shared.broker.add(kind, name, &client);
        }
        let count = session.subscriptions.counted(kind);
        confirm(session.version, out, kind.subscribe(), Some(name), count);
    }
    session.show_subscriptions();
    Ok(())
}

pub(super) fn unsubscribe(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let kind = kind_of(args);
    check_slots(session, kind, args, args.len())?;
    let names: Vec<Vec<u8>> = match args.len() {
        1 => session.subscriptions.of(kind).iter().cloned().collect(),
        _ => args.from(1).map(<[u8]>::to_vec).collect(),
    };
    if names.is_empty() {
        let count = session.subscriptions.counted(kind);
        confirm(session.version, out, kind.unsubscribe(), None, count);
    }
    for name in names {
        if session.subscriptions.change(kind).remove(&name) {
            session.shared.broker.remove(kind, &name, &session.client);
        }
        let count = session.subscriptions.counted(kind);
        confirm(session.version, out, kind.unsubscribe(), Some(&name), count);
    }
    session.show_subscriptions();
    Ok(())
}

fn confirm(version: Version, out: &mut Vec<u8>, word: &str, name: Option<&[u8]>, count: i64) {
    let mut out = Writer::new(out, version);
    out.push(3);
    out.bulk(word.as_bytes());
    match name {
        Some(name) => out.bulk(name),
        None => out.null(),
    }
    out.integer(count);
}

/// Ends all subscriptions of a connection, without a word.
pub(super) fn leave(session: &mut Session) {
    let subscriptions = std::mem::take(&mut session.subscriptions);
    for (kind, names) in Kind::ALL.into_iter().zip(subscriptions.names) {
        for name in names {
            session.shared.broker.remove(kind, &name, &session.client);
        }
    }
    session.show_subscriptions();
}

pub(super) fn publish(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let kind = kind_of(args);
    check_slots(session, kind, args, 1)?;
    let reached = session.shared.broker.publish(kind, args.at(1), args.at(2));
    Writer::new(out, session.version).integer(reached);
    Ok(())
}

pub(super) fn pubsub(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let broker = &session.shared.broker;
    let mut out = Writer::new(out, session.version);
    let sub = args.at(1).to_ascii_lowercase();
    let kind = if sub.starts_with(b"shard") { Kind::Sharded } else { Kind::Channel };
    match (&sub[..], args.len()) {
        (b"channels" | b"shardchannels", 2 | 3) => {
            let names = broker.active(kind, args.get(2));
            out.array(names.len());
            names.iter().for_each(|name| out.bulk(name));
        }
        (b"numsub" | b"shardnumsub", _) => {
            out.array((args.len() - 2) * 2);
            for name in args.from(2) {
                out.bulk(name);
                out.integer(broker.count(kind, name) as i64);
            }
        }
        (b"numpat", 2) => out.integer(broker.names_active(Kind::Pattern) as i64),
        (b"channels" | b"shardchannels" | b"numpat", _) => {
            let sub = String::from_utf8_lossy(&sub);
            return Err(Fail::text(format!(
                "ERR wrong number of arguments for 'pubsub|{sub}' command"
            )));
        }
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

/// Puts the messages that came before an UNSUBSCRIBE before what it answers.
pub(super) fn take_mail(session: &Session, out: &mut Vec<u8>, at: usize) {
    let mail = session.client.mail().take();
    out.splice(at..at, mail);
}
