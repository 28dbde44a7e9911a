//! Waiting for what members say, with a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use topology::ServiceView;

use crate::tool::Tool;

/// Conditions that depend on the time are looked at this often; on members, at each change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The person hears so often what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a look at the service finds.
pub(crate) enum Look<T> {
    /// It is so.
    Done(T),
    /// Not yet: what is missing.
    Missing(String),
    /// It can never be so: the freeze is over.
    Over,
}

/// How a wait ended.
pub(crate) enum Waited<T> {
    /// It is so.
    Done(T),
    /// The time is up: what is missing.
    TimedOut(String),
    /// The freeze is over.
    Over,
}

/// Looks at the service until it is so or the time is up.
pub(crate) async fn until<T>(
    tool: &Tool,
    view: &mut watch::Receiver<Arc<ServiceView>>,
    deadline: Instant,
    mut look: impl FnMut(&ServiceView) -> Look<T>,
) -> Waited<T> {
    let mut told = Instant::now();
    loop {
        let now = view.borrow_and_update().clone();
        let missing = match look(&now) {
            Look::Done(found) => return Waited::Done(found),
            Look::Over => return Waited::Over,
            Look::Missing(what) => what,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Waited::TimedOut(missing);
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tool.progress(format!("waiting, {:.0} s left: {missing}", left.as_secs_f64()));
        }
        tokio::select! {
            _ = view.changed() => {}
            () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
        }
    }
}

/// `Done` if nothing is missing, else all that is, in a sentence.
pub(crate) fn all<T>(found: T, missing: Vec<String>) -> Look<T> {
    if missing.is_empty() { Look::Done(found) } else { Look::Missing(missing.join("; ")) }
}
