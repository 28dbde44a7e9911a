//! `restore`: a node's directory of one shard of a snapshot.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use admin::Adopt;
use anyhow::{Context, anyhow};
use keyspace::Hlc;
use ops::exit::{Exit, Stop};
use store::{Address, Manifest, SnapshotId, Store, StoreError};
use topology::ShardName;

use crate::cli::Output;
use crate::report;
use ops::progress::Progress;

/// What is being restored; `db` once it is whole.
const PARTIAL: &str = "db.partial";

/// Restores a shard into `to`.
///
/// # Errors
/// The directory is not empty (refused), the store cannot be used, or an object is damaged; then
/// nothing that a node would open is left.
pub fn run(
    from: &Address,
    id: &SnapshotId,
    shard: &ShardName,
    to: &Path,
    output: Output,
) -> anyhow::Result<Exit> {
    let store = Store::open(from)?;
    let (snapshot, _) = store.snapshot(id)?;
    let name = shard.to_string();
    let n = snapshot.shards.iter().position(|sealed| sealed.shard == name).ok_or_else(|| {
        let have: Vec<_> = snapshot.shards.iter().map(|sealed| sealed.shard.as_str()).collect();
        anyhow!("snapshot {id} has no shard {shard}; it has {}", have.join(", "))
    })?;
    let manifest = store.manifest(&snapshot, n)?;
    claim(to)?;
    let progress = Progress::new("restoring");
    progress.expect(manifest.bytes());
    let partial = to.join(PARTIAL);
    if let Err(error) = fill(&store, &manifest, &partial, &progress) {
        // What could be read is of no use without the rest, and would make the directory refused.
        let _ = fs::remove_dir_all(&partial);
        return Err(error.context(format!(
            "restoring {shard} of snapshot {id}; nothing was left in {}",
            to.display()
        )));
    }
    let db = to.join("db");
    fs::rename(&partial, &db).with_context(|| format!("renaming {}", partial.display()))?;
    sync(to)?;
    let seconds = progress.elapsed().as_secs_f64();
    drop(progress);
    let text = format!(
        "{shard} of {id} is in {}: {} files, {}, at {}, in {seconds:.1} s\nserve it: godwit-node --dir {} --listen 127.0.0.1:6400",
        to.display(),
        manifest.files.len(),
        report::size(manifest.bytes()),
        manifest.position,
        to.display(),
    );
    let json = serde_json::json!({
        "snapshot": id, "shard": shard, "dir": to, "files": manifest.files.len(),
        "bytes": manifest.bytes(), "position": manifest.position, "slots": manifest.slots,
        "seconds": seconds,
    });
    report::print(output, &text, &json);
    Ok(Exit::Done)
}

/// Makes the directory, or refuses one that has something in it.
fn claim(to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let mut inside = fs::read_dir(to).with_context(|| format!("listing {}", to.display()))?;
    if inside.next().is_some() {
        let refusal = format!(
            "{} is not empty, and restoring never overwrites: give a new or an empty directory",
            to.display()
        );
        return Err(Stop::new(Exit::Refused, refusal).into());
    }
    Ok(())
}

/// Writes every file, compared with its hash, then what makes the node take a new identity.
fn fill(store: &Store, manifest: &Manifest, dir: &Path, progress: &Progress) -> anyhow::Result<()> {
    fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
    for entry in &manifest.files {
        let path = dir.join(entry.name.as_str());
        let failed = |source| StoreError::Io { what: "write", path: path.clone(), source };
        let mut file = File::create_new(&path).map_err(failed)?;
        store.read_object(&entry.blake3, entry.size, &mut |piece| {
            progress.moved(piece.len() as u64, 0);
            file.write_all(piece).map_err(failed)
        })?;
        file.sync_all().map_err(failed)?;
    }
    // Its stamps must rise above all that it held, on a machine whose clock may be behind.
    let stamp = manifest.stamp.max(Hlc::new(ops::clock::unix_ms(), 0));
    let adopt = Adopt { format: Adopt::FORMAT, follow: None, stamp };
    let path = dir.join(Adopt::FILE);
    let written = File::create_new(&path)
        .and_then(|mut file| file.write_all(&adopt.to_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("writing {}", path.display()))?;
    sync(dir)
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("syncing {}", dir.display()))
}
