//! Brings what commands did to the clients who want to hear of it: notifications of changed keys,
//! and keys that clients keep copies of.

use resp::Version;
use resp::reply::Writer;

use super::acl;
use super::broker::Kind;
use super::session::Shared;
use super::tracking;
use crate::store::Store;
use crate::worker::{Class, Event, Herald};

impl Herald for Shared {
    fn tell(&self, events: Vec<Event>) {
        let mut changed = Vec::new();
        for event in events {
            match event {
                Event::Key { event, key, .. } => notify(self, event, &key),
                Event::Stale { key, clients, by } => {
                    for client in clients {
                        tracking::invalidate(self, client, by, Some(&[&key]));
                    }
                }
                Event::Changed { key, by } => changed.push((key, by)),
                Event::Message { sharded, channel, message } => {
                    let kind = if sharded { Kind::Sharded } else { Kind::Channel };
                    self.broker.publish(kind, &channel, &message);
                }
                Event::Flushed { by } => tracking::flush(self, by),
            }
        }
        if !changed.is_empty() {
            tracking::broadcast(self, &changed);
        }
    }

    fn users_changed(&self, store: &Store) {
        let changed = self.users.refresh(store);
        acl::disconnect(self, &changed);
    }

    fn bring_users(&self) {
        self.users.bring_into_log();
    }

    fn own_change(&self, client: u64, key: Option<&[u8]>, version: Version, out: &mut Vec<u8>) {
        let Some(found) = self.clients.find(client) else { return };
        if version == Version::V2 || found.tracks().as_ref().is_none_or(|t| t.redirect.is_some()) {
            // It hears of it in another way, or not at all.
            match key {
                Some(key) => tracking::invalidate(self, client, client, Some(&[key])),
                None => tracking::invalidate(self, client, 0, None),
            }
            return;
        }
        let wanted =
            |tracks: &tracking::Tracks| !(tracks.broadcast || key.is_some() && tracks.no_loop);
        if found.tracks().as_ref().is_some_and(wanted) {
            tracking::write(
                &mut Writer::new(out, version),
                key.map(|key| [key]).as_ref().map(|k| &k[..]),
            );
        }
    }
}

fn notify(shared: &Shared, event: &str, key: &[u8]) {
    let classes = shared.workers.listeners().classes();
    if classes.has(Class::KEYSPACE) {
        let channel = [b"__keyspace@0__:", key].concat();
        shared.broker.publish(Kind::Channel, &channel, event.as_bytes());
    }
    if classes.has(Class::KEYEVENT) {
        let channel = [b"__keyevent@0__:", event.as_bytes()].concat();
        shared.broker.publish(Kind::Channel, &channel, key);
    }
}
