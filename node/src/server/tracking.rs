//! CLIENT TRACKING: clients that keep copies of what they read are told when it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use resp::Version;
use resp::reply::Writer;

use super::client::Client;
use super::session::{Session, Shared};
use crate::command::{Args, Fail, Flags, Spec};

type Answer = Result<(), Fail>;

/// The most prefixes of one client.
const PREFIXES_MAX: usize = 4096;
/// Where clients of RESP2 hear of changes.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What a client that tracks keys has asked for.
#[derive(Clone, Default)]
pub(super) struct Tracks {
    /// The client that hears of changes in its place.
    pub(super) redirect: Option<u64>,
    /// It hears of all keys of its prefixes, whether it has read them or not.
    pub(super) broadcast: bool,
    /// It does not hear of its own changes.
    pub(super) no_loop: bool,
    opt_in: bool,
    opt_out: bool,
    /// What CLIENT CACHING said of the next command.
    caching: bool,
    prefixes: Vec<Vec<u8>>,
    /// The client that should hear has gone.
    broken: bool,
}

impl Tracks {
    /// Its letters in CLIENT LIST.
    pub(super) fn letters(&self) -> String {
        let letters = [(true, 't'), (self.broken, 'R'), (self.broadcast, 'B')];
        letters.into_iter().filter(|(shown, _)| *shown).map(|(_, letter)| letter).collect()
    }

    /// Whether keys that the next command reads are remembered.
    fn remembers(&self) -> bool {
        !(self.broadcast || self.opt_in && !self.caching || self.opt_out && self.caching)
    }
}

/// Who follows which prefixes.
#[derive(Default)]
pub(super) struct Followers(Mutex<BTreeMap<Vec<u8>, Vec<Arc<Client>>>>);

