//! A library of functions, as FUNCTION LOAD brought it.

use std::sync::atomic::AtomicBool;

use super::flags::ScriptFlags;

/// A function that FCALL can call.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// What FUNCTION LIST says of it.
    pub(crate) description: Option<Vec<u8>>,
    /// What it says of itself.
    pub(crate) flags: ScriptFlags,
    /// It touched keys that it was not given: it runs while all workers wait.
    pub(crate) needs_all: AtomicBool,
}

/// A library, with its functions in the order of their names.
pub(crate) struct Library {
    /// Its name.
    pub(crate) name: String,
    /// All of its code, the first line included.
    pub(crate) text: Box<[u8]>,
    /// Its functions.
    pub(crate) functions: Vec<Function>,
}

impl Library {
    /// The function of this name, in any case.
    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }
}
