//! A user: whether it is on, its passwords, its selectors.

use super::password::Hash;
use super::selector::Selector;
use crate::settings;

/// Why a rule is none, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No such command or category.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// No rule at all.
    #[error("Syntax error")]
    Syntax,
    /// All keys are allowed already.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    /// All channels are allowed already.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
    /// A password that the user does not have.
    #[error("The password you are trying to remove from the user does not exist")]
    NoPassword,
    /// A hash that is none.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    Hash,
    /// `+config|get|port`.
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// What a user is, at one time.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Its name.
    pub(crate) name: Vec<u8>,
    /// Whether it may log in.
    pub(crate) enabled: bool,
    /// Whether any password will do.
    pub(crate) any_password: bool,
    /// RESTORE may trust what it sends; nothing is trusted here, whatever this says.
    skip_sanitize: bool,
    passwords: Vec<Hash>,
    root: Selector,
    selectors: Vec<Selector>,
}

impl User {
    /// One that may nothing.
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            enabled: false,
            any_password: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            root: Selector::new(settings::ALL_CHANNELS_BY_DEFAULT.get()),
            selectors: Vec::new(),
        }
    }

    /// The user of connections that have not said who they are: at first it may everything.
    pub(super) fn default_one() -> Self {
        let mut user = Self::new(b"default");
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            user.apply(rule.as_bytes()).expect("these are rules");
        }
        user
    }

    /// Applies one rule.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let hash = |text: &[u8]| Hash::parse(text).ok_or(RuleError::Hash);
        match (&rule.to_ascii_lowercase()[..], rule) {
            (b"", _) => {}
            (b"on", _) => self.enabled = true,
            (b"off", _) => self.enabled = false,
            (b"skip-sanitize-payload", _) => self.skip_sanitize = true,
            (b"sanitize-payload", _) => self.skip_sanitize = false,
            (b"nopass", _) => (self.any_password, self.passwords) = (true, Vec::new()),
            (b"resetpass", _) => (self.any_password, self.passwords) = (false, Vec::new()),
            (_, [b'>', password @ ..]) => self.add_password(Hash::of(password)),
            (_, [b'#', text @ ..]) => self.add_password(hash(text)?),
            (_, [b'<', password @ ..]) => self.remove_password(Hash::of(password))?,
            (_, [b'!', text @ ..]) => self.remove_password(hash(text)?)?,
            (_, [b'(', rules @ .., b')']) => {
                let mut selector = Selector::new(settings::ALL_CHANNELS_BY_DEFAULT.get());
                for rule in rules.split(|&b| b == b' ').filter(|rule| !rule.is_empty()) {
                    selector.apply(rule)?;
                }
                self.selectors.push(selector);
            }
            (b"clearselectors", _) => self.selectors.clear(),
            (b"reset", _) => *self = Self::new(&self.name),
            _ => self.root.apply(rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: Hash) {
        self.any_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn remove_password(&mut self, hash: Hash) -> Result<(), RuleError> {
        let found = self.passwords.iter().position(|known| *known == hash);
        self.passwords.remove(found.ok_or(RuleError::NoPassword)?);
        Ok(())
    }

    /// Whether it may log in with this password.
    pub(super) fn accepts(&self, password: &[u8]) -> bool {
        let hash = Hash::of(password);
        let known = self.passwords.iter().fold(false, |found, one| found | one.matches(&hash));
        self.enabled && (self.any_password || known)
    }

    /// Whether nothing needs to be asked before its commands run.
    pub(super) fn may_everything(&self) -> bool {
        self.selectors().any(Selector::allows_all)
    }

    /// Its selectors, the one without brackets first.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Those in brackets.
    pub(crate) fn bracketed(&self) -> &[Selector] {
        &self.selectors
    }

    /// Redis's words for what it is.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        let sanitize =
            if self.skip_sanitize { "skip-sanitize-payload" } else { "sanitize-payload" };
        let on = if self.enabled { "on" } else { "off" };
        [Some(on), self.any_password.then_some("nopass"), Some(sanitize)].into_iter().flatten()
    }

    /// The hashes of its passwords.
    pub(crate) fn passwords(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(Hash::to_string)
    }

    /// It as a line of an ACL file.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("user {}", String::from_utf8_lossy(&self.name));
        let hashes = self.passwords.iter().map(|hash| format!("#{hash}"));
        let selectors = self.selectors.iter().map(|one| format!("({})", one.line()));
        let flags = self.flags().map(str::to_owned);
        for part in flags.chain(hashes).chain([self.root.line()]).chain(selectors) {
            line.push(' ');
            line.push_str(&part);
        }
        line
    }
}

