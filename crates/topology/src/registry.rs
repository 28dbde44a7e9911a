//! The registry: keys with revisions, compare-and-swap, watch, and keys that end with their writer.

use std::time::Duration;

use tokio::sync::watch;

/// The revision at which a key was last written; rises with every commit of the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A key's value and when it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Vec<u8>,
    /// The revision of the write.
    pub revision: Revision,
}

/// What must hold for a commit: the key's revision, or `None` for a key that must not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The key.
    pub key: String,
    /// Its revision.
    pub revision: Option<Revision>,
    /// Its bytes too, where they are named: a registry that was set back gives revisions again.
    pub value: Option<Vec<u8>>,
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// Its new value; `None` deletes it.
    pub value: Option<Vec<u8>>,
    /// The key disappears this long after its last write was asked for, or up to three seconds
    /// later (etcd counts whole seconds); `None` keeps it for ever.
    pub ttl: Option<Duration>,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the registry, at this revision.
    Committed(Revision),
    /// An expectation did not hold; nothing was written.
    Conflict,
}

/// Why the registry did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or its disk failed. A commit that ends so has an unknown outcome:
    /// read before doing anything else.
    #[error("the registry {registry} did not answer: {why}")]
    Unavailable {
        /// Its address.
        registry: String,
        /// What happened.
        why: String,
    },
    /// The address is none, or what is there is no registry.
    #[error("{0}")]
    Unusable(String),
}

/// All keys under a prefix at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The registry's revision when this was read.
    pub revision: Revision,
    /// The keys, without the prefix removed.
    pub keys: std::collections::BTreeMap<String, Versioned>,
}

/// A registry. One conformance suite holds every implementation to the same behaviour.
pub trait Registry: Send + Sync + 'static {
    /// One key.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<Versioned>, RegistryError>> + Send;
    /// All keys that begin so.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<View, RegistryError>> + Send;
    /// Writes all, or nothing if an expectation does not hold.
    fn commit(
        &self,
        expect: &[Expect],
        writes: &[Write],
    ) -> impl Future<Output = Result<Outcome, RegistryError>> + Send;
    /// The keys that begin so, again after each change. The receiver always has the latest view;
    /// views between may be skipped. While the registry is silent the view stands still and
    /// `changed` does not resolve. The watch ends when every receiver is dropped.
    fn watch(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<watch::Receiver<View>, RegistryError>> + Send;
    /// The least time between two writes of a key that only counts up: a commit may cost the disks of
    /// several machines. What others wait for is written at once.
    fn quiet(&self) -> Duration;
}
