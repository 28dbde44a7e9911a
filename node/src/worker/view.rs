//! What a command sees: the keys of the database with the batch's own writes over them.

use std::ops::{Bound, Deref};

use keyspace::data::{self, DataKey, DataValue};
use keyspace::meta::{self, Body, Collection, Meta, Type};
use keyspace::score::{Score, ScoreKey};
use keyspace::{Cf, DecodeError, Hlc, SLOTS, Slot};
use resp::reply::Writer;
use rocksdb::DBPinnableSlice;

use super::cache::{Cached, Caches, Found};
use super::cursor::{Cursor, Direction, Record, after_prefix};
use super::effects::Effects;
use super::notice::Class;
use super::overlay::hash;
use super::pending::Pending;
use super::positions::Positions;
use super::waiter::Until;
use crate::command::Fail;
use crate::store::Store;

/// A user key and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'k> {
    /// Its slot.
    pub slot: Slot,
    /// The key as the client spells it.
    pub name: &'k [u8],
}

impl<'k> Key<'k> {
    /// The key of this name.
    pub fn new(name: &'k [u8]) -> Self {
        Self { slot: Slot::of_key(name), name }
    }
}

/// A collection's head: what its meta record says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Where its entries are and how many.
    pub at: Collection,
    /// When it expires; 0 for never.
    pub expire_ms: u64,
}

/// What a key is, without a string's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its type.
    pub kind: Type,
    /// When it expires; 0 for never.
    pub expire_ms: u64,
    /// A collection's head.
    pub at: Option<Collection>,
}

/// Bytes of a record: in the batch, in the cache, or pinned in the database.
enum Raw<'v> {
    Pending(&'v [u8]),
    Cached(Cached<'v>),
    Stored(DBPinnableSlice<'v>),
}

/// A string or a data value in place.
pub struct Text<'v> {
    raw: Raw<'v>,
    from: usize,
    /// When it expires; 0 for never.
    pub expire_ms: u64,
}

impl Deref for Raw<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pending(bytes) => bytes,
            Self::Cached(bytes) => bytes,
            Self::Stored(bytes) => bytes,
        }
    }
}

impl Text<'_> {
    /// Whether it is there for a reader whose clock shows `now_ms`.
    pub const fn is_live(&self, now_ms: u64) -> bool {
        self.expire_ms == 0 || self.expire_ms > now_ms
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[self.from..]
    }
}

