//! Commands that see the whole keyspace: all workers wait while one runs them, or only while a
//! snapshot is taken.

use std::time::Duration;

use keyspace::meta::{self, Meta};
use keyspace::{Cf, SLOTS};
use resp::reply::Writer;
use rocksdb::ReadOptions;

use super::{Answer, Args, Fail, Flags, Keys, Spec, float, glob_matches};
use crate::server::save_failed;
use crate::settings;
use crate::stats::keys;
use crate::store::{Saving, Store};
use crate::worker::{Glance, View};

const G: &str = "generic";
const S: &str = "server";
const R: Flags = Flags::READONLY;
const W: Flags = Flags::WRITE;

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "keys", 2, R, Keys::NONE, all_keys),
    Spec::data(G, "randomkey", 1, R, Keys::NONE, randomkey),
    Spec::aside(S, "dbsize", 1, dbsize),
    Spec {
        flags: Flags::ADMIN.and(Flags::NO_SCRIPT).and(Flags::NO_MULTI),
        ..Spec::aside(S, "save", 1, save)
    },
    Spec::data(S, "flushall", -1, W, Keys::NONE, flushall),
    Spec::data(S, "flushdb", -1, W, Keys::NONE, flushall),
    Spec::data(S, "debug", -2, R.and(Flags::ADMIN), Keys::NONE, debug),
];

/// Looks at every live key.
fn each(view: &mut View<'_>, from: Vec<u8>, mut look: impl FnMut(&[u8]) -> bool) -> Answer {
    let now_ms = view.now_ms;
    let mut keys = view.keys(from, SLOTS.to_be_bytes().to_vec())?;
    while let Some((key, value)) = keys.step()? {
        if Meta::decode(value)?.is_live(now_ms) && !look(meta::decode_key(key)?.1) {
            break;
        }
    }
    Ok(())
}

fn all_keys(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let pattern = args.at(1);
    let mut found = Vec::new();
    each(view, vec![0, 0], |name| {
        if pattern == b"*" || glob_matches(pattern, name) {
            found.push(name.to_vec());
        }
        true
    })?;
    out.array(found.len());
    found.iter().for_each(|name| out.bulk(name));
    Ok(())
}

/// A key near a random slot, one of the first few there: not every key is as likely.
fn randomkey(view: &mut View<'_>, _: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    const FEW: usize = 16;
    let slot = rand::random_range(0..SLOTS);
    let mut found: Vec<Vec<u8>> = Vec::new();
    for from in [slot, 0] {
        each(view, from.to_be_bytes().to_vec(), |name| {
            found.push(name.to_vec());
            found.len() < FEW
        })?;
        if !found.is_empty() {
            break;
        }
    }
    match found.is_empty() {
        true => out.null(),
        false => out.bulk(&found[rand::random_range(0..found.len())]),
    }
    Ok(())
}

/// Counts, so that it is exact: its time grows with the number of keys.
fn dbsize(glance: &Glance<'_>, out: &mut Writer<'_>) -> Answer {
    /// How often it asks whether to go on, in keys.
    const ASK_EVERY: i64 = 1024;
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options.fill_cache(false);
    let mut keys = glance.snapshot.raw_iterator_cf_opt(glance.store.cf(Cf::Meta), options);
    let (mut seen, mut live) = (0, 0);
    keys.seek_to_first();
    while let Some(value) = keys.value() {
        live += i64::from(Meta::decode(value)?.is_live(glance.now_ms));
        seen += 1;
        if seen % ASK_EVERY == 0 && !(glance.goes_on)() {
            return Err(Fail::text(AWAY));
        }
        keys.next();
    }
    keys.status()?;
    // A transaction's own writes.
    if glance.over.is_blank() {
        live = 0;
    }
    for (key, value) in glance.over.records() {
        let before = match glance.over.is_blank() {
            true => None,
            false => glance.snapshot.get_pinned_cf(glance.store.cf(Cf::Meta), key)?,
        };
        let is_live = |value: &[u8]| Meta::decode(value).map(|meta| meta.is_live(glance.now_ms));
        live += i64::from(value.map(is_live).transpose()?.unwrap_or(false));
        live -= i64::from(before.as_deref().map(is_live).transpose()?.unwrap_or(false));
    }
    out.integer(live);
    Ok(())
}

