//! From a checkpoint to table files, on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use admin::{Loaded, Reclaimed};
use anyhow::{Context, anyhow};
use keyspace::{Cf, SlotSet, system};
use rocksdb::{DB, IteratorMode};
use stream::message::LoadedSlots;
use tables::{Copier, Cut, Form, Piece, table};
use tokio::sync::mpsc;

use super::{AHEAD, FILE_BYTES};
use crate::checkpoint;

/// What the thread has done.
#[derive(Debug)]
pub(super) enum Made {
    /// A file.
    Piece(Piece),
    /// So many files, and there are no more.
    All(u32),
}

/// Opens a checkpoint to be read: with up to where what had expired may be gone, and what of loads is
/// in it.
pub(super) fn open(path: &Path) -> anyhow::Result<(DB, u64, Vec<LoadedSlots>)> {
    let db = checkpoint::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (mut horizon_ms, mut loaded) = (0, Vec::new());
    let system = db.cf_handle(Cf::System.name()).context("it has no family `system`")?;
    for entry in db.iterator_cf(system, IteratorMode::Start) {
        let (key, value) = entry?;
        if &*key == system::RECLAIMED {
            let reclaimed: Reclaimed =
                serde_json::from_slice(&value).context("its record `reclaimed`")?;
            horizon_ms = reclaimed.horizon_ms;
        } else if let Some(id) = system::loaded_id(&key) {
            let Loaded { stamp, slots, at } =
                serde_json::from_slice(&value).context("its record of a load")?;
            let (id, stamp, at) = (id.to_owned(), stamp.0, at.0);
            loaded.push(LoadedSlots { id, stamp, slots, at });
        }
    }
    Ok((db, horizon_ms, loaded))
}

/// Begins to write what the database has in these slots into files in `dir`. Who drops the receiver
/// ends it.
pub(super) fn start(
    db: DB,
    dir: PathBuf,
    slots: SlotSet,
    turn: Arc<Mutex<()>>,
) -> std::io::Result<mpsc::Receiver<Result<Made, String>>> {
    let (sender, made) = mpsc::channel(AHEAD);
    std::thread::Builder::new().name("slice".to_owned()).spawn(move || {
        if let Err(why) = rewrite(&db, &dir, &slots, &turn, &sender) {
            // Nobody is told who has dropped the receiver.
            let _ = sender.blocking_send(Err(format!("{why:#}")));
        }
    })?;
    Ok(made)
}

fn rewrite(
    db: &DB,
    dir: &Path,
    slots: &SlotSet,
    turn: &Mutex<()>,
    sender: &mpsc::Sender<Result<Made, String>>,
) -> anyhow::Result<()> {
    let lock = || turn.lock().unwrap_or_else(PoisonError::into_inner);
    let send = |made| {
        sender.blocking_send(Ok(made)).map_err(|_| anyhow!("the stream to the follower has ended"))
    };
    let mut held = Some(lock());
    let mut done = |piece| {
        // Others write while this waits for the follower.
        held = None;
        send(Made::Piece(piece))?;
        held = Some(lock());
        Ok(())
    };
    let (options, snapshot) = (table(), db.snapshot());
    let mut cut = Cut::new(&options, dir, slots, FILE_BYTES, &mut done);
    let goes_on = || !sender.is_closed();
    let form = Form::AsItIs;
    let copier = Copier { db, snapshot: &snapshot, slots, form, goes_on: &goes_on };
    copier.run(&mut cut)?;
    copier.of_shard(&mut cut)?;
    let count = cut.finish()?;
    drop(held);
    send(Made::All(count))
}
