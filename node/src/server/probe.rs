//! GODWIT.PROBE: what observers ask beside a read of a key. It says whether the node takes writes,
//! since when its log has not been seen to move, and how far it is behind its sources.

use resp::reply::Writer;
use topology::ShardName;

use super::session::Session;
use crate::command::{Args, Fail};
use crate::control::{Authority, Mode};
use crate::store::Store;

/// The names that modes have on the wire (docs/formats.md, "Probes").
const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Standalone => "standalone",
        Mode::Primary => "primary",
        Mode::Frozen => "frozen",
        Mode::Fenced => "fenced",
        Mode::Standby => "standby",
        Mode::Unknown => "unknown",
        Mode::Loading => "loading",
        Mode::Latched => "latched",
    }
}

/// `GODWIT.PROBE`: names and values in turn.
pub(super) fn probe(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let authority = &session.shared.authority;
    let store = session.shared.store.load();
    let still = store.as_ref().map(|store| store.still());
    let lag = store.as_ref().and_then(|store| lag_ms(store, authority));
    let number = |ms: Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(-1);
    let mut out = Writer::new(out, session.version);
    out.array(8);
    out.bulk(b"mode");
    out.bulk(name(authority.mode()).as_bytes());
    out.bulk(b"writable");
    out.integer(i64::from(authority.is_writable()));
    out.bulk(b"still-ms");
    out.integer(number(still.and_then(|still| u64::try_from(still.as_millis()).ok())));
    out.bulk(b"lag-ms");
    out.integer(number(lag));
    Ok(())
}

/// How old what it shows may be: of the primaries that it follows, the one applied least far. `None`
/// where it follows none, or has nothing of one.
fn lag_ms(store: &Store, authority: &Authority) -> Option<u64> {
    let routes = authority.routes();
    let own = routes.own.as_ref()?;
    let state = store.state();
    let shares = |(name, (slots, _)): &(&ShardName, &(keyspace::SlotSet, Option<String>))| {
        *name != own
            && slots.ranges().iter().any(|r| {
                (r.first.number()..=r.last.number())
                    .any(|slot| keyspace::Slot::new(slot).is_some_and(|slot| authority.owns(slot)))
            })
    };
    let sources = routes.primaries.iter().filter(shares);
    let stamps = sources.map(|(source, _)| Some(state.applied.get(source)?.stamp.ms()));
    let oldest = stamps.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(store.now_ms().saturating_sub(oldest))
}
