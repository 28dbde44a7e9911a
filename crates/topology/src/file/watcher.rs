//! Watching a directory: the latest view, about a millisecond after each commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{store, unavailable};
use crate::registry::{RegistryError, View};

/// Read again at least this often: a directory that was replaced, or a file system that tells of no
/// changes, is noticed all the same.
const RECHECK: Duration = Duration::from_secs(1);
/// Room for the events of one wake-up; more wait in the kernel.
const EVENT_BYTES: usize = 16 << 10;

/// Starts a task that ends when every receiver is dropped.
pub(super) fn start(
    dir: Arc<Path>,
    prefix: String,
) -> Result<watch::Receiver<View>, RegistryError> {
    let mut events = subscribe(&dir)?;
    // After subscribing, so that nothing falls between.
    let content = store::read(&dir)?;
    let (sender, receiver) = watch::channel(content.view(&prefix));
    let mut expiry = content.next_expiry(&prefix);
    let mut failed = false;
    tokio::spawn(async move {
        loop {
            let wait = expiry.map_or(RECHECK, |at| at.min(RECHECK)) + Duration::from_millis(1);
            tokio::select! {
                () = changed(&mut events) => {}
                () = tokio::time::sleep_until(Instant::now() + wait) => {}
                () = sender.closed() => return,
            }
            let dir_again = dir.clone();
            let read = tokio::task::spawn_blocking(move || store::read(&dir_again)).await;
            let content = match read.unwrap_or_else(|why| Err(unavailable(&dir, why))) {
                Ok(content) => content,
                Err(why) => {
                    // The view stands still; say so once, not at each try.
                    if !failed {
                        tracing::warn!("{why}; the last view is kept");
                    }
                    failed = true;
                    expiry = None;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if failed {
                // The directory may be another one now.
                match subscribe(&dir) {
                    Ok(again) => events = again,
                    Err(why) => tracing::warn!("{why}; looking at it every second"),
                }
                tracing::info!("the registry file:{} answers again", dir.display());
                failed = false;
            }
            expiry = content.next_expiry(&prefix);
            let view = content.view(&prefix);
            sender.send_if_modified(|held| {
                let differs = held.keys != view.keys;
                *held = view;
                differs
            });
        }
    });
    Ok(receiver)
}

type Events = EventStream<Vec<u8>>;

fn subscribe(dir: &Path) -> Result<Events, RegistryError> {
    let cannot = |why: std::io::Error| {
        unavailable(
            dir,
            format!(
                "cannot watch it ({why}); if instances ran out, raise fs.inotify.max_user_instances"
            ),
        )
    };
    let inotify = Inotify::init().map_err(cannot)?;
    let watched = inotify.watches().add(dir, WatchMask::MOVED_TO | WatchMask::DELETE_SELF);
    watched.map_err(cannot)?;
    inotify.into_event_stream(vec![0; EVENT_BYTES]).map_err(cannot)
}

/// Resolves at a change of a file of keys, with the events that came with it consumed.
async fn changed(events: &mut Events) {
    loop {
        let Some(event) = events.next().await else {
            // The stream does not end while the descriptor is open; the recheck goes on without.
            return std::future::pending().await;
        };
        let ours = event.map_or(true, |e| e.name.is_none_or(|name| store::is_table(&name)));
        if ours {
            while let Some(Some(_)) = events.next().now_or_never() {}
            return;
        }
    }
}
