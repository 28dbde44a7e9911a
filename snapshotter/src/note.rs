//! What a service's registry is told of its snapshots: `godwit-switchover` shows it, and its guard
//! `max-snapshot-age` goes by it.

use topology::operator::Note;
use topology::record::UnixMs;
use topology::service::Service;

/// Notes that something was done at `at` (milliseconds since 1970). A registry that does not take the
/// note undoes nothing of it.
pub(crate) async fn put(service: &Service, what: &str, at: u64, says: String) {
    let note = Note { at: UnixMs(at), says, good: true, detail: serde_json::Value::Null };
    if let Err(why) = service.put_note(what, &note).await {
        tracing::warn!(
            "the registry was not told of it, so `godwit-switchover status` does not know: {why}"
        );
    }
}
