//! All users, and what connections hold of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use sha2::{Digest as _, Sha256};

use super::file::{self, FileError, Loaded};
use super::selector::has_spaces;
use super::user::{User, join_brackets};
use super::{Log, RuleError};

/// A user as connections hold it: it changes under them.
pub struct Account {
    user: ArcSwap<User>,
    /// Nothing needs to be asked before its commands run.
    everything: AtomicBool,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.user.load().name))
    }
}

impl Account {
    pub(super) fn new(user: User) -> Arc<Self> {
        let everything = AtomicBool::new(user.may_everything());
        Arc::new(Self { user: ArcSwap::from_pointee(user), everything })
    }

    /// Whether nothing needs to be asked: the fast way for most.
    pub(crate) fn may_everything(&self) -> bool {
        self.everything.load(Ordering::Relaxed)
    }

    /// What it is now.
    pub(crate) fn user(&self) -> Guard<Arc<User>> {
        self.user.load()
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.user.load().name).into_owned()
    }

    fn become_(&self, user: User) {
        self.everything.store(user.may_everything(), Ordering::Relaxed);
        self.user.store(Arc::new(user));
    }
}

/// What a change means for those who are connected.
#[derive(Default)]
pub(crate) struct Changed {
    /// Users that are no more.
    pub(crate) gone: Vec<Arc<Account>>,
    /// Users that may have lost channels.
    pub(crate) fewer_channels: Vec<Arc<Account>>,
}

/// All users.
pub struct Users {
    by_name: Mutex<BTreeMap<Vec<u8>, Arc<Account>>>,
    /// The one of connections that have not said who they are; always the same object.
    default: Arc<Account>,
    path: PathBuf,
    /// What was denied.
    pub(crate) log: Log,
}

impl Users {
    /// Those of a file; where there is none, only `default`, who may everything.
    pub fn open(path: PathBuf) -> Result<Self, FileError> {
        let default = Account::new(User::default_one());
        let by_name = BTreeMap::from([(b"default".to_vec(), default.clone())]);
        let users = Self { by_name: Mutex::new(by_name), default, path, log: Log::default() };
        match file::read(&users.path)? {
            Some(text) => users.install(Loaded::parse(&text, &users.path)?),
            None => Changed::default(),
        };
        Ok(users)
    }

    fn by_name(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Arc<Account>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are kept.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The one of connections that have not said who they are.
    pub(crate) fn default_one(&self) -> &Arc<Account> {
        &self.default
    }

    /// Whether connections may run commands before they say who they are.
    pub(crate) fn needs_no_password(&self) -> bool {
        let user = self.default.user();
        user.enabled && user.any_password
    }

    /// The user of this name.
    pub(crate) fn named(&self, name: &[u8]) -> Option<Arc<Account>> {
        self.by_name().get(name).cloned()
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Vec<Arc<User>> {
        self.by_name().values().map(|account| account.user.load_full()).collect()
    }

    /// The user of this name, if that is its password and it is on.
    pub(crate) fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<Account>> {
        self.named(name).filter(|account| account.user().accepts(password))
    }

    /// ACL SETUSER: all of the rules, or none of them; kept in the file before anybody sees them.
    pub(crate) fn set<'a>(
        &self,
        name: &[u8],
        rules: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Changed, SetError> {
        if has_spaces(name) {
            return Err(SetError::Name);
        }
        let rules = join_brackets(rules).map_err(|rule| SetError::Bracket(shown(&rule)))?;
        let mut by_name = self.by_name();
        let account = by_name.get(name).cloned();
        let old = account.as_ref().map(|account| account.user.load_full());
        let mut user = old.as_deref().cloned().unwrap_or_else(|| User::new(name));
        for rule in &rules {
            user.apply(rule).map_err(|why| SetError::Rule(shown(rule), why))?;
        }
        let account = account.unwrap_or_else(|| Account::new(User::new(name)));
        let users = by_name.values().filter(|other| !Arc::ptr_eq(other, &account));
        let mut lines: Vec<_> = users.map(|other| other.user.load().line()).collect();
        lines.push(user.line());
        file::write(&self.path, lines)?;
        account.become_(user);
        by_name.insert(name.to_vec(), account.clone());
        Ok(Changed { gone: Vec::new(), fewer_channels: vec![account] })
    }

    /// ACL DELUSER: how many there were.
    pub(crate) fn delete<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Changed, FileError> {
        let mut by_name = self.by_name();
        let mut left = by_name.clone();
        let gone: Vec<_> = names.filter_map(|name| left.remove(name)).collect();
        if !gone.is_empty() {
            file::write(&self.path, left.values().map(|account| account.user.load().line()))?;
            *by_name = left;
        }
        Ok(Changed { gone, fewer_channels: Vec::new() })
    }

    /// The same text for the same users with the same rules and passwords, and no other; says nothing
    /// of them.
    pub(crate) fn digest(&self) -> String {
        let by_name = self.by_name();
        let mut lines: Vec<_> =
            by_name.values().map(|account| account.user.load().line()).collect();
        lines.sort_unstable();
        let mut hash = Sha256::new();
        for line in lines {
            hash.update(line);
            hash.update(b"\n");
        }
        hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// ACL SAVE.
    pub(crate) fn save(&self) -> Result<(), FileError> {
        let by_name = self.by_name();
        file::write(&self.path, by_name.values().map(|account| account.user.load().line()))
    }

    /// ACL LOAD: what the file says, or nothing of it.
    pub(crate) fn load(&self) -> Result<Changed, FileError> {
        let text = file::read(&self.path)?.unwrap_or_default();
        Ok(self.install(Loaded::parse(&text, &self.path)?))
    }

    /// Users that stay keep their object, so that connections see them change.
    fn install(&self, loaded: Loaded) -> Changed {
        let mut by_name = self.by_name();
        let mut old = std::mem::take(&mut *by_name);
        let mut changed = Changed::default();
        let default = User::default_one();
        let default = (!loaded.users.contains_key(&default.name)).then_some(default);
        for user in loaded.users.into_values().chain(default) {
            let name = user.name.clone();
            let account = match old.remove(&name) {
                Some(account) => {
                    account.become_(user);
                    changed.fewer_channels.push(account.clone());
                    account
                }
                None => Account::new(user),
            };
            by_name.insert(name, account);
        }
        changed.gone = old.into_values().collect();
        changed
    }
}

fn shown(rule: &[u8]) -> String {
    String::from_utf8_lossy(rule).into_owned()
}

/// Why a user was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    /// Its name could not be kept in a file.
    #[error("Usernames can't contain spaces or null characters")]
    Name,
    /// A bracket that does not close.
    #[error("Unmatched parenthesis in acl selector starting at '{0}'.")]
    Bracket(String),
    /// A rule that is none.
    #[error("Error in ACL SETUSER modifier '{0}': {1}")]
    Rule(String, RuleError),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}
