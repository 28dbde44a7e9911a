//! All users, and what connections hold of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use keyspace::user;
use sha2::{Digest as _, Sha256};

use super::file::{self, FileError, Loaded};
use super::home::{self, Home, Written};
use super::selector::has_spaces;
use super::user::{User, join_brackets};
use super::{Log, RuleError};
use crate::control::Authority;
use crate::store::{Current, Store};

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
    /// Whether this is in the log is unknown, or others may have taken over without it: close the
    /// connection without an answer.
    pub(crate) lost: bool,
}

type ByName = BTreeMap<Vec<u8>, Arc<Account>>;

/// All users.
pub struct Users {
    by_name: Mutex<ByName>,
    /// The one of connections that have not said who they are; always the same object.
    default: Arc<Account>,
    path: PathBuf,
    /// The log that users may be in.
    home: OnceLock<Home>,
    /// They are in the log now, and the file counts for nothing.
    in_log: AtomicBool,
    /// What was denied.
    pub(crate) log: Log,
}

impl Users {
    /// Those of a file; where there is none, only `default`, who may everything.
    pub fn open(path: PathBuf) -> Result<Self, FileError> {
        let default = Account::new(User::default_one());
        let by_name = BTreeMap::from([(b"default".to_vec(), default.clone())]);
        let users = Self {
            by_name: Mutex::new(by_name),
            default,
            path,
            home: OnceLock::new(),
            in_log: AtomicBool::new(false),
            log: Log::default(),
        };
        let of_file = users.of_file()?;
        install(&mut users.by_name(), of_file);
        Ok(users)
    }

    /// From here on the users are those of the log of this database, once it has any; those of a node of
    /// a service come into it with the first change.
    pub fn follow_log(&self, authority: Authority, current: Current, of_service: bool) {
        let home = self.home.get_or_init(|| Home::new(authority, current, of_service));
        if let Some(store) = home.store() {
            self.refresh(&store);
        }
    }

    /// Takes the users that the database has now, which may have changed beside this.
    pub(crate) fn refresh(&self, store: &Store) -> Changed {
        if self.home.get().is_none() {
            // They are in the file alone.
            return Changed::default();
        }
        self.reread(&mut self.by_name(), store)
    }

    fn reread(&self, by_name: &mut ByName, store: &Store) -> Changed {
        let loaded = match home::read(store) {
            Ok(Some(loaded)) => {
                self.in_log.store(true, Ordering::Release);
                loaded
            }
            // This database never had any: another one did.
            Ok(None) if self.in_log.swap(false, Ordering::AcqRel) => match self.of_file() {
                Ok(loaded) => loaded,
                Err(why) => {
                    tracing::error!("{why}; the users stay as they were");
                    return Changed::default();
                }
            },
            Ok(None) => return Changed::default(),
            Err(why) => {
                tracing::error!("the users cannot be read: {why}; they stay as they were");
                return Changed::default();
            }
        };
        install(by_name, loaded)
    }

    /// What the file says; nobody but `default` where there is none.
    fn of_file(&self) -> Result<Loaded, FileError> {
        let text = file::read(&self.path)?.unwrap_or_default();
        Loaded::parse(&text, &self.path)
    }

    /// The log, if changes go there.
    fn logged(&self) -> Option<&Home> {
        self.home.get().filter(|home| home.of_service || self.in_log())
    }

    /// Whether they are this node's own, whatever its log has.
    pub(crate) fn are_in_file_alone(&self) -> bool {
        self.home.get().is_none()
    }

    /// Whether the users are in the log.
    pub(crate) fn in_log(&self) -> bool {
        self.in_log.load(Ordering::Acquire)
    }

    /// A primary of a service whose users are in its file alone brings them into the log, so that they
    /// follow the service before anybody changes one.
    pub(crate) fn bring_into_log(&self) {
        let Some(home) = self.home.get().filter(|home| home.of_service) else { return };
        if self.in_log() || !home.is_writable() {
            return;
        }
        let mut by_name = self.by_name();
        let lines = lines(&by_name);
        let pristine = User::default_one();
        if lines == [(pristine.name.clone(), pristine.line())] {
            // It has none to bring; a standby keeps its own until there are.
            return;
        }
        let count = lines.len();
        match self.write_log(home, &mut by_name, lines, &[]) {
            Ok(changed) if changed.lost => {}
            Ok(_) => tracing::info!(count, "the users of this node are those of its service now"),
            Err(why) => tracing::warn!("the users of this node are not in the log yet: {why}"),
        }
    }

    /// What `--requirepass` says: the password of `default` at the start. Once the users are those of a
    /// service it cannot change them; false: it is another one.
    pub(crate) fn start_with_password(&self, password: &[u8]) -> Result<bool, SetError> {
        let rule = [b">", password].concat();
        let rules: [&[u8]; 2] = match password.is_empty() {
            true => [b"resetpass", b"nopass"],
            false => [b"resetpass", &rule],
        };
        match self.home.get() {
            Some(home) if home.of_service && self.in_log() => {
                Ok(self.default.user().accepts(password))
            }
            Some(home) if home.of_service => {
                let mut by_name = self.by_name();
                let user = with_rules(&by_name, user::DEFAULT, rules.into_iter())?;
                self.put_in_file(&mut by_name, user)?;
                Ok(true)
            }
            _ => self.set(user::DEFAULT, rules.into_iter()).map(|_| true),
        }
    }

