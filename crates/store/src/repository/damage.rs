//! What reading a repository back has found.

use serde::Serialize;

use crate::StoreError;

/// Damage that is named; the rest is counted.
const NAMED_MAX: usize = 1_000;

/// Damage, in words: what it is of, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The first of it.
    #[serde(rename = "damage")]
    named: Vec<String>,
    /// How much more there is.
    #[serde(rename = "more-damage")]
    more: u64,
}

impl Damage {
    /// Names what is damaged; what is no damage ends the reading.
    ///
    /// # Errors
    /// The store could not be read: nothing is known of what is in it.
    pub fn note(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.name(error.to_string());
        Ok(())
    }

    /// Names it.
    pub fn name(&mut self, damage: String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(damage);
        } else {
            self.more += 1;
        }
    }

    /// How much there is in all.
    pub fn count(&self) -> u64 {
        self.named.len() as u64 + self.more
    }

    /// Whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// A line for each, and for those that are not named.
    pub fn lines(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.named.iter().cloned().chain(more).collect()
    }
}
