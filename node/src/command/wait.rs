//! WAIT: how many replicas have what was written. Followers get the log from the sidecar, which
//! acknowledges to the sidecar: the node has no replicas of Redis's kind, and says so.

use resp::reply::Writer;

use super::args::after;
use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Until, View};

pub(super) const SPECS: &[Spec] =
    &[Spec::data("generic", "wait", 3, Flags::BLOCKING, Keys::NONE, wait)];

fn wait(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let wanted = args.integer(1)?;
    let bad = |_| Fail::text("ERR timeout is not an integer or out of range");
    let timeout = args.integer(2).map_err(bad)?;
    let timeout = u64::try_from(timeout).map_err(|_| Fail::text("ERR timeout is negative"))?;
    let timeout = after(timeout)?;
    if wanted <= 0 || !view.may_wait() {
        out.integer(0);
        return Ok(());
    }
    view.wait(Until::time(timeout, 0), out)
}
