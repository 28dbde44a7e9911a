//! What a later version of Godwit says in a record, which this one does not know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields that this version does not know. They are passed over, and written back as they were by
/// whoever swaps the record: an older tool does not take from it what a newer one put there. A field
/// that must not be passed over comes with a [level](super::Record::level).
///
/// Numbers in them come back exact if they are integers of 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rest(Map<String, Value>);

impl Rest {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
