//! The libraries that there are, and their functions by name.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use super::function::Library;

/// What libraries may come to, in bytes: each engine holds them all.
const BYTES_MAX: usize = 64 << 20;

/// A set of libraries; it never changes, another takes its place.
#[derive(Clone, Default)]
pub(crate) struct Set {
    libraries: BTreeMap<String, Arc<Library>>,
    /// Which library has a function, by its name in lower case.
    functions: HashMap<String, Arc<Library>>,
}

/// Why a library cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// There is one of this name.
    Library(String),
    /// Another library has a function of this name.
    Function(String),
    /// All together would be too much.
    TooMuch,
}

/// What FUNCTION RESTORE does with libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// They go first.
    Flush,
    /// They stay; a collision is an error.
    Append,
    /// Those of the same name are replaced.
    Replace,
}

impl Set {
    /// All, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Library>> + Clone {
        self.libraries.values()
    }

    /// The library of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Library>> {
        self.libraries.get(name)
    }

    /// The library that has this function.
    pub(crate) fn with_function(&self, name: &str) -> Option<&Arc<Library>> {
        self.functions.get(&name.to_ascii_lowercase())
    }

    /// How many functions there are.
    pub(crate) fn functions(&self) -> usize {
        self.functions.len()
    }

    /// What their texts come to, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.all().map(|library| library.text.len()).sum()
    }

    /// This set with others, which take the place of those of the same name if `replace`.
    pub(crate) fn with(&self, new: &[Arc<Library>], replace: bool) -> Result<Self, Problem> {
        let mut libraries = self.libraries.clone();
        for library in new {
            let before = libraries.insert(library.name.clone(), library.clone());
            if before.is_some() && !replace {
                return Err(Problem::Library(library.name.clone()));
            }
        }
        Self::of(libraries)
    }

    /// This set without one.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut libraries = self.libraries.clone();
        libraries.remove(name);
        // What was a set without collisions is one with less in it.
        Self::of(libraries).unwrap_or_default()
    }

    fn of(libraries: BTreeMap<String, Arc<Library>>) -> Result<Self, Problem> {
        let mut functions = HashMap::new();
        for library in libraries.values() {
            for function in &library.functions {
                let name = function.name.to_ascii_lowercase();
                if functions.insert(name, library.clone()).is_some() {
                    return Err(Problem::Function(function.name.clone()));
                }
            }
        }
        let set = Self { libraries, functions };
        if set.bytes() > BYTES_MAX { Err(Problem::TooMuch) } else { Ok(set) }
    }
}

/// The present set.
#[derive(Default)]
pub(crate) struct Libraries {
    now: ArcSwap<Set>,
    /// Which state of the database it is of, if it was read.
    read_at: Mutex<Option<u128>>,
}

impl Libraries {
    /// The present set.
    pub(crate) fn now(&self) -> Arc<Set> {
        self.now.load_full()
    }

    /// Whether this function is known to touch keys that it is not given.
    pub(crate) fn needs_all(&self, function: &str) -> bool {
        let now = self.now.load();
        let library = now.with_function(function);
        let found = library.and_then(|library| library.function(function));
        found.is_some_and(|function| function.needs_all.load(Ordering::Acquire))
    }

    /// Another set takes its place.
    pub(crate) fn set(&self, set: Set) {
        self.now.store(Arc::new(set));
    }

    fn read_at(&self) -> MutexGuard<'_, Option<u128>> {
        self.read_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the set is what the database has at this generation of its data.
    pub(crate) fn is_of(&self, generation: u128) -> bool {
        *self.read_at() == Some(generation)
    }

    /// What was set may not be what the database has: it is read again before it is used.
    pub(crate) fn doubt(&self) {
        *self.read_at() = None;
    }

    /// The set was read at this generation.
    pub(crate) fn was_read(&self, generation: u128) {
        *self.read_at() = Some(generation);
    }
}
