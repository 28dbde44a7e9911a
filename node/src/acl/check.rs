//! Whether a user may run a command.

use super::selector::Selector;
use super::users::Account;
use crate::command::{Args, Fail, Flags, Spec, key_flags, table};

/// What was not allowed, the most telling last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The command itself.
    Command,
    /// One of its keys.
    Key,
    /// A login.
    Auth,
    /// One of its channels.
    Channel,
}

impl Reason {
    /// Redis's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Key => "key",
            Self::Auth => "auth",
            Self::Channel => "channel",
        }
    }
}

/// A command that may not run: why, and which of its arguments shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The argument's index; 0 for the command.
    pub at: usize,
}

impl Denied {
    /// What the client is told.
    pub(crate) fn message(self, user: &str, spec: &Spec) -> String {
        match self.reason {
            Reason::Command | Reason::Auth => {
                format!("User {user} has no permissions to run the '{}' command", spec.name)
            }
            Reason::Key => "No permissions to access a key".to_owned(),
            Reason::Channel => "No permissions to access a channel".to_owned(),
        }
    }

    /// The same, saying which key or channel: for ACL DRYRUN.
    pub(crate) fn detail(self, user: &str, spec: &Spec, args: &Args<'_>) -> String {
        let object = String::from_utf8_lossy(args.get(self.at).unwrap_or_default());
        match self.reason {
            Reason::Command | Reason::Auth => self.message(user, spec),
            Reason::Key => format!("User {user} has no permissions to access the '{object}' key"),
            Reason::Channel => {
                format!("User {user} has no permissions to access the '{object}' channel")
            }
        }
    }

    /// What the log of denials calls it.
    pub(crate) fn object(self, spec: &Spec, args: &Args<'_>) -> Vec<u8> {
        match self.reason {
            Reason::Command => spec.name.as_bytes().to_vec(),
            _ => args.get(self.at).unwrap_or_default().to_vec(),
        }
    }
}

impl Account {
    /// Whether it may run this command with these arguments. Costs one atomic load for users that
    /// may do everything.
    pub(crate) fn check(&self, spec: &Spec, args: &Args<'_>) -> Result<(), Denied> {
        if self.may_everything() {
            return Ok(());
        }
        let user = self.user();
        let mut worst = None;
        for selector in user.selectors() {
            match check(selector, spec, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(Some(denied)),
            }
        }
        Err(worst.unwrap_or(Denied { reason: Reason::Command, at: 0 }))
    }
}

fn check(selector: &Selector, spec: &Spec, args: &Args<'_>) -> Result<(), Denied> {
    let denied = |reason, at| Err(Denied { reason, at });
    let free = spec.flags.has(Flags::NO_AUTH);
    if !free && !selector.allows_command(table::number(spec), args.get(1)) {
        return denied(Reason::Command, 0);
    }
    if !spec.keys.is_none() {
        for (at, flags) in key_flags::each(spec, args) {
            if !selector.allows_key(args.at(at), flags) {
                return denied(Reason::Key, at);
            }
        }
    }
    let (last, is_pattern) = match spec.name {
        "publish" | "spublish" => (1, false),
        "subscribe" | "ssubscribe" => (args.len() - 1, false),
        "psubscribe" => (args.len() - 1, true),
        _ => return Ok(()),
    };
    for at in 1..=last {
        if !selector.allows_channel(args.get(at).unwrap_or_default(), is_pattern) {
            return denied(Reason::Channel, at);
        }
    }
    Ok(())
}

impl Account {
    /// Whether it may use the patterns that a command names (SORT's BY and GET): they read keys that
    /// are not among its arguments, so they are for those that may read every key.
    pub(crate) fn check_patterns(&self, spec: &Spec, args: &Args<'_>) -> Result<(), Fail> {
        if !spec.flags.has(Flags::PATTERNS)
            || self.may_everything()
            || self.reads_all_keys(spec, args)
        {
            return Ok(());
        }
        let pattern = |at: usize| args.get(at + 1).is_some_and(|pattern| pattern.contains(&b'*'));
        let mut options = 2..args.len();
        let denied = options.find_map(|at| match () {
            () if args.is(at, "by") && pattern(at) => Some("BY"),
            () if args.is(at, "get") => Some("GET"),
            () => None,
        });
        let Some(option) = denied else { return Ok(()) };
        Err(Fail::text(format!(
            "ERR {option} option of SORT denied due to insufficient ACL permissions."
        )))
    }

    /// Whether it may run this command, and read every key there is.
    fn reads_all_keys(&self, spec: &Spec, args: &Args<'_>) -> bool {
        let user = self.user();
        let mut selectors = user.selectors();
        selectors.any(|selector| selector.reads_all_keys() && check(selector, spec, args).is_ok())
    }
}

impl Account {
    /// Whether it may hear a channel, or a pattern of channels.
    pub(crate) fn hears(&self, name: &[u8], is_pattern: bool) -> bool {
        self.user().selectors().any(|selector| selector.allows_channel(name, is_pattern))
    }
}
