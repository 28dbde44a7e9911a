//! One set of permissions: commands, patterns of keys, patterns of channels.

use super::Categories;
use super::user::RuleError;
use crate::command::key_flags::KeyFlags;
use crate::command::{Spec, glob_matches, table};

/// Words of 64 commands each.
const WORDS: usize = 16;

/// A bit for each command, by its number in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commands([u64; WORDS]);

impl Commands {
    fn has(&self, number: u16) -> bool {
        self.0.get(usize::from(number / 64)).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn set(&mut self, number: u16, allowed: bool) {
        let Some(word) = self.0.get_mut(usize::from(number / 64)) else { return };
        let bit = 1 << (number % 64);
        *word = if allowed { *word | bit } else { *word & !bit };
    }
}

/// Keys of one form, and what may be done with them.
#[derive(Clone, Debug)]
pub(crate) struct KeyPattern {
    pattern: Vec<u8>,
    read: bool,
    write: bool,
}

impl KeyPattern {
    fn line(&self) -> String {
        let pattern = String::from_utf8_lossy(&self.pattern);
        match (self.read, self.write) {
            (true, true) => format!("~{pattern}"),
            (true, false) => format!("%R~{pattern}"),
            _ => format!("%W~{pattern}"),
        }
    }
}

/// Commands that may run, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    commands: Commands,
    /// Also commands that there are not yet.
    all_commands: bool,
    /// What was said after `+@all` or `-@all`, for those who ask.
    rules: String,
    /// It began with `+@all`.
    from_all: bool,
    /// First arguments that are allowed of commands that are not.
    first_args: Vec<(u16, Vec<u8>)>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Nothing is allowed, but all channels if `all_channels`.
    pub(super) fn new(all_channels: bool) -> Self {
        Self {
            commands: Commands([0; WORDS]),
            all_commands: false,
            rules: String::new(),
            from_all: false,
            first_args: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Whether nothing needs to be asked.
    pub(super) fn allows_all(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether a command may run, whatever its arguments.
    pub(super) fn allows_command(&self, number: Option<u16>, first: Option<&[u8]>) -> bool {
        let Some(number) = number else { return true };
        let is = |allowed: &[u8]| first.is_some_and(|arg| arg.eq_ignore_ascii_case(allowed));
        self.all_commands
            || self.commands.has(number)
            || self.first_args.iter().any(|(of, allowed)| *of == number && is(allowed))
    }

    /// Whether a command may do this with a key.
    pub(crate) fn allows_key(&self, key: &[u8], flags: KeyFlags) -> bool {
        self.all_keys
            || self.keys.iter().any(|form| {
                (form.read || !flags.reads())
                    && (form.write || !flags.writes())
                    && glob_matches(&form.pattern, key)
            })
    }

    /// Whether it may read every key there is.
    pub(crate) fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|form| form.read && form.pattern == b"*")
    }

    /// Whether a channel, or a pattern of channels, may be used.
    pub(super) fn allows_channel(&self, name: &[u8], is_pattern: bool) -> bool {
        // A pattern is allowed only where it is said itself: it could match more than another.
        let allows = |known: &Vec<u8>| match is_pattern {
            true => known == name,
            false => glob_matches(known, name),
        };
        self.all_channels || self.channels.iter().any(allows)
    }

    /// Adds or takes by one rule, as `+get` or `~app:*`.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |words: [&str; 2]| words.iter().any(|w| rule.eq_ignore_ascii_case(w.as_bytes()));
        match rule {
            _ if is(["allkeys", "~*"]) => (self.all_keys, self.keys) = (true, Vec::new()),
            _ if is(["resetkeys", "resetkeys"]) => {
                (self.all_keys, self.keys) = (false, Vec::new());
            }
            _ if is(["allchannels", "&*"]) => {
                (self.all_channels, self.channels) = (true, Vec::new());
            }
            _ if is(["resetchannels", "resetchannels"]) => {
                (self.all_channels, self.channels) = (false, Vec::new());
            }
            _ if is(["allcommands", "+@all"]) => self.begin_with(true),
            _ if is(["nocommands", "-@all"]) => self.begin_with(false),
            [b'~' | b'%', ..] => self.add_keys(rule)?,
            [b'&', name @ ..] => self.add_channel(name)?,
            [b'+', b'@', name @ ..] => self.set_category(name, true)?,
            [b'-', b'@', name @ ..] => self.set_category(name, false)?,
            [b'+', name @ ..] => self.allow(name)?,
            [b'-', name @ ..] => {
                let spec = table::find_full(name).ok_or(RuleError::Unknown)?;
                self.set_command(spec, false);
                self.say('-', spec.name.as_bytes());
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn begin_with(&mut self, all: bool) {
        self.commands = Commands([if all { u64::MAX } else { 0 }; WORDS]);
        (self.all_commands, self.from_all) = (all, all);
        self.rules.clear();
        self.first_args.clear();
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let tilde = rule.iter().position(|&b| b == b'~').ok_or(RuleError::Syntax)?;
        let (kinds, pattern) = (&rule[..tilde], &rule[tilde + 1..]);
        let (read, write) = match &kinds.to_ascii_uppercase()[..] {
            b"" | b"%RW" | b"%WR" => (true, true),
            b"%R" => (true, false),
            b"%W" => (false, true),
            _ => return Err(RuleError::Syntax),
        };
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => (known.read, known.write) = (known.read | read, known.write | write),
            None => self.keys.push(KeyPattern { pattern: pattern.to_vec(), read, write }),
        }
        Ok(())
    }

    fn add_channel(&mut self, name: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if has_spaces(name) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == name) {
            self.channels.push(name.to_vec());
        }
        Ok(())
    }

    fn set_category(&mut self, name: &[u8], allowed: bool) -> Result<(), RuleError> {
        let category = Categories::named(name).ok_or(RuleError::Unknown)?;
        category.commands().for_each(|spec| self.set_command(spec, allowed));
        let mut said = vec![b'@'];
        said.extend_from_slice(name);
        self.say(if allowed { '+' } else { '-' }, &said);
        Ok(())
    }

    /// A command, a subcommand, or a command with one first argument.
    fn allow(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let bar = name.iter().rposition(|&b| b == b'|');
        let Some(bar) = bar else {
            let spec = table::find(name).ok_or(RuleError::Unknown)?;
            self.set_command(spec, true);
            self.say('+', name);
            return Ok(());
        };
        let (command, first) = (&name[..bar], &name[bar + 1..]);
        let spec = table::find_full(command).ok_or(RuleError::Unknown)?;
        if table::container_of(spec).is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if first.is_empty() {
            return Err(RuleError::Syntax);
        }
        if table::subcommands(spec).next().is_some() {
            let sub = table::find_full(name).ok_or(RuleError::Unknown)?;
            self.set_command(sub, true);
        } else if let Some(number) = table::number(spec) {
            let known = |(of, arg): &(u16, Vec<u8>)| *of == number && arg == first;
            if !self.first_args.iter().any(known) {
                self.first_args.push((number, first.to_vec()));
            }
        }
        self.say('+', name);
        Ok(())
    }

    /// A command, with all that it contains.
    fn set_command(&mut self, spec: &'static Spec, allowed: bool) {
        self.all_commands &= allowed;
        for spec in std::iter::once(spec).chain(table::subcommands(spec)) {
            let Some(number) = table::number(spec) else { continue };
            self.commands.set(number, allowed);
            self.first_args.retain(|(of, _)| *of != number);
        }
    }

    /// Remembers a rule in place of those that it makes idle.
    fn say(&mut self, sign: char, rule: &[u8]) {
        let rule = String::from_utf8_lossy(rule).to_lowercase();
        let covered = |said: &&str| {
            let rest = said[1..].strip_prefix(&rule[..]);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
        };
        let mut kept: Vec<&str> =
            self.rules.split_whitespace().filter(|said| !covered(said)).collect();
        let said = format!("{sign}{rule}");
        kept.push(&said);
        self.rules = kept.join(" ");
    }

    /// The rules of commands.
    pub(crate) fn commands_line(&self) -> String {
        let base = if self.from_all { "+@all" } else { "-@all" };
        if self.rules.is_empty() { base.to_owned() } else { format!("{base} {}", self.rules) }
    }

    /// The rules of keys.
    pub(crate) fn keys_line(&self) -> String {
        if self.all_keys {
            return "~*".to_owned();
        }
        self.keys.iter().map(KeyPattern::line).collect::<Vec<_>>().join(" ")
    }

    /// The rules of channels.
    pub(crate) fn channels_line(&self) -> String {
        if self.all_channels {
            return "&*".to_owned();
        }
        let names = self.channels.iter().map(|name| format!("&{}", String::from_utf8_lossy(name)));
        names.collect::<Vec<_>>().join(" ")
    }

    /// All of its rules, as they can be said again.
    pub(super) fn line(&self) -> String {
        let channels = match self.all_channels {
            true => "&*".to_owned(),
            false => format!("resetchannels {}", self.channels_line()).trim_end().to_owned(),
        };
        let keys = self.keys_line();
        let parts = [keys, channels, self.commands_line()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// What names and patterns may not have, so that a file of them can be read again.
pub(super) fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|&b| b == 0 || b == 0x0b || b.is_ascii_whitespace())
}