    fn by_name(&self) -> MutexGuard<'_, ByName> {
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

    /// ACL SETUSER: all of the rules, or none of them; kept, in the file or in the log, before anybody sees
    /// them.
    pub(crate) fn set<'a>(
        &self,
        name: &[u8],
        rules: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Changed, SetError> {
        let mut by_name = self.by_name();
        let user = with_rules(&by_name, name, rules)?;
        let Some(home) = self.logged() else {
            return self.put_in_file(&mut by_name, user).map_err(SetError::from);
        };
        let changed = (user.name.clone(), user.line());
        // The first change brings all.
        let mut put = if self.in_log() { Vec::new() } else { lines(&by_name) };
        put.retain(|(other, _)| *other != changed.0);
        put.push(changed);
        self.write_log(home, &mut by_name, put, &[])
    }

    fn put_in_file(&self, by_name: &mut ByName, user: User) -> Result<Changed, FileError> {
        let mut lines = lines(by_name);
        lines.retain(|(other, _)| *other != user.name);
        lines.push((user.name.clone(), user.line()));
        file::write(&self.path, lines.into_iter().map(|(_, line)| line))?;
        let new = || Account::new(User::new(&user.name));
        let account = by_name.entry(user.name.clone()).or_insert_with(new).clone();
        account.become_(user);
        Ok(Changed { fewer_channels: vec![account], ..Changed::default() })
    }

    /// Writes to the log, and shows what is there then.
    fn write_log(
        &self,
        home: &Home,
        by_name: &mut ByName,
        put: Vec<(Vec<u8>, String)>,
        delete: &[Vec<u8>],
    ) -> Result<Changed, SetError> {
        let written = home.write(&put, delete).map_err(SetError::Log)?;
        let changed = home.store().map(|store| self.reread(by_name, &store)).unwrap_or_default();
        Ok(Changed { lost: written == Written::Lost, ..changed })
    }

    /// ACL DELUSER: how many there were.
    pub(crate) fn delete<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(usize, Changed), SetError> {
        let mut by_name = self.by_name();
        let mut left = by_name.clone();
        let gone: Vec<_> = names.filter_map(|name| left.remove_entry(name)).collect();
        if gone.is_empty() {
            return Ok((0, Changed::default()));
        }
        let (names, accounts): (Vec<_>, Vec<_>) = gone.into_iter().unzip();
        if let Some(home) = self.logged() {
            let put = if self.in_log() { Vec::new() } else { lines(&left) };
            return Ok((names.len(), self.write_log(home, &mut by_name, put, &names)?));
        }
        file::write(&self.path, lines(&left).into_iter().map(|(_, line)| line))?;
        *by_name = left;
        Ok((names.len(), Changed { gone: accounts, ..Changed::default() }))
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
        file::write(&self.path, lines(&self.by_name()).into_iter().map(|(_, line)| line))
    }

    /// ACL LOAD: what the file says, or nothing of it.
    pub(crate) fn load(&self) -> Result<Changed, SetError> {
        let mut loaded = self.of_file()?;
        let mut by_name = self.by_name();
        let Some(home) = self.logged() else { return Ok(install(&mut by_name, loaded)) };
        loaded.users.entry(user::DEFAULT.to_vec()).or_insert_with(User::default_one);
        let gone = by_name.keys().filter(|name| !loaded.users.contains_key(*name));
        let gone: Vec<_> = gone.cloned().collect();
        let put = loaded.users.into_iter().map(|(name, user)| (name, user.line()));
        self.write_log(home, &mut by_name, put.collect(), &gone)
    }
}

/// All users, each as a line of a file.
fn lines(by_name: &ByName) -> Vec<(Vec<u8>, String)> {
    by_name.iter().map(|(name, account)| (name.clone(), account.user.load().line())).collect()
}

/// The user of this name as it would be.
fn with_rules<'a>(
    by_name: &ByName,
    name: &[u8],
    rules: impl Iterator<Item = &'a [u8]>,
) -> Result<User, SetError> {
    if has_spaces(name) {
        return Err(SetError::Name);
    }
    let rules = join_brackets(rules).map_err(|rule| SetError::Bracket(shown(&rule)))?;
    let old = by_name.get(name).map(|account| account.user.load_full());
    let mut user = old.as_deref().cloned().unwrap_or_else(|| User::new(name));
    for rule in &rules {
        user.apply(rule).map_err(|why| SetError::Rule(shown(rule), why))?;
    }
    Ok(user)
}

/// Users that stay keep their object, so that connections see them change.
fn install(by_name: &mut ByName, loaded: Loaded) -> Changed {
    let mut old = std::mem::take(by_name);
    let mut changed = Changed::default();
    let default = User::default_one();
    let default = (!loaded.users.contains_key(&default.name)).then_some(default);
    for user in loaded.users.into_values().chain(default) {
        let name = user.name.clone();
        let account = match old.remove(&name) {
            Some(account) if account.user.load().line() == user.line() => account,
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
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log does not take it now; the whole answer.
    #[error("{0}")]
    Log(String),
}