impl Followers {
    fn by_prefix(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<Arc<Client>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many prefixes are followed.
    pub(super) fn len(&self) -> usize {
        self.by_prefix().len()
    }
}

/// Whether the keys of a command that comes now are remembered for its client.
pub(super) fn remembers(session: &Session, spec: &Spec) -> bool {
    session.tracking
        && (spec.flags.has(Flags::READONLY) || spec.group == "scripting")
        && session.client.tracks().as_ref().is_some_and(Tracks::remembers)
}

/// After a command: what CLIENT CACHING said is over, outside of a transaction.
pub(super) fn end_command(session: &Session, spec: &Spec) {
    if session.queued.is_none() && !spec.name.starts_with("client") {
        session.client.tracks().iter_mut().for_each(|tracks| tracks.caching = false);
    }
}

/// What CLIENT TRACKING's options say.
fn options(args: &Args<'_>) -> Result<Tracks, Fail> {
    let mut asked = Tracks::default();
    let mut at = 3;
    while at < args.len() {
        let more = at + 1 < args.len();
        if args.is(at, "redirect") && more {
            at += 1;
            if asked.redirect.is_some() {
                return Err(Fail::text("ERR A client can only redirect to a single other client"));
            }
            asked.redirect = Some(u64::try_from(args.integer(at)?).unwrap_or(0));
        } else if args.is(at, "bcast") {
            asked.broadcast = true;
        } else if args.is(at, "optin") {
            asked.opt_in = true;
        } else if args.is(at, "optout") {
            asked.opt_out = true;
        } else if args.is(at, "noloop") {
            asked.no_loop = true;
        } else if args.is(at, "prefix") && more {
            at += 1;
            asked.prefixes.push(args.at(at).to_vec());
        } else {
            return Err(Fail::Syntax);
        }
        at += 1;
    }
    Ok(asked)
}

fn check(shared: &Shared, asked: &Tracks, before: Option<&Tracks>) -> Answer {
    let gone = |id: u64| shared.clients.find(id).is_none();
    let switches =
        |now: fn(&Tracks) -> bool| before.is_some_and(|before| now(before) != now(asked));
    let reversed = before.is_some_and(|b| asked.opt_in && b.opt_out || asked.opt_out && b.opt_in);
    let text = match () {
        () if asked.redirect.is_some_and(gone) => {
            "ERR The client ID you want redirect to does not exist"
        }
        () if !asked.broadcast && !asked.prefixes.is_empty() => {
            "ERR PREFIX option requires BCAST mode to be enabled"
        }
        () if switches(|tracks| tracks.broadcast) => {
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
        }
        () if asked.broadcast && (asked.opt_in || asked.opt_out) => {
            "ERR OPTIN and OPTOUT are not compatible with BCAST"
        }
        () if asked.opt_in && asked.opt_out => {
            "ERR You can't specify both OPTIN mode and OPTOUT mode"
        }
        () if reversed => {
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode."
        }
        () => return check_prefixes(asked, before),
    };
    Err(Fail::text(text))
}

/// No prefix of a client may begin with another.
fn check_prefixes(asked: &Tracks, before: Option<&Tracks>) -> Answer {
    let known = before.map_or(&[][..], |before| &before.prefixes);
    if asked.prefixes.len() + known.len() > PREFIXES_MAX {
        return Err(Fail::text("ERR a client may follow 4096 prefixes"));
    }
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let collision = |prefix: &[u8], other: &[u8], what: &str| {
        let (prefix, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
        Err(Fail::text(format!(
            "ERR Prefix '{prefix}' overlaps with {what} prefix '{other}'. Prefixes for a single client must not overlap."
        )))
    };
    for (at, prefix) in asked.prefixes.iter().enumerate() {
        if let Some(other) = known.iter().find(|other| overlap(prefix, other)) {
            return collision(prefix, other, "an existing");
        }
        if let Some(other) = asked.prefixes[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return collision(prefix, other, "another provided");
        }
    }
    Ok(())
}

pub(super) fn set(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let mut asked = options(args)?;
    if args.is(2, "off") {
        end(session);
    } else if args.is(2, "on") {
        let before = session.client.tracks().clone();
        check(&session.shared, &asked, before.as_ref())?;
        let mut known = before.map(|before| before.prefixes).unwrap_or_default();
        if asked.broadcast && asked.prefixes.is_empty() && known.is_empty() {
            asked.prefixes.push(Vec::new());
        }
        follow(session, &asked.prefixes);
        known.append(&mut asked.prefixes);
        asked.prefixes = known;
        *session.client.tracks() = Some(asked);
        session.tracking = true;
    } else {
        return Err(Fail::Syntax);
    }
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

fn follow(session: &Session, prefixes: &[Vec<u8>]) {
    let mut followed = session.shared.followers.by_prefix();
    for prefix in prefixes {
        followed.entry(prefix.clone()).or_default().push(session.client.clone());
    }
    session.shared.workers.listeners().tracked.count_followers(followed.len());
}

/// Tracks no more. Keys that are remembered for it are forgotten as they change.
pub(super) fn end(session: &mut Session) {
    session.tracking = false;
    let Some(before) = session.client.tracks().take() else { return };
    if !before.broadcast {
        return;
    }
    let mut followed = session.shared.followers.by_prefix();
    followed.retain(|_, clients| {
        clients.retain(|client| client.id != session.client.id);
        !clients.is_empty()
    });
    session.shared.workers.listeners().tracked.count_followers(followed.len());
}

pub(super) fn caching(session: &mut Session, args: &Args<'_>, out: &mut Vec<u8>) -> Answer {
    let mut tracks = session.client.tracks();
    let Some(tracks) = tracks.as_mut() else {
        return Err(Fail::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    if args.is(2, "yes") && !tracks.opt_in {
        return Err(Fail::text(
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ));
    }
    if args.is(2, "no") && !tracks.opt_out {
        return Err(Fail::text(
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ));
    }
    if !args.is(2, "yes") && !args.is(2, "no") {
        return Err(Fail::Syntax);
    }
    tracks.caching = true;
    Writer::new(out, session.version).simple("OK");
    Ok(())
}

/// CLIENT GETREDIR: -1 while it does not track, 0 while it hears by itself.
pub(super) fn redirection(client: &Client) -> i64 {
    client.tracks().as_ref().map_or(-1, |tracks| tracks.redirect.unwrap_or(0) as i64)
}

pub(super) fn info(session: &Session, out: &mut Vec<u8>) {
    let tracks = session.client.tracks().clone();
    let redirection = redirection(&session.client);
    let mut out = Writer::new(out, session.version);
    let on = tracks.is_some();
    let tracks = tracks.unwrap_or_default();
    let flags = [
        (!on, "off"),
        (on, "on"),
        (tracks.broadcast, "bcast"),
        (tracks.opt_in, "optin"),
        (tracks.opt_in && tracks.caching, "caching-yes"),
        (tracks.opt_out, "optout"),
        (tracks.opt_out && tracks.caching, "caching-no"),
        (tracks.no_loop, "noloop"),
        (tracks.broken, "broken_redirect"),
    ];
    let shown = || flags.iter().filter(|(shown, _)| *shown);
    out.map(3);
    out.bulk(b"flags");
    out.set(shown().count());
    shown().for_each(|(_, flag)| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(redirection);
    out.bulk(b"prefixes");
    out.array(tracks.prefixes.len());
    tracks.prefixes.iter().for_each(|prefix| out.bulk(prefix));
}

/// Writes the message of RESP3: these keys, or all.
pub(super) fn write(out: &mut Writer<'_>, keys: Option<&[&[u8]]>) {
    out.push(2);
    out.bulk(b"invalidate");
    write_keys(out, keys);
}

fn write_keys(out: &mut Writer<'_>, keys: Option<&[&[u8]]>) {
    match keys {
        Some(keys) => {
            out.array(keys.len());
            keys.iter().for_each(|key| out.bulk(key));
        }
        None => out.null(),
    }
}

/// Tells a client, or the one that hears in its place, that keys that it has read, or all, changed.
pub(super) fn invalidate(shared: &Shared, client: u64, by: u64, keys: Option<&[&[u8]]>) {
    let Some(client) = shared.clients.find(client) else { return };
    let told = client.tracks().as_ref().is_some_and(|tracks| {
        !(keys.is_some() && tracks.broadcast || tracks.no_loop && by == client.id)
    });
    if told {
        send(shared, &client, keys);
    }
}

fn send(shared: &Shared, client: &Arc<Client>, keys: Option<&[&[u8]]>) {
    let Some(redirect) = client.tracks().as_ref().map(|tracks| tracks.redirect) else { return };
    let target = match redirect {
        None => client.clone(),
        Some(id) => match shared.clients.find(id) {
            Some(target) => target,
            None => return break_redirection(shared, client, id),
        },
    };
    let size = keys.map_or(0, |keys| keys.iter().map(|key| key.len() + 16).sum()) + 64;
    let listens = target.is_subscribed();
    shared.broker.post(&target, size, |out| match out.version() {
        Version::V3 => write(out, keys),
        Version::V2 if redirect.is_some() && listens => {
            out.array(3);
            out.bulk(b"message");
            out.bulk(CHANNEL);
            write_keys(out, keys);
        }
        Version::V2 => {}
    });
}

fn break_redirection(shared: &Shared, client: &Arc<Client>, redirect: u64) {
    client.tracks().iter_mut().for_each(|tracks| tracks.broken = true);
    shared.broker.post(client, 64, |out| {
        if out.version() == Version::V3 {
            out.push(2);
            out.bulk(b"tracking-redir-broken");
            out.integer(redirect as i64);
        }
    });
}

/// All keys are gone; the client that did it knows.
pub(super) fn flush(shared: &Shared, by: u64) {
    for client in shared.clients.all() {
        if client.id != by && client.tracks().is_some() {
            send(shared, &client, None);
        }
    }
}

/// Tells those who follow prefixes of the keys that one batch changed: a message for each prefix.
pub(super) fn broadcast(shared: &Shared, changed: &[(Vec<u8>, u64)]) {
    let mut due = Vec::new();
    for (prefix, clients) in shared.followers.by_prefix().iter() {
        let mut keys: Vec<_> = changed.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        if keys.is_empty() {
            continue;
        }
        keys.sort_unstable();
        keys.dedup();
        due.push((clients.clone(), keys));
    }
    for (clients, changed) in due {
        for client in clients {
            let no_loop = client.tracks().as_ref().is_some_and(|tracks| tracks.no_loop);
            let wanted = changed.iter().filter(|(_, by)| !(no_loop && *by == client.id));
            let mut keys: Vec<&[u8]> = wanted.map(|(key, _)| &key[..]).collect();
            keys.dedup();
            if !keys.is_empty() {
                send(shared, &client, Some(&keys));
            }
        }
    }
}