/// Puts rules that spaces cut, `(+get ~a)` as three arguments, together again.
pub(super) fn join_brackets<'a>(
    words: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for word in words {
        match rules.last_mut().filter(|_| open) {
            Some(rule) => {
                rule.push(b' ');
                rule.extend_from_slice(word);
            }
            None => {
                open = word.starts_with(b"(");
                rules.push(word.to_vec());
            }
        }
        open &= !word.ends_with(b")");
    }
    match rules.last() {
        Some(rule) if open => Err(rule.clone()),
        _ => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &str) -> User {
        let mut user = User::new(b"u");
        for rule in join_brackets(rules.split(' ').map(str::as_bytes)).unwrap() {
            user.apply(&rule).unwrap();
        }
        user
    }

    #[test]
    fn rules_are_said_again_as_they_were_said() {
        let check = |rules: &str, line: &str| {
            assert_eq!(user(rules).line(), format!("user u {line}"));
            // What a file holds is read as what was written.
            assert_eq!(user(line).line(), format!("user u {line}"), "{rules}");
        };
        check("on nopass", "on nopass sanitize-payload resetchannels -@all");
        check("+@all -debug ~a ~b", "off sanitize-payload ~a ~b resetchannels +@all -debug");
        check("+get +@read -get", "off sanitize-payload resetchannels -@all +@read -get");
        check("+client|id +client", "off sanitize-payload resetchannels -@all +client");
        check("+select|0", "off sanitize-payload resetchannels -@all +select|0");
        check("%R~a %W~a %RW~b %W~c", "off sanitize-payload ~a ~b %W~c resetchannels -@all");
        check(
            "&x ( +get ~k ) (&y)",
            "off sanitize-payload resetchannels &x -@all (~k resetchannels -@all +get) \
             (resetchannels &y -@all)",
        );
    }

    #[test]
    fn bad_rules_say_why() {
        let error = |rule: &str| User::new(b"u").apply(rule.as_bytes()).unwrap_err();
        assert_eq!(error("nope"), RuleError::Syntax);
        assert_eq!(error("+nope"), RuleError::Unknown);
        assert_eq!(error("+@nope"), RuleError::Unknown);
        assert_eq!(error("+config|nope"), RuleError::Unknown);
        assert_eq!(error("+config|get|port"), RuleError::FirstArgOfSubcommand);
        assert_eq!(error("#12"), RuleError::Hash);
        assert_eq!(error("<p"), RuleError::NoPassword);
        assert_eq!(error("%X~a"), RuleError::Syntax);
        assert_eq!(error("(&* &a)"), RuleError::AfterAllChannels);
        assert_eq!(join_brackets([&b"(+get"[..], b"~a"].into_iter()), Err(b"(+get ~a".to_vec()));
    }

    #[test]
    fn passwords_open_users_that_are_on() {
        let user =
            user("on >one #ef92b778bafe771e89245b89ecbc08a44a4e166c06659911881f383d4473e94f");
        assert!(user.accepts(b"one") && user.accepts(b"password123") && !user.accepts(b"two"));
        let mut off = user.clone();
        off.apply(b"off").unwrap();
        assert!(!off.accepts(b"one"));
    }
}
