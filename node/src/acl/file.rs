//! The file that users are kept in: a line each, as ACL LIST shows them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::RuleError;
use super::selector::has_spaces;
use super::user::{User, join_brackets};

/// More than any sensible file has, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why the file of users could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("Error loading ACLs, opening file '{}': {why}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// It could not be written; the old one is still there.
    #[error(
        "There was an error trying to save the ACLs. Please check the server logs for more information"
    )]
    Write,
    /// It does not hold users.
    #[error(
        "{0}WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
    )]
    Content(String),
}

/// The users of a file, or of a log.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(super) users: BTreeMap<Vec<u8>, User>,
}

impl Loaded {
    /// All lines, or none of them.
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self, FileError> {
        let mut loaded = Self::default();
        let mut errors = String::new();
        let shown = path.display();
        for (number, line) in text.split(|&b| b == b'\n').enumerate() {
            let number = number + 1;
            let words = line.split(|b| b" \t\r".contains(b)).filter(|word| !word.is_empty());
            match loaded.line(words) {
                Ok(()) => {}
                Err(LineError::NoUser) => {
                    errors += &format!(
                        "{shown}:{number} should start with user keyword followed by the username. "
                    );
                }
                Err(LineError::Name(name)) => {
                    errors += &format!(
                        "'{shown}:{number}: username '{name}' contains invalid characters. "
                    );
                }
                Err(LineError::Duplicate(name)) => {
                    errors += &format!("WARNING: Duplicate user '{name}' found on line {number}. ");
                }
                Err(LineError::Bracket) => {
                    errors +=
                        &format!("{shown}:{number}: Unmatched parenthesis in selector definition.");
                }
                Err(LineError::Rule(rule, why @ RuleError::Unknown)) => {
                    errors +=
                        &format!("{shown}:{number}: Error in applying operation '{rule}': {why}. ");
                }
                // Other rules may be secrets.
                Err(LineError::Rule(_, why)) => errors += &format!("{shown}:{number}: {why}. "),
            }
        }
        if errors.is_empty() { Ok(loaded) } else { Err(FileError::Content(errors)) }
    }

    fn line<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) -> Result<(), LineError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match words.next() {
            None => return Ok(()),
            Some(b"user") => {}
            Some(_) => return Err(LineError::NoUser),
        }
        let name = words.next().ok_or(LineError::NoUser)?;
        if has_spaces(name) {
            return Err(LineError::Name(text(name)));
        }
        let mut user = User::new(name);
        for rule in join_brackets(words).map_err(|_| LineError::Bracket)? {
            user.apply(&rule).map_err(|why| LineError::Rule(text(&rule), why))?;
        }
        if self.users.insert(name.to_vec(), user).is_some() {
            return Err(LineError::Duplicate(text(name)));
        }
        Ok(())
    }
}

enum LineError {
    NoUser,
    Name(String),
    Duplicate(String),
    Bracket,
    Rule(String, RuleError),
}

/// What the file holds; `None`: there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |why| FileError::Read { path: path.to_owned(), why };
    match fs::metadata(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(why)),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(failed(io::Error::other(
                "it is more than 64 MiB, which no list of users is",
            )));
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(failed)
}

/// Puts a new file in place of the old one, synced; only its owner may read it.
pub(super) fn write(path: &Path, lines: impl IntoIterator<Item = String>) -> Result<(), FileError> {
    let mut text = lines.into_iter().collect::<Vec<_>>().join("\n");
    text.push('\n');
    put(path, text.as_bytes()).map_err(|why| {
        tracing::error!("cannot write the users to {}: {why}; nothing was changed", path.display());
        FileError::Write
    })
}

fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file: File =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named_and_nothing_is_taken() {
        let check = |text: &str, words: &str| {
            let error = Loaded::parse(text.as_bytes(), Path::new("f")).err().unwrap().to_string();
            assert!(error.starts_with(words), "{error}");
            assert!(error.ends_with("no change to the previously active ACL rules was performed"));
        };
        check("nope", "f:1 should start with user keyword");
        check("user a on\n\nuser a off", "WARNING: Duplicate user 'a' found on line 3. ");
        check("user a +nope", "f:1: Error in applying operation '+nope': Unknown command");
        check("user a (+get", "f:1: Unmatched parenthesis");
        check("user a >p #1", "f:1: The password hash must be");
        let good =
            Loaded::parse(b"user a on +get\r\n\n user b off\n", Path::new("f")).ok().unwrap();
        assert_eq!(good.users.len(), 2);
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.acl");
        assert!(read(&path).unwrap().is_none());
        write(&path, ["user a off".to_owned()]).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"user a off\n");
    }
}
