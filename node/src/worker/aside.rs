//! Commands that look at every key, for as long as that takes: in a thread of their own and on a
//! snapshot, while the workers go on.
//!
//! The snapshot is taken while all workers stand at the command's gate, so it has every write that
//! came before the command and none that came after.

use std::sync::{Arc, mpsc};

use resp::Version;
use resp::reply::Writer;
use rocksdb::{DB, SnapshotWithThreadMode};

use super::ordered::Over;
use super::request::{Outbox, Part};
use crate::command::AsideHandler;
use crate::store::{Current, Store};

/// Such threads at once; one look more is taken by the worker itself, while the others wait.
const ASIDES_MAX: usize = 4;

/// What such a command sees.
pub struct Glance<'a> {
    /// The store, for its column families.
    pub store: &'a Store,
    /// The keys, as they were when the command's turn came.
    pub snapshot: &'a SnapshotWithThreadMode<'a, DB>,
    /// Unix milliseconds at that time.
    pub now_ms: u64,
    /// What a transaction has written over the snapshot's meta records.
    pub over: &'a Over,
    /// Whether the database is still the node's: one that is to be swapped must be let go.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// How many of them run.
#[derive(Default)]
pub(super) struct Asides(Arc<()>);

/// The end of a look that waits for the part that its answer belongs to.
pub(super) struct Aside(mpsc::Sender<(Arc<dyn Outbox>, Part)>);

impl Aside {
    /// Gives it the part: delivered once the answer is in it. Call it when the part's writes are
    /// committed.
    pub(super) fn release(self, outbox: Arc<dyn Outbox>, part: Part) {
        // The thread waits for this until it is sent or dropped.
        let _ = self.0.send((outbox, part));
    }
}

impl Asides {
    /// Takes a snapshot and begins to look; the answer becomes number `at` of its part. `None`: too
    /// many run already, or the database is being swapped.
    pub(super) fn begin(
        &self,
        current: &Current,
        handler: AsideHandler,
        version: Version,
        at: usize,
    ) -> Option<Aside> {
        if Arc::strong_count(&self.0) > ASIDES_MAX {
            return None;
        }
        let (running, current) = (self.0.clone(), current.clone());
        let (taken, wait) = mpsc::channel();
        let (part, parts) = mpsc::channel::<(Arc<dyn Outbox>, Part)>();
        let look = move || {
            let mut answer = Vec::new();
            if !look(&current, handler, &taken, &mut Writer::new(&mut answer, version)) {
                return;
            }
            drop(running);
            if let Ok((outbox, mut part)) = parts.recv() {
                part.fill(at, &answer);
                outbox.deliver(&mut vec![part]);
            }
        };
        std::thread::Builder::new().name("aside".to_owned()).spawn(look).ok()?;
        // An error: the thread found no store.
        wait.recv().ok().map(|()| Aside(part))
    }
}

/// False: there was no store to look at.
fn look(
    current: &Current,
    handler: AsideHandler,
    taken: &mpsc::Sender<()>,
    out: &mut Writer<'_>,
) -> bool {
    let Some(store) = current.load() else { return false };
    let snapshot = store.db().snapshot();
    // The worker waits for it.
    let _ = taken.send(());
    let goes_on = || current.load().is_some_and(|now| Arc::ptr_eq(&now, &store));
    let now_ms = store.now_ms();
    let over = Over::default();
    let glance =
        Glance { store: &store, snapshot: &snapshot, now_ms, over: &over, goes_on: &goes_on };
    if let Err(fail) = handler(&glance, out) {
        out.error(&fail.line());
    }
    true
}
