//! EVAL, FCALL, SCRIPT and FUNCTION. A worker runs them (`worker/script.rs`), with what is in the
//! room of scripts.

use super::{Flags, Handler, Keys, Scripted, Spec};

const G: &str = "scripting";
/// Any script may be run where nothing may be written: what it writes is refused then.
const E: Flags = Flags::NO_SCRIPT.and(Flags::STALE).and(Flags::MOVABLE_KEYS);
const R: Flags = E.and(Flags::READONLY);

pub(super) const SPECS: &[Spec] = &[
    script("eval", -3, E, KEYS, Scripted::Eval),
    script("eval_ro", -3, R, KEYS, Scripted::Eval),
    script("evalsha", -3, E, KEYS, Scripted::EvalSha),
    script("evalsha_ro", -3, R, KEYS, Scripted::EvalSha),
    script("fcall", -3, E, KEYS, Scripted::Call),
    script("fcall_ro", -3, R, KEYS, Scripted::Call),
    script("script", -2, Flags::NO_SCRIPT, Keys::NONE, Scripted::Scripts),
    script("function", -2, Flags::NO_SCRIPT, Keys::NONE, Scripted::Functions),
];

/// What FUNCTION LOAD and its kin do: they write; it is in no table.
pub(crate) static CHANGE_FUNCTIONS: Spec =
    script("function", -2, Flags::NO_SCRIPT.and(Flags::WRITE), Keys::NONE, Scripted::Functions);

/// How many keys there are stands before them.
const KEYS: Keys = Keys::range(3, 0, 1);

const fn script(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: Keys,
    scripted: Scripted,
) -> Spec {
    Spec { name, arity, flags, keys, group: G, handler: Handler::Script(scripted) }
}
