//! Watching a prefix: a list, then etcd's events from its revision on, applied in order.
//!
//! After any failure (a member that died or hangs, history that was compacted away, a cluster that
//! was replaced) it begins again with a list. Beside the events it reads once a second through the
//! cluster's quorum: a connection that is silent because nothing happens is not one that is dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::EtcdRegistry;
use super::client::Again;
use super::link::Link;
use super::proto::{Event, RangeRequest, RangeResponse, WatchCreate, WatchRequest, WatchResponse};
use crate::registry::{RegistryError, Revision, Versioned, View};

/// How often the quorum is asked.
const RECHECK: Duration = Duration::from_secs(1);
/// After a failure; longer after each of a row.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Starts a task that ends when every receiver is dropped.
pub(super) async fn start(
    registry: EtcdRegistry,
    prefix: &str,
) -> Result<watch::Receiver<View>, RegistryError> {
    let first = registry.read_all(prefix).await?;
    let cluster = first.cluster;
    let (sender, receiver) = watch::channel(first.view);
    let watcher = Watcher { registry, prefix: prefix.into(), sender, cluster };
    tokio::spawn(watcher.run());
    Ok(receiver)
}

struct Watcher {
    registry: EtcdRegistry,
    prefix: Arc<str>,
    sender: watch::Sender<View>,
    /// Which cluster the view is of.
    cluster: u64,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut silent = false;
        loop {
            let at = Instant::now();
            let why = tokio::select! {
                why = self.follow() => why,
                () = self.sender.closed() => return,
            };
            if at.elapsed() > PAUSE_MAX {
                // It went well for a while.
                (pause, silent) = (PAUSE_MIN, false);
            }
            loop {
                if !silent {
                    tracing::warn!(
                        "the watch of {} stopped: {why}; the last view is kept",
                        self.registry
                    );
                }
                silent = true;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.sender.closed() => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
                if self.list_again().await {
                    break;
                }
            }
            tracing::info!("the registry {} answers again", self.registry);
        }
    }

    /// Reads everything afresh.
    async fn list_again(&mut self) -> bool {
        let read = match self.registry.read_all(&self.prefix).await {
            Ok(read) => read,
            Err(why) => {
                tracing::debug!("{why}");
                return false;
            }
        };
        let before = self.sender.borrow().revision;
        if read.cluster != self.cluster || read.view.revision < before {
            tracing::error!(
                "the registry {} went from revision {} back to {}, or is another one: it was \
                 restored from a backup or replaced. Records of a lower epoch are refused; see \
                 `godwit-switchover registry check`",
                self.registry,
                before.0,
                read.view.revision.0
            );
        }
        self.cluster = read.cluster;
        self.sender.send_if_modified(|held| {
            let differs = held.keys != read.view.keys;
            *held = read.view;
            differs
        });
        true
    }

    /// Applies events from where the view stands, until something goes wrong: what.
    async fn follow(&self) -> String {
        let (link, mut events) = match self.subscribe().await {
            Ok(subscribed) => subscribed,
            Err(why) => return why,
        };
        let mut recheck = tokio::time::interval(RECHECK);
        recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                message = events.message() => match message {
                    // The connection is well: others go on with it.
                    Ok(Some(message)) => if let Err(why) = self.apply(message) { return why },
                    Ok(None) => break "etcd ended it".to_owned(),
                    Err(status) => break status.message().to_owned(),
                },
                _ = recheck.tick() => if let Err(why) = self.look(&link).await { break why },
            }
        };
        self.registry.client.give_up(&link).await;
        why
    }

    async fn subscribe(&self) -> Result<(Link, Streaming<WatchResponse>), String> {
        let client = &self.registry.client;
        let start = self.sender.borrow().revision.0.saturating_add(1);
        let (key, range_end) = self.registry.range(&self.prefix);
        let start_revision = i64::try_from(start).unwrap_or(i64::MAX);
        let create = WatchRequest { create: Some(WatchCreate { key, range_end, start_revision }) };
        let link = client.link().await?;
        let asking = link.streaming("/etcdserverpb.Watch/Watch", create);
        let asked: Result<Result<_, Status>, _> =
            tokio::time::timeout(client.patience(), asking).await;
        let failed = match asked {
            Ok(Ok(events)) => return Ok((link, events)),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "it does not answer".to_owned(),
        };
        client.give_up(&link).await;
        Err(format!("{}: {failed}", link.endpoint()))
    }

    /// Asks the quorum through the same member: it answers, and has not gone back.
    async fn look(&self, link: &Link) -> Result<(), String> {
        let (key, range_end) = self.registry.range(&self.prefix);
        let wish = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
        let asking = link.unary("/etcdserverpb.KV/Range", wish);
        let asked: Result<Result<RangeResponse, Status>, _> =
            tokio::time::timeout(self.registry.client.patience(), asking).await;
        let endpoint = link.endpoint();
        let header = match asked {
            Ok(Ok(answer)) => answer.header.unwrap_or_default(),
            Ok(Err(status)) => return Err(format!("{endpoint}: {}", status.message())),
            Err(_) => return Err(format!("{endpoint}: it does not answer")),
        };
        let seen = self.sender.borrow().revision;
        if header.cluster_id != self.cluster || super::revision(header.revision) < seen {
            return Err(format!("{endpoint}: it is not where it was"));
        }
        Ok(())
    }

    fn apply(&self, message: WatchResponse) -> Result<(), String> {
        if message.compact_revision > 0 {
            return Err("its history was compacted beyond where this watch stood".to_owned());
        }
        if message.canceled {
            return Err(format!("etcd ended it: {}", message.cancel_reason));
        }
        let header = message.header.unwrap_or_default();
        if header.cluster_id != self.cluster {
            return Err("it is another cluster".to_owned());
        }
        if message.events.is_empty() {
            return Ok(());
        }
        let strip = self.registry.client.address().prefix.as_str();
        self.sender.send_modify(|view| {
            for event in message.events {
                let Some(kv) = event.kv else { continue };
                let Some(key) = super::key_of(strip, &kv.key) else { continue };
                let revision = super::revision(kv.mod_revision);
                match event.kind {
                    Event::DELETE => drop(view.keys.remove(&key)),
                    _ => drop(view.keys.insert(key, Versioned { value: kv.value, revision })),
                }
                view.revision = view.revision.max(revision);
            }
        });
        Ok(())
    }
}

