//! The users of a service: records of its log, which those who follow a primary apply with the data. So
//! whoever is promoted lets in whom the one before let in, up to the same position.
//!
//! `docs/access.md` says why the log and not the registry, `docs/formats.md` how a record looks.

use keyspace::user::{self, UserValue};
use keyspace::{Cf, SLOTS, Slot};
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use wal::Kind;

use super::RuleError;
use super::file::Loaded;
use super::user::{User, join_brackets};
use crate::control::{Authority, Mode, Refusal};
use crate::store::{CommitError, Current, Store};

/// Whether a change that was written may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is in the log, and this node was a primary all the time.
    Held,
    /// It may be in the log or not, or others may have taken over without it.
    Lost,
}

/// Where users are written who are in the log.
pub(super) struct Home {
    authority: Authority,
    current: Current,
    /// The node belongs to a service: the first change brings its users into the log.
    pub(super) of_service: bool,
}

impl Home {
    pub(super) fn new(authority: Authority, current: Current, of_service: bool) -> Self {
        Self { authority, current, of_service }
    }

    /// The database, if it is open.
    pub(super) fn store(&self) -> Option<std::sync::Arc<Store>> {
        self.current.load()
    }

    /// Whether users could be written now.
    pub(super) fn is_writable(&self) -> bool {
        self.authority.is_writable()
    }

    /// Writes users, and removes others, in one batch that is synced before it is answered. An error is
    /// the text to answer with: nothing was changed.
    pub(super) fn write(
        &self,
        put: &[(Vec<u8>, String)],
        delete: &[Vec<u8>],
    ) -> Result<Written, String> {
        let owned = (0..SLOTS).filter_map(Slot::new).find(|&slot| self.authority.owns(slot));
        let slot = owned.unwrap_or(Slot::of_key(b""));
        let permit = self.authority.admit_write(slot).map_err(|why| self.refused(&why))?;
        let store = self.store().ok_or_else(|| self.refused(&Refusal::Loading))?;
        if let Some(hindrance) = store.hindrance() {
            return Err(self.refused(&hindrance.into()));
        }
        let stamp = store.hlc().next(store.now_ms());
        let mut batch = WriteBatch::default();
        let key_of = |name: &[u8]| {
            let mut key = Vec::new();
            user::encode_key(name, &mut key);
            key
        };
        for name in delete {
            batch.delete_cf(store.cf(Cf::Data), key_of(name));
        }
        for (name, line) in put {
            let mut value = Vec::new();
            UserValue { stamp, line: line.as_bytes() }.encode(&mut value);
            batch.put_cf(store.cf(Cf::Data), key_of(name), value);
        }
        let written = store.try_commit(batch, Kind::Data).and_then(|end| {
            store.sync_to(end)?;
            Ok(end)
        });
        match written {
            Ok(_) if self.authority.still_holds(&permit) => Ok(Written::Held),
            Ok(_) | Err(CommitError::Log(_) | CommitError::Unsynced | CommitError::Load { .. }) => {
                Ok(Written::Lost)
            }
            Err(CommitError::Closed) => {
                let why = self.authority.admit_write(slot).err().unwrap_or(Refusal::Frozen);
                Err(self.refused(&why))
            }
            Err(CommitError::Latched) => Err(self.refused(&Refusal::Latched)),
            Err(why @ (CommitError::Stalled | CommitError::TooGreat(_))) => {
                Err(format!("ERR the users were not changed: {why}"))
            }
        }
    }

    fn refused(&self, why: &Refusal) -> String {
        match self.authority.mode() {
            Mode::Standby => {
                "READONLY the users of a service are in its log, and this node is a standby: \
                              change them at the primary and they come here; nothing was changed"
                    .to_owned()
            }
            _ => format!("{why}; the users were not changed"),
        }
    }
}

/// The users that a database has; `None`: it has never had any.
pub(super) fn read(store: &Store) -> Result<Option<Loaded>, rocksdb::Error> {
    let (from, to) = user::bounds();
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to);
    options.fill_cache(false);
    let from = IteratorMode::From(&from, Direction::Forward);
    let mut loaded = Loaded::default();
    for record in store.db().iterator_cf_opt(store.cf(Cf::Data), options, from) {
        let (key, value) = record?;
        let Some(name) = user::decode_key(&key) else { continue };
        let found = user_of(name, &value).unwrap_or_else(|why| {
            let name = String::from_utf8_lossy(name);
            tracing::error!("the record of user `{name}` cannot be used: {why}; it may not log in");
            User::new(name.as_bytes())
        });
        loaded.users.insert(name.to_vec(), found);
    }
    Ok(loaded.users.contains_key(user::DEFAULT).then_some(loaded))
}

/// A user as its record says. A rule of a later version that would allow a command which is not here
/// allows nothing, so it is passed over; any other that is not understood may forbid something.
fn user_of(name: &[u8], value: &[u8]) -> Result<User, String> {
    let line = UserValue::decode(value).map_err(|why| why.to_string())?.line;
    let words = line.split(|&b| b == b' ').filter(|word| !word.is_empty()).skip(2);
    let rules = join_brackets(words).map_err(|_| "a bracket does not close".to_owned())?;
    let mut user = User::new(name);
    for rule in rules {
        match user.apply(&rule) {
            Ok(()) => {}
            Err(RuleError::Unknown) if !rule.starts_with(b"-@") => {
                let (name, rule) = (String::from_utf8_lossy(name), String::from_utf8_lossy(&rule));
                tracing::warn!(
                    "user `{name}`: `{rule}` is of another version and allows nothing here"
                );
            }
            // Other rules may be secrets.
            Err(why) => return Err(why.to_string()),
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<User, String> {
        let mut value = Vec::new();
        UserValue { stamp: keyspace::Hlc(1), line: line.as_bytes() }.encode(&mut value);
        user_of(b"u", &value)
    }

    #[test]
    fn what_is_not_understood_never_allows_more() {
        let line = "user u on sanitize-payload ~a resetchannels -@all +get";
        assert_eq!(read(line).unwrap().line(), line);
        let later =
            read("user u on sanitize-payload ~a resetchannels -@all +get +later (~* +later)");
        assert_eq!(later.unwrap().line(), line);
        assert!(read("user u on +@all -@later").is_err());
        assert!(read("user u on later").is_err() && read("user u (+get").is_err());
        assert!(user_of(b"u", b"\x02").is_err() && user_of(b"u", b"").is_err());
    }
}
