//! Links files as they appear: woken by inotify, and by the clock where an event was missed.

use std::path::PathBuf;

use futures_util::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};
use ops::shutdown::Shutdown;

use super::{RECHECK_EVERY, RESCAN_EVERY, Spool};

/// Links every new log file until shutdown; `report` hears of each round.
pub async fn keep_linking(
    spool: Spool,
    shutdown: Shutdown,
    report: impl Fn(Result<usize, &super::SpoolError>),
) {
    let mut events = None;
    let mut watched: Option<(u64, u64)> = None;
    loop {
        let db = spool.node_dir().join("db");
        let now = inodes(&db);
        // The directory is replaced when the node is seeded; the archive appears with its first file.
        if watched != now || events.is_none() {
            events = subscribe(&[spool.node_dir().to_owned(), db.clone(), db.join("archive")]);
            watched = now;
        }
        let result = spool.scan();
        report(result.as_ref().copied());
        if let Err(error) = &result {
            tracing::error!("{error}");
        }
        let again = if events.is_some() { RECHECK_EVERY } else { RESCAN_EVERY };
        let wait = async {
            match &mut events {
                Some(stream) => loop {
                    match stream.next().await {
                        // Only names come and go here: the watches do not see writes.
                        Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => break,
                        Some(Ok(event)) if is_log(event.name.as_deref()) => break,
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => std::future::pending().await,
                    }
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = tokio::time::sleep(again) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn is_log(name: Option<&std::ffi::OsStr>) -> bool {
    name.and_then(|n| n.to_str())
        .is_some_and(|n| n.ends_with(".log") || n == "db" || n == "archive")
}

fn inodes(db: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: PathBuf| std::fs::metadata(path).map(|m| m.ino()).ok();
    Some((inode(db.to_owned())?, inode(db.join("archive")).unwrap_or(0)))
}

type Events = inotify::EventStream<[u8; 4096]>;

/// `None`: no events here, the clock must do.
fn subscribe(paths: &[PathBuf]) -> Option<Events> {
    let inotify = Inotify::init().ok()?;
    for path in paths {
        // A missing directory is looked at again when it appears.
        let _ = inotify.watches().add(path, WatchMask::CREATE | WatchMask::MOVED_TO);
    }
    inotify.into_event_stream([0; 4096]).ok()
}