/// What a list found.
pub(super) struct Read {
    pub(super) view: View,
    pub(super) cluster: u64,
}

impl EtcdRegistry {
    /// Every key under a prefix at one revision, in pages that fit into memory.
    pub(super) async fn read_all(&self, prefix: &str) -> Result<Read, RegistryError> {
        use crate::limits::{KEYS_MAX, TOTAL_BYTES_MAX};
        /// The first page's keys; halved where an answer would be too long.
        const PAGE: i64 = 1024;
        let (mut key, range_end) = self.range(prefix);
        let (mut read, mut bytes) = (Read { view: View::default(), cluster: 0 }, 0);
        let (mut at, mut page) = (0, PAGE);
        loop {
            let wish = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: page,
                revision: at,
                count_only: false,
            };
            let asked = self.client.call("/etcdserverpb.KV/Range", wish, Again::Safe).await;
            let answer: RangeResponse = match asked {
                Ok(answer) => answer,
                Err(super::client::Failed::Refused(status))
                    if page > 1 && status.message().contains("too large") =>
                {
                    page /= 2;
                    continue;
                }
                Err(failed) => return Err(self.client.error(failed)),
            };
            let header = answer.header.unwrap_or_default();
            if at == 0 {
                at = header.revision;
                read.cluster = header.cluster_id;
                read.view.revision = super::revision(at);
            }
            let Some(last) = answer.kvs.last() else { return Ok(read) };
            key = [&last.key[..], &[0]].concat();
            for kv in answer.kvs {
                bytes += kv.key.len() + kv.value.len();
                let Some(name) = super::key_of(&self.client.address().prefix, &kv.key) else {
                    continue;
                };
                let revision: Revision = super::revision(kv.mod_revision);
                read.view.keys.insert(name, Versioned { value: kv.value, revision });
            }
            if bytes > TOTAL_BYTES_MAX || read.view.keys.len() > KEYS_MAX {
                return Err(RegistryError::Unusable(format!(
                    "{self} holds more than {KEYS_MAX} keys or {TOTAL_BYTES_MAX} bytes under `{prefix}`: something else writes there"
                )));
            }
            if !answer.more {
                return Ok(read);
            }
        }
    }
}
