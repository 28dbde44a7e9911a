//! BGSAVE and LASTSAVE; SAVE, which runs beside the workers, is in `command/whole.rs`.

use resp::reply::Writer;

use super::session::Session;
use crate::command::{Args, Fail};
use crate::stats::keys;
use crate::store::{SaveError, Saving};

/// Begins to save in a thread of its own, and answers at once.
pub(super) fn bgsave(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fail> {
    // SCHEDULE waits for a rewrite of the log to end: there is none.
    if args.len() > 2 || args.len() == 2 && !args.is(1, "schedule") {
        return Err(Fail::Syntax);
    }
    let store = session.shared.store.load().ok_or(Fail::Text(LOADING.into()))?;
    let saving = Saving::begin(store, keys::totals().changes).map_err(fail)?;
    let save = move || {
        if let Err(why) = saving.run() {
            tracing::error!("BGSAVE: {why}");
        }
    };
    let begun = std::thread::Builder::new().name("save".to_owned()).spawn(save);
    begun.map_err(|why| Fail::text(format!("ERR cannot begin to save: no thread: {why}")))?;
    Writer::new(out, session.version).simple("Background saving started");
    Ok(())
}

/// When all was last saved, or read from disk, in Unix seconds.
pub(super) fn lastsave(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let store = session.shared.store.load().ok_or(Fail::Text(LOADING.into()))?;
    Writer::new(out, session.version).integer(store.saved().at_s as i64);
    Ok(())
}

/// A save that failed, as its client is told.
pub(crate) fn fail(why: SaveError) -> Fail {
    Fail::text(format!("ERR {why}"))
}

const LOADING: &str = "LOADING this node is taking over another copy of the data; try again soon";