/// SAVE: all that came before it is on disk once it is answered.
fn save(glance: &Glance<'_>, out: &mut Writer<'_>) -> Answer {
    let saving = Saving::begin(glance.store, keys::totals().changes);
    saving.and_then(Saving::run).map_err(save_failed)?;
    out.simple("OK");
    Ok(())
}

/// What can be counted in a moment, for INFO.
pub(crate) struct Few {
    /// Live keys.
    pub(crate) keys: u64,
    /// Those of them that expire.
    pub(crate) expiring: u64,
    /// What they have left to live on average, in milliseconds; 0 if none expires.
    pub(crate) ttl_ms_mean: u64,
}

impl Few {
    /// The most keys that are counted.
    pub(crate) const MAX: u64 = 1000;
    /// The most records that may be in the way: deleted or overwritten, and not compacted yet.
    const DEAD_MAX: u64 = 100_000;

    /// `None`: there are more, or too many dead records among them to tell in a moment.
    pub(crate) fn count(store: &Store) -> Option<Self> {
        let now_ms = store.now_ms();
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_max_skippable_internal_keys(Self::DEAD_MAX);
        let mut keys = store.db().raw_iterator_cf_opt(store.cf(Cf::Meta), options);
        let (mut seen, mut few, mut left_ms) =
            (0, Self { keys: 0, expiring: 0, ttl_ms_mean: 0 }, 0);
        keys.seek_to_first();
        while let Some(value) = keys.value() {
            seen += 1;
            if seen > Self::MAX {
                return None;
            }
            let meta = Meta::decode(value).ok()?;
            if meta.is_live(now_ms) {
                few.keys += 1;
                few.expiring += u64::from(meta.expire_ms > 0);
                left_ms += meta.expire_ms.saturating_sub(now_ms);
            }
            keys.next();
        }
        keys.status().ok()?;
        few.ttl_ms_mean = left_ms / few.expiring.max(1);
        Some(few)
    }
}

const AWAY: &str = "LOADING the database was swapped before all keys were counted; try again soon";

fn flushall(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    if args.len() > 2 || args.len() == 2 && !args.is(1, "async") && !args.is(1, "sync") {
        return Err(Fail::Syntax);
    }
    view.sweep()?;
    out.simple("OK");
    Ok(())
}

fn debug(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    const SLEEP_S_MAX: f64 = 60.0;
    if args.is(1, "sleep") && args.len() == 3 {
        let seconds = float(args.at(2)).ok_or(Fail::NotFloat)?.clamp(0.0, SLEEP_S_MAX);
        // What DEBUG SLEEP is for: the whole server stands still.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_secs_f64(seconds));
        out.simple("OK");
        return Ok(());
    }
    if args.is(1, "set-active-expire") && args.len() == 3 {
        settings::ACTIVE_EXPIRE.set(args.integer(2)? != 0);
        out.simple("OK");
        return Ok(());
    }
    if args.is(1, "object") && args.len() == 3 {
        let key = args.key(2);
        let entry = view.entry(key)?.ok_or(Fail::NoKey)?;
        let encoding = super::encoding::name(view, key, &entry)?;
        // Without the type, the version and the checksum.
        const AROUND: usize = 1 + 2 + 8;
        let dumped = super::dump::payload(view, key)?.map_or(0, |payload| payload.len() - AROUND);
        out.simple(&format!("refcount:1 encoding:{encoding} serializedlength:{dumped}"));
        return Ok(());
    }
    if args.is(1, "help") && args.len() == 2 {
        let lines = [
            "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "OBJECT <key>",
            "    How Redis would store this key, and how long its DUMP is.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Look for expired keys in the background, or do not.",
            "SLEEP <seconds>",
            "    Stand still for so long, up to a minute.",
            "HELP",
            "    Print this help.",
        ];
        out.array(lines.len());
        lines.iter().for_each(|line| out.simple(line));
        return Ok(());
    }
    let sub = String::from_utf8_lossy(args.at(1));
    Err(Fail::text(format!("ERR unknown subcommand '{sub}'. Try DEBUG HELP.")))
}
