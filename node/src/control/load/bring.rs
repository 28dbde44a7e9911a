//! The files of a load, into the node's directory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::store::ObjectId;
use ::store::load::{Load, LoadFile, MANIFEST};
use admin::Intent;

/// Files that are read at a time.
const THREADS: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// How many loads are in the directory.
pub(super) fn waiting(loads: &Path) -> Result<usize, String> {
    fs::create_dir_all(loads).map_err(|why| said("creating", loads, &why))?;
    let entries = fs::read_dir(loads).map_err(|why| said("listing", loads, &why))?;
    Ok(entries.flatten().filter(|entry| entry.file_name() != Intent::RECEIVED).count())
}

/// Copies these files of a load (links them, with `link`) into `dir`, compares their hashes, and
/// writes the manifest there when all are on disk.
pub(super) fn bring(
    load: &Load,
    wanted: &[LoadFile],
    from: &Path,
    dir: &Path,
    link: bool,
) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|why| said("creating", dir, &why))?;
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(file) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            bring_one(file, from, dir, link)?;
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(THREADS).min(wanted.len()).max(1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread that read the files panicked".to_owned()))
        });
        ended.collect::<Vec<_>>().into_iter().collect::<Result<(), String>>()
    })?;
    let manifest = dir.join(MANIFEST);
    let written = fs::write(&manifest, load.to_bytes())
        .and_then(|()| File::open(&manifest)?.sync_all())
        .and_then(|()| File::open(dir)?.sync_all())
        .and_then(|()| File::open(dir.parent().unwrap_or(dir))?.sync_all());
    written.map_err(|why| said("writing", &manifest, &why))
}

fn bring_one(file: &LoadFile, from: &Path, dir: &Path, link: bool) -> Result<(), String> {
    let (from, to) = (from.join(file.name.as_str()), dir.join(file.name.as_str()));
    // On another file system there is no link, and a copy is as good.
    let linked = link && fs::hard_link(&from, &to).is_ok();
    let mut read = File::open(&from).map_err(|why| said("opening", &from, &why))?;
    let mut write = match linked {
        true => None,
        false => Some(File::create(&to).map_err(|why| said("creating", &to, &why))?),
    };
    let (mut hasher, mut size, mut buf) = (blake3::Hasher::new(), 0, vec![0; CHUNK]);
    loop {
        let got = read.read(&mut buf).map_err(|why| said("reading", &from, &why))?;
        if got == 0 {
            break;
        }
        size += got as u64;
        if size > file.size {
            break;
        }
        hasher.update(&buf[..got]);
        if let Some(write) = &mut write {
            write.write_all(&buf[..got]).map_err(|why| said("writing", &to, &why))?;
        }
    }
    if size != file.size || ObjectId(*hasher.finalize().as_bytes()) != file.blake3 {
        return Err(format!(
            "{} is not the file that the manifest names: it is damaged or another",
            from.display()
        ));
    }
    let synced = write.as_ref().unwrap_or(&read).sync_all();
    synced.map_err(|why| said("syncing", &to, &why))
}

/// Removes a load's directory.
pub(in crate::control) fn remove(dir: &Path) {
    if let Err(why) = fs::remove_dir_all(dir)
        && why.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("removing {} failed: {why}; it may be removed by hand", dir.display());
    }
}

pub(super) fn said(what: &str, path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{what} {}: {why}", path.display())
}
