//! TIME, ROLE, SHUTDOWN.

use resp::reply::Writer;

use super::hello::is_replica;
use super::scripting;
use super::session::Session;
use crate::command::{Args, Fail};

pub(super) fn time(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut out = Writer::new(out, session.version);
    out.array(2);
    out.bulk(now.as_secs().to_string().as_bytes());
    out.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

pub(super) fn role(session: &mut Session, _: &Args<'_>, out: &mut Vec<u8>) -> Result<(), Fail> {
    let replica = is_replica(session.shared.authority.mode());
    let mut out = Writer::new(out, session.version);
    if replica {
        // Which node it follows is the sidecar's business: the host is not known here.
        out.array(5);
        out.bulk(b"slave");
        out.bulk(b"");
        out.integer(0);
        out.bulk(b"connected");
        out.integer(-1);
    } else {
        out.array(3);
        out.bulk(b"master");
        out.integer(0);
        out.array(0);
    }
    Ok(())
}

pub(super) fn shutdown(
    session: &mut Session,
    args: &Args<'_>,
    _: &mut Vec<u8>,
) -> Result<(), Fail> {
    // There is no dump to save or not, and nothing to wait for: Redis's options mean the same, as
    // far as they may be said together.
    let said = |word: &str| args.from(1).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let known = ["nosave", "save", "now", "force", "abort"];
    let strange =
        args.from(1).any(|arg| !known.iter().any(|k| arg.eq_ignore_ascii_case(k.as_bytes())));
    if strange || said("abort") && args.len() > 2 || said("save") && said("nosave") {
        return Err(Fail::Syntax);
    }
    if said("abort") {
        return Err(Fail::text("ERR No shutdown in progress."));
    }
    scripting::check_shutdown(session, args)?;
    tracing::info!("client {} said SHUTDOWN", session.client.peer);
    session.closing = true;
    session.shared.shutdown.request();
    Ok(())
}