/// Reads and writes of one command. Writes go to the batch and are seen at once.
pub struct View<'a> {
    store: &'a Store,
    pending: &'a mut Pending,
    commit: &'a mut dyn FnMut(&mut Pending) -> Result<(), Fail>,
    /// Unix milliseconds, one reading for the whole command.
    pub now_ms: u64,
    /// Where pages of SCAN ended.
    pub positions: &'a Positions,
    effects: &'a Effects,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
    stamp: Option<Hlc>,
    /// The version of a collection that begins with this command: the database has nothing of it.
    created: Option<Hlc>,
    wrote: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(
        store: &'a Store,
        pending: &'a mut Pending,
        commit: &'a mut dyn FnMut(&mut Pending) -> Result<(), Fail>,
        scratch: (Vec<u8>, Vec<u8>),
        (positions, effects): (&'a Positions, &'a Effects),
        now_ms: u64,
    ) -> Self {
        let (key_bytes, value_bytes) = scratch;
        Self {
            store,
            pending,
            commit,
            now_ms,
            positions,
            effects,
            key_bytes,
            value_bytes,
            stamp: None,
            created: None,
            wrote: false,
        }
    }

    /// Before each write of a key: those who watch it or wait for it learn of it.
    pub fn touch(&mut self, key: Key<'_>) {
        self.wrote = true;
        self.effects.touch(key);
    }

    /// Tells those who listen what happened to a key, once it is committed: notifications of changed
    /// keys, with Redis's names. It costs one comparison while nobody wants them.
    pub fn notify(&self, class: Class, event: &'static str, key: Key<'_>) {
        self.effects.notify(class, event, key);
    }

    /// The same of a collection that may have lost its last entry, with which its key went.
    pub fn notify_shrunk(&self, class: Class, event: &'static str, key: Key<'_>, left: u64) {
        self.effects.notify(class, event, key);
        if left == 0 {
            self.effects.notify(Class::GENERIC, "del", key);
        }
    }

    /// Whether a key is there that a command is about to replace by what may be nothing: asked for
    /// [`View::notify_replaced`], and only answered where somebody listens.
    pub fn is_replaced(&mut self, key: Key<'_>) -> Result<bool, Fail> {
        Ok(self.effects.tells(Class::GENERIC) && self.entry(key)?.is_some())
    }

    /// A command has stored a result under a key; an empty one deletes it.
    pub fn notify_replaced(
        &self,
        class: Class,
        event: &'static str,
        key: Key<'_>,
        (size, replaced): (usize, bool),
    ) {
        if size > 0 {
            self.effects.notify(class, event, key);
        } else if replaced {
            self.effects.notify(Class::GENERIC, "del", key);
        }
    }

    /// Whether a call that finds nothing may wait: not inside of a transaction or a script.
    pub fn may_wait(&self) -> bool {
        !self.pending.is_whole()
    }

    /// Found nothing: waits, or answers a null array where nothing waits. See `worker::Blocked`.
    pub fn wait(&self, until: Until, out: &mut Writer<'_>) -> Result<(), Fail> {
        if self.may_wait() {
            return Err(Fail::Wait(Box::new(until)));
        }
        out.null_array();
        Ok(())
    }

    /// What this call noted when it began to wait; `None`: it runs for the first time.
    pub fn note(&self) -> Option<Vec<u8>> {
        self.effects.note()
    }

    /// Whether the command has written anything since the last commit.
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    pub(super) fn into_scratch(self) -> (Vec<u8>, Vec<u8>) {
        (self.key_bytes, self.value_bytes)
    }

    /// The store, for what is read without keys.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The command's stamp: one for all its records.
    fn stamp(&mut self) -> Hlc {
        *self.stamp.get_or_insert_with(|| self.store.hlc().next(self.now_ms))
    }

    /// What is written from here on has a later stamp than what the command wrote before.
    pub fn restamp(&mut self) {
        self.stamp = None;
    }

    /// A new collection, under a version that no earlier one of the key had.
    pub fn create(&mut self, kind: Type) -> Head {
        let version = self.version();
        self.created = Some(version);
        Head { at: Collection::new(kind, version), expire_ms: 0 }
    }

    /// A version that nothing of this node's data has: for what a collection files of its own.
    pub fn version(&self) -> Hlc {
        self.store.hlc().next(self.now_ms)
    }

    /// A record; `version` is that of the collection which a data record belongs to.
    fn read(&self, cf: Cf, key: &[u8], version: Option<Hlc>) -> Result<Option<Raw<'_>>, Fail> {
        let hash = hash(cf, key);
        if let Some(found) = self.pending.get((hash, cf), key) {
            return Ok(found.map(Raw::Pending));
        }
        if self.pending.is_blank() || version.is_some() && version == self.created {
            return Ok(None);
        }
        let caches = self.pending.caches();
        match caches.find(self.store, (hash, cf), key, version) {
            Found::Value(value) => return Ok(Some(Raw::Cached(value))),
            Found::Absent => return Ok(None),
            Found::Nothing => {}
        }
        let found = self.store.get(cf, key)?;
        caches.keep((hash, cf), key, found.as_deref());
        Ok(found.map(Raw::Stored))
    }

    fn meta(&mut self, key: Key<'_>) -> Result<Option<Raw<'_>>, Fail> {
        self.key_bytes.clear();
        meta::encode_key(key.slot, key.name, &mut self.key_bytes);
        let now_ms = self.now_ms;
        let Some(raw) = self.read(Cf::Meta, &self.key_bytes, None)? else {
            self.effects.missed(key);
            return Ok(None);
        };
        let live = Meta::decode(&raw)?.is_live(now_ms);
        if live {
            self.effects.found();
        } else {
            self.effects.found_dead(key);
        }
        Ok(live.then_some(raw))
    }

    /// What a key is; `None` if it is not there or has expired.
    pub fn entry(&mut self, key: Key<'_>) -> Result<Option<Entry>, Fail> {
        let Some(raw) = self.meta(key)? else { return Ok(None) };
        let meta = Meta::decode(&raw)?;
        let at = match meta.body {
            Body::String(_) => None,
            Body::Collection(at) => Some(at),
        };
        Ok(Some(Entry { kind: meta.kind(), expire_ms: meta.expire_ms, at }))
    }

    /// A string's bytes; an error if the key is of another type.
    pub fn string(&mut self, key: Key<'_>) -> Result<Option<Text<'_>>, Fail> {
        let Some(raw) = self.meta(key)? else { return Ok(None) };
        let meta = Meta::decode(&raw)?;
        if meta.kind() != Type::String {
            return Err(Fail::WrongType);
        }
        let expire_ms = meta.expire_ms;
        Ok(Some(Text { raw, from: Meta::HEAD_LEN, expire_ms }))
    }

    /// A collection's head; an error if the key is of another type.
    pub fn head(&mut self, key: Key<'_>, kind: Type) -> Result<Option<Head>, Fail> {
        match self.entry(key)? {
            None => Ok(None),
            Some(Entry { at: Some(at), expire_ms, .. }) if at.kind == kind => {
                Ok(Some(Head { at, expire_ms }))
            }
            Some(_) => Err(Fail::WrongType),
        }
    }

    /// The head of a collection, or of a new one.
    pub fn head_or_create(&mut self, key: Key<'_>, kind: Type) -> Result<Head, Fail> {
        match self.head(key, kind)? {
            Some(head) => Ok(head),
            None => Ok(self.create(kind)),
        }
    }

    fn put_meta(&mut self, key: Key<'_>, expire_ms: u64, body: Body<'_>) {
        if self.effects.tells(Class::NEW) && matches!(self.entry(key), Ok(None)) {
            self.effects.notify(Class::NEW, "new", key);
        }
        let stamp = self.stamp();
        self.key_bytes.clear();
        meta::encode_key(key.slot, key.name, &mut self.key_bytes);
        self.value_bytes.clear();
        Meta { stamp, expire_ms, body }.encode(&mut self.value_bytes);
        self.touch(key);
        self.pending.put(Cf::Meta, &self.key_bytes, &self.value_bytes);
    }

    /// Makes a key this string, whatever it was.
    pub fn put_string(&mut self, key: Key<'_>, bytes: &[u8], expire_ms: u64) {
        self.put_meta(key, expire_ms, Body::String(bytes));
    }

    /// Stores a collection's head; an empty collection is no key.
    pub fn put_head(&mut self, key: Key<'_>, head: &Head) {
        if head.at.size == 0 {
            self.delete(key);
        } else {
            if self.created == Some(head.at.version) && head.at.kind != Type::List {
                self.created = None;
                self.pending.caches().begin(key.slot, head.at.version);
            }
            self.put_meta(key, head.expire_ms, Body::Collection(head.at));
        }
    }

    /// Deletes a key: one write, however large it is.
    pub fn delete(&mut self, key: Key<'_>) {
        self.key_bytes.clear();
        meta::encode_key(key.slot, key.name, &mut self.key_bytes);
        self.touch(key);
        self.pending.delete(Cf::Meta, &self.key_bytes);
    }

    fn data_key(&mut self, key: Key<'_>, version: Hlc, subkey: &[u8]) {
        self.key_bytes.clear();
        DataKey { slot: key.slot, key: key.name, version, subkey }.encode(&mut self.key_bytes);
    }

    /// A field's value, an element, a member's score; not those of a field that has expired.
    pub fn data(
        &mut self,
        key: Key<'_>,
        version: Hlc,
        subkey: &[u8],
    ) -> Result<Option<Text<'_>>, Fail> {
        let now_ms = self.now_ms;
        Ok(self.stored(key, version, subkey)?.filter(|text| text.is_live(now_ms)))
    }

    /// The same, of a field that has expired and whose record is still there too.
    pub fn stored(
        &mut self,
        key: Key<'_>,
        version: Hlc,
        subkey: &[u8],
    ) -> Result<Option<Text<'_>>, Fail> {
        self.data_key(key, version, subkey);
        let Some(raw) = self.read(Cf::Data, &self.key_bytes, Some(version))? else {
            return Ok(None);
        };
        let value = DataValue::decode(&raw)?;
        let (from, expire_ms) = (raw.len() - value.bytes.len(), value.expire_ms);
        Ok(Some(Text { raw, from, expire_ms }))
    }

    /// Whether a field or member is there.
    pub fn has(&mut self, key: Key<'_>, version: Hlc, subkey: &[u8]) -> Result<bool, Fail> {
        Ok(self.data(key, version, subkey)?.is_some())
    }

    /// Writes a field's value, an element, a member's score.
    pub fn put_data(&mut self, key: Key<'_>, version: Hlc, subkey: &[u8], bytes: &[u8]) {
        self.put_field(key, version, subkey, bytes, 0);
    }

    /// Writes a field's value that expires; 0 for never.
    pub fn put_field(
        &mut self,
        key: Key<'_>,
        version: Hlc,
        subkey: &[u8],
        bytes: &[u8],
        expire_ms: u64,
    ) {
        let stamp = self.stamp();
        self.data_key(key, version, subkey);
        self.value_bytes.clear();
        DataValue { stamp, expire_ms, bytes }.encode(&mut self.value_bytes);
        self.touch(key);
        self.pending.put(Cf::Data, &self.key_bytes, &self.value_bytes);
        self.pending.mark_dirty(version);
    }

    /// Deletes a field, an element, a member.
    pub fn delete_data(&mut self, key: Key<'_>, version: Hlc, subkey: &[u8]) {
        self.data_key(key, version, subkey);
        self.touch(key);
        self.pending.delete(Cf::Data, &self.key_bytes);
        self.pending.mark_dirty(version);
    }

    /// Files a member under its score.
    pub fn put_score(&mut self, key: Key<'_>, version: Hlc, score: Score, member: &[u8]) {
        self.key_bytes.clear();
        let record = ScoreKey { slot: key.slot, key: key.name, version, score, member };
        record.encode(&mut self.key_bytes);
        self.touch(key);
        let subkey = &self.key_bytes[data::prefix_len(key.name.len())..];
        self.pending.caches().put_score(key.slot, version, subkey);
        self.pending.put(Cf::Score, &self.key_bytes, b"");
        self.pending.mark_dirty(version);
    }

    /// Takes a member from under its score.
    pub fn delete_score(&mut self, key: Key<'_>, version: Hlc, score: Score, member: &[u8]) {
        self.key_bytes.clear();
        let record = ScoreKey { slot: key.slot, key: key.name, version, score, member };
        record.encode(&mut self.key_bytes);
        self.touch(key);
        self.pending.delete(Cf::Score, &self.key_bytes);
        self.pending.mark_dirty(version);
    }

    /// A collection's records in the data or score family, between two subkeys, with its uncommitted
    /// ones. Where those are many they are committed first, so call it before the command's first
    /// write.
    pub fn iterate(
        &mut self,
        cf: Cf,
        key: Key<'_>,
        version: Hlc,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Entries<'a>, Fail> {
        if self.pending.misleads_about(version) {
            self.commit()?;
        }
        let mut prefix = Vec::with_capacity(data::prefix_len(key.name.len()) + 16);
        data::encode_prefix(key.slot, key.name, version, &mut prefix);
        let prefix_len = prefix.len();
        let with = |subkey: &[u8], after: &[u8]| [&prefix[..], subkey, after].concat();
        let lower = match from {
            Bound::Included(subkey) => with(subkey, b""),
            // The least key above a key is that key and a zero byte.
            Bound::Excluded(subkey) => with(subkey, b"\0"),
            Bound::Unbounded => prefix.clone(),
        };
        let upper = match to {
            Bound::Included(subkey) => with(subkey, b"\0"),
            Bound::Excluded(subkey) => with(subkey, b""),
            Bound::Unbounded => after_prefix(prefix.clone()),
        };
        let (mut lower, mut upper) = (lower, upper);
        let at_end = match direction {
            Direction::Up => from == Bound::Unbounded,
            Direction::Down => to == Bound::Unbounded,
        };
        let mut end = None;
        if cf == Cf::Score && at_end {
            let (whose, caches) = ((key.slot, version), self.pending.caches());
            if caches.end(self.store, whose, direction, &mut prefix) {
                match direction {
                    Direction::Up => lower = prefix,
                    Direction::Down => {
                        prefix.push(0);
                        upper = prefix;
                    }
                }
            }
            end = Some((caches.clone(), whose, direction));
        }
        let upper = upper.max(lower.clone());
        let over = self.pending.over_collection((cf, version), &lower, &upper);
        // What was deleted and is not committed may come back.
        let end = end.filter(|_| over.is_none());
        let cursor = Cursor::new(self.store, cf, lower, upper, direction).with(over);
        Ok(Entries { cursor, prefix_len, now_ms: self.now_ms, end })
    }

    /// All data records of a collection, in order.
    pub fn entries(&mut self, key: Key<'_>, version: Hlc) -> Result<Entries<'a>, Fail> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.iterate(Cf::Data, key, version, all.0, all.1, Direction::Up)
    }

    /// Meta records from a whole meta key on, to another: after a commit, so that they are all.
    pub fn keys(&mut self, lower: Vec<u8>, upper: Vec<u8>) -> Result<Cursor<'a>, Fail> {
        self.commit()?;
        let upper = upper.max(lower.clone());
        let over = self.pending.over(Cf::Meta, &lower, &upper);
        Ok(Cursor::new(self.store, Cf::Meta, lower, upper, Direction::Up).with(over))
    }

    /// Deletes all that there is, in every family that is shipped.
    pub fn sweep(&mut self) -> Result<(), Fail> {
        self.commit()?;
        self.effects.touch_all();
        self.pending.sweep_whole();
        self.wrote = true;
        let (from, to) = (0u16.to_be_bytes(), SLOTS.to_be_bytes());
        for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shipped()) {
            self.pending.delete_range(cf, &from, &to);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fail> {
        // A transaction is committed at its end, and what it wrote is read without that.
        if self.pending.is_whole() {
            return Ok(());
        }
        debug_assert!(!self.wrote, "a command iterates before its first write");
        if self.pending.is_empty() { Ok(()) } else { (self.commit)(self.pending) }
    }
}

