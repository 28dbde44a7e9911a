//! When keys end: always an absolute time in the record.

use keyspace::meta::Type;
use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Class, Entry, Head, Key, View};

const G: &str = "generic";
const W: Flags = Flags::WRITE.and(Flags::FAST);
const R: Flags = Flags::READONLY.and(Flags::FAST);

pub(super) const SPECS: &[Spec] = &[
    Spec::data(G, "expire", -3, W, Keys::ONE, |v, a, o| expire(v, a, o, Unit::Seconds, "expire")),
    Spec::data(G, "pexpire", -3, W, Keys::ONE, |v, a, o| {
        expire(v, a, o, Unit::Milliseconds, "pexpire")
    }),
    Spec::data(G, "expireat", -3, W, Keys::ONE, |v, a, o| {
        expire(v, a, o, Unit::AtSeconds, "expireat")
    }),
    Spec::data(G, "pexpireat", -3, W, Keys::ONE, |v, a, o| {
        expire(v, a, o, Unit::AtMilliseconds, "pexpireat")
    }),
    Spec::data(G, "ttl", 2, R, Keys::ONE, |v, a, o| {
        time_of(v, a, o, |at, now| ((at - now) + 500) / 1000)
    }),
    Spec::data(G, "pttl", 2, R, Keys::ONE, |v, a, o| time_of(v, a, o, |at, now| at - now)),
    Spec::data(G, "expiretime", 2, R, Keys::ONE, |v, a, o| time_of(v, a, o, |at, _| at / 1000)),
    Spec::data(G, "pexpiretime", 2, R, Keys::ONE, |v, a, o| time_of(v, a, o, |at, _| at)),
    Spec::data(G, "persist", 2, W, Keys::ONE, persist),
];

/// How a command says a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Milliseconds,
    /// EXAT: Unix seconds.
    AtSeconds,
    /// PXAT: Unix milliseconds.
    AtMilliseconds,
}

impl Unit {
    /// The unit of SET's and GETEX's option, if it is one.
    pub(super) fn parse(option: &[u8]) -> Option<Self> {
        let units = [
            ("ex", Self::Seconds),
            ("px", Self::Milliseconds),
            ("exat", Self::AtSeconds),
            ("pxat", Self::AtMilliseconds),
        ];
        units
            .into_iter()
            .find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()))
            .map(|u| u.1)
    }

    /// Unix milliseconds; `None` if that does not fit.
    pub(super) fn resolve(self, number: i64, now_ms: u64) -> Option<i64> {
        let now_ms = i64::try_from(now_ms).ok()?;
        match self {
            Self::Seconds => number.checked_mul(1000)?.checked_add(now_ms),
            Self::Milliseconds => number.checked_add(now_ms),
            Self::AtSeconds => number.checked_mul(1000),
            Self::AtMilliseconds => Some(number),
        }
    }
}

fn invalid(command: &str) -> Fail {
    Fail::text(format!("ERR invalid expire time in '{command}' command"))
}

/// The time that an option means, in Unix milliseconds; only times above zero make sense there.
pub(super) fn deadline(number: i64, unit: Unit, now_ms: u64, command: &str) -> Result<u64, Fail> {
    let at = if number > 0 { unit.resolve(number, now_ms) } else { None };
    at.and_then(|at| u64::try_from(at).ok()).ok_or_else(|| invalid(command))
}

/// The same key with another expiry.
pub(super) fn put_expiry(
    view: &mut View<'_>,
    key: Key<'_>,
    entry: &Entry,
    expire_ms: u64,
) -> Answer {
    match entry.at {
        Some(at) => view.put_head(key, &Head { at, expire_ms }),
        None => {
            let Some(text) = view.string(key)? else { return Ok(()) };
            let bytes = text.to_vec();
            drop(text);
            view.put_string(key, &bytes, expire_ms);
        }
    }
    debug_assert_ne!(entry.at.map(|at| at.kind), Some(Type::String));
    Ok(())
}

#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

fn conditions(args: &Args<'_>) -> Result<Conditions, Fail> {
    let mut found = Conditions::default();
    for option in args.from(3) {
        match &option.to_ascii_lowercase()[..] {
            b"nx" => found.nx = true,
            b"xx" => found.xx = true,
            b"gt" => found.gt = true,
            b"lt" => found.lt = true,
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Fail::text(format!("ERR Unsupported option {option}")));
            }
        }
    }
    if found.nx && (found.xx || found.gt || found.lt) {
        return Err(Fail::text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.gt && found.lt {
        return Err(Fail::text("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(found)
}

/// Whether one of NX, XX, GT, LT lets `new_ms` take the place of `old_ms`; 0 is a time that never
/// comes.
pub(super) fn conditions_met(word: &str, old_ms: u64, new_ms: u64) -> bool {
    match word {
        "nx" => old_ms == 0,
        "xx" => old_ms != 0,
        "gt" => old_ms != 0 && new_ms > old_ms,
        _ => old_ms == 0 || new_ms < old_ms,
    }
}

fn expire(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    unit: Unit,
    command: &str,
) -> Answer {
    let key = args.key(1);
    let Conditions { nx, xx, gt, lt } = conditions(args)?;
    let at = unit.resolve(args.integer(2)?, view.now_ms).ok_or_else(|| invalid(command))?;
    let Some(entry) = view.entry(key)? else {
        out.integer(0);
        return Ok(());
    };
    // No expiry counts as one that never comes.
    let now = i64::try_from(entry.expire_ms).unwrap_or(i64::MAX);
    let lasts = entry.expire_ms == 0;
    let refused =
        nx && !lasts || xx && lasts || gt && (lasts || at <= now) || lt && !lasts && at >= now;
    if !refused {
        match u64::try_from(at) {
            Ok(at) if at > view.now_ms => {
                put_expiry(view, key, &entry, at)?;
                view.notify(Class::GENERIC, "expire", key);
            }
            _ => {
                view.delete(key);
                view.notify(Class::GENERIC, "del", key);
            }
        }
    }
    out.integer(i64::from(!refused));
    Ok(())
}

fn time_of(
    view: &mut View<'_>,
    args: &Args<'_>,
    out: &mut Writer<'_>,
    answer: fn(i64, i64) -> i64,
) -> Answer {
    let now = i64::try_from(view.now_ms).unwrap_or(i64::MAX);
    out.integer(match view.entry(args.key(1))? {
        None => -2,
        Some(entry) if entry.expire_ms == 0 => -1,
        Some(entry) => answer(i64::try_from(entry.expire_ms).unwrap_or(i64::MAX), now),
    });
    Ok(())
}

fn persist(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let key = args.key(1);
    let found = view.entry(key)?.filter(|entry| entry.expire_ms != 0);
    if let Some(entry) = &found {
        put_expiry(view, key, entry, 0)?;
        view.notify(Class::GENERIC, "persist", key);
    }
    out.integer(i64::from(found.is_some()));
    Ok(())
}
