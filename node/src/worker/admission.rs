//! Whether a command may run on this node now: its role, its slots, its disk, what was refused before.

use keyspace::{SLOTS, Slot};

use super::request::{Call, Request};
use super::run::Worker;
use super::stalled::TOO_MANY_WAIT;
use crate::command::{Args, Fail, Flags, Handler, Scripted, Spec};
use crate::control::Refusal;
use crate::store::{Hindrance, Store};

impl Worker {
    /// Whether a command of a client may run now.
    pub(super) fn admit_call(
        &mut self,
        store: &Store,
        request: &Request,
        call: &Call,
        args: &Args<'_>,
    ) -> Result<(), Fail> {
        if may_write(call.spec) {
            if request.sticky.is_refused(call.hold) {
                return Err(Fail::Text(STICKY.into()));
            }
            // What a script may write is asked when it writes.
            if call.spec.flags.has(Flags::WRITE) {
                match store.hindrance() {
                    None => {}
                    // Not the node's role but its disk: what comes behind it need not be refused.
                    Some(Hindrance::Full) => return Err(Fail::text(Refusal::Full.to_string())),
                    Some(hindrance) => return Err(Refusal::from(hindrance).into()),
                }
            }
            if self.stalled.is_full() && store.is_stopped() {
                return Err(Fail::text(TOO_MANY_WAIT));
            }
        }
        for slot in call.spec.slots(args, call.slot) {
            self.admit(slot, call)?;
        }
        if is_of_node(call) {
            self.admit_whole(call)?;
        }
        Ok(())
    }

    /// Whether it may touch this slot.
    pub(super) fn admit(&mut self, slot: Slot, call: &Call) -> Result<(), Fail> {
        if call.spec.flags.has(Flags::WRITE) {
            self.pending.admit(self.authority.admit_write(slot)?);
        } else {
            self.authority.admit_read(slot, call.readonly)?;
        }
        Ok(())
    }

    /// Commands without keys see every slot of the node.
    pub(super) fn admit_whole(&mut self, call: &Call) -> Result<(), Fail> {
        if !call.spec.flags.has(Flags::WRITE) {
            return Ok(self.authority.admit_scan(call.readonly)?);
        }
        let owned = (0..SLOTS).filter_map(Slot::new).find(|&slot| self.authority.owns(slot));
        self.admit(owned.unwrap_or(Slot::of_key(b"")), call)
    }
}

/// Whether a command may write: scripts are known to only as they run.
pub(super) fn may_write(spec: &Spec) -> bool {
    let runs = matches!(
        spec.handler,
        Handler::Script(Scripted::Eval | Scripted::EvalSha | Scripted::Call)
    );
    spec.flags.has(Flags::WRITE) || runs && !spec.flags.has(Flags::READONLY)
}

/// Whether a command sees every slot of the node.
pub(super) fn is_of_node(call: &Call) -> bool {
    let scripted = matches!(call.spec.handler, Handler::Script(_));
    call.slot.is_none() && call.spec.keys.is_none() && !scripted
}

pub(super) const STICKY: &str =
    "READONLY an earlier write of this connection was refused; this one did not run";