/// A collection's records, one after the other, without fields that have expired.
pub struct Entries<'a> {
    cursor: Cursor<'a>,
    prefix_len: usize,
    now_ms: u64,
    /// Whose first record it is that comes first, to be remembered.
    end: Option<(Caches, (Slot, Hlc), Direction)>,
}

impl Entries<'_> {
    /// The next subkey (for scores: score and member) and data value.
    pub fn step(&mut self) -> Result<Option<Record<'_>>, Fail> {
        Ok(self.step_field()?.map(|(subkey, value)| (subkey, value.bytes)))
    }

    /// The same, with the time at which a field expires.
    pub fn step_field(&mut self) -> Result<Option<(&[u8], DataValue<'_>)>, Fail> {
        loop {
            if !self.cursor.forward()? {
                return Ok(None);
            }
            let Some((_, value)) = self.cursor.current() else { return Ok(None) };
            if decode(value)?.is_live(self.now_ms) {
                break;
            }
        }
        let Some((key, value)) = self.cursor.current() else { return Ok(None) };
        let subkey = &key[self.prefix_len..];
        if let Some((caches, whose, direction)) = self.end.take() {
            caches.found_end(whose, direction, subkey);
        }
        Ok(Some((subkey, decode(value)?)))
    }
}

/// A data value, or the empty one of a score.
fn decode(value: &[u8]) -> Result<DataValue<'_>, DecodeError> {
    if value.is_empty() {
        Ok(DataValue::new(Hlc::default(), b""))
    } else {
        DataValue::decode(value)
    }
}
