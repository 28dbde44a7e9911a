//! `verify`: reads a snapshot back.

use anyhow::bail;
use ops::exit::Exit;
use store::{Address, SnapshotId, Store};

use crate::cli::Output;
use crate::report;
use ops::progress::Progress;

/// Verifies the snapshot, or the newest one.
///
/// # Errors
/// The store cannot be used, or there is no such snapshot. Damage is an answer: exit code 1.
pub fn run(from: &Address, id: Option<&SnapshotId>, output: Output) -> anyhow::Result<Exit> {
    let store = Store::open(from)?;
    let id = match id {
        Some(id) => id.clone(),
        None => match store.list()?.pop() {
            Some(newest) => newest.id.parse()?,
            None => bail!("there is no sealed snapshot in {from}: `push` makes one"),
        },
    };
    let (snapshot, _) = store.snapshot(&id)?;
    let progress = Progress::new("verifying");
    progress.expect(snapshot.bytes());
    let now = ops::clock::unix_ms();
    let result = store.verify(&snapshot, now, &mut |bytes| progress.moved(bytes, 0))?;
    let seconds = progress.elapsed().as_secs_f64();
    drop(progress);
    let good = result.damage.is_empty();
    let text = if good {
        format!(
            "{id} is whole: {} objects, {}, read back in {seconds:.1} s",
            result.objects,
            report::size(result.bytes)
        )
    } else {
        format!(
            "{id} is DAMAGED and cannot be restored whole; older snapshots may be good.\n  {}",
            result.damage.join("\n  ")
        )
    };
    let json = serde_json::json!({
        "snapshot": id, "verified": good, "objects": result.objects, "bytes": result.bytes,
        "seconds": seconds, "damage": result.damage,
    });
    report::print(output, &text, &json);
    Ok(if good { Exit::Done } else { Exit::Failed })
}
