//! Changes a stopped node's database behind its back, as a fault of a disk or of a program would.

use std::path::Path;

use anyhow::{Context, Result, bail};
use keyspace::data::{DataKey, DataValue};
use keyspace::meta::{self, Meta};
use keyspace::{Cf, Slot};
use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options};

/// A stopped node's database.
pub struct Tampered(DB);

impl Tampered {
    /// Opens the database in a node's directory; the node must not run.
    pub fn open(node_dir: &Path) -> Result<Self> {
        let path = node_dir.join("db");
        let families =
            Cf::ALL.iter().map(|cf| ColumnFamilyDescriptor::new(cf.name(), Options::default()));
        let db = DB::open_cf_descriptors(&Options::default(), &path, families);
        Ok(Self(db.with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// Changes one byte of the value of a hash's field.
    pub fn change_field(&self, key: &str, field: &str) -> Result<()> {
        let slot = Slot::of_key(key.as_bytes());
        let data = self.0.cf_handle(Cf::Data.name()).context("the data family")?;
        let family = self.0.iterator_cf(data, IteratorMode::Start);
        for entry in family {
            let (raw, value) = entry?;
            let found = DataKey::decode(&raw)?;
            if found.slot == slot && found.key == key.as_bytes() && found.subkey == field.as_bytes()
            {
                let old = DataValue::decode(&value)?;
                let mut bytes = old.bytes.to_vec();
                bytes.push(b'!');
                let changed = DataValue { bytes: &bytes, ..old };
                let mut out = Vec::new();
                changed.encode(&mut out);
                return Ok(self.0.put_cf(data, raw, out)?);
            }
        }
        bail!("{key} has no field {field}")
    }

    /// Moves a key's expiry by a millisecond.
    pub fn change_expiry(&self, key: &str) -> Result<()> {
        let raw = meta_key(key);
        let value = self.0.get(&raw)?.with_context(|| format!("{key} is not there"))?;
        let mut meta = Meta::decode(&value)?;
        if meta.expire_ms == 0 {
            bail!("{key} does not expire");
        }
        meta.expire_ms += 1;
        let mut out = Vec::new();
        meta.encode(&mut out);
        Ok(self.0.put(raw, out)?)
    }

    /// Takes a key away.
    pub fn remove(&self, key: &str) -> Result<()> {
        let raw = meta_key(key);
        if self.0.get(&raw)?.is_none() {
            bail!("{key} is not there");
        }
        Ok(self.0.delete(raw)?)
    }
}

fn meta_key(key: &str) -> Vec<u8> {
    let mut raw = Vec::new();
    meta::encode_key(Slot::of_key(key.as_bytes()), key.as_bytes(), &mut raw);
    raw
}
