//! What CONFIG REWRITE keeps for the next start: `parameters` in the node's directory, a line for
//! each that is not what it is at first.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::super::session::Shared;
use super::parameter;

const FILE: &str = "parameters";
/// More than there are parameters for, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Lines of `name value`.
pub(crate) struct Kept(Vec<(String, Vec<u8>)>);

/// Why what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// The file could not be read or written.
    #[error("cannot {what} the parameters in {path}: {why}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        why: io::Error,
    },
    /// A line that is no parameter.
    #[error("`{name}` in {path} cannot be used: {why}; correct the line or remove it")]
    Line {
        /// The parameter.
        name: String,
        /// In which file.
        path: String,
        /// Why it cannot be used.
        why: String,
    },
}

impl Kept {
    /// What there is to be kept.
    pub(super) fn now(shared: &Shared) -> Self {
        let kept = parameter::all().filter(|one| one.is_kept(shared)).filter_map(|one| {
            let name = one.names().next()?;
            Some((name.to_owned(), one.get(shared)))
        });
        Self(kept.collect())
    }

    /// Puts a new file in place of the old one.
    pub(super) fn write(&self, dir: &Path) -> Result<(), KeptError> {
        let path = dir.join(FILE);
        let put = || -> io::Result<()> {
            let beside = path.with_extension("new");
            let mut file = File::create(&beside)?;
            for (name, value) in &self.0 {
                writeln!(file, "{name} {}", String::from_utf8_lossy(value))?;
            }
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(dir)?.sync_all()
        };
        put().map_err(|why| Self::failed("write", &path, why))
    }

    /// What was kept; nothing where there is no file.
    pub(crate) fn read(dir: &Path) -> Result<Self, KeptError> {
        let path = dir.join(FILE);
        let read = || match fs::metadata(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Ok(found) if found.len() > FILE_BYTES_MAX => Err(io::Error::other("it is too large")),
            _ => fs::read(&path),
        };
        let text = read().map_err(|why| Self::failed("read", &path, why))?;
        let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let line = |line: &[u8]| {
            let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
            let value = line.get(end + 1..).unwrap_or_default();
            (String::from_utf8_lossy(&line[..end]).into_owned(), value.to_vec())
        };
        Ok(Self(lines.map(line).collect()))
    }

    /// Makes the parameters what was kept.
    pub(crate) fn apply(&self, shared: &Shared) -> Result<(), KeptError> {
        for (name, value) in &self.0 {
            let changed = parameter::named(name.as_bytes())
                .ok_or_else(|| "there is no such parameter".to_owned())
                .and_then(|parameter| parameter.read(shared, value)?(shared));
            changed.map_err(|why| {
                let path = shared.facts.dir.join(FILE).display().to_string();
                KeptError::Line { name: name.clone(), path, why }
            })?;
        }
        Ok(())
    }

    fn failed(what: &'static str, path: &Path, why: io::Error) -> KeptError {
        KeptError::File { what, path: path.display().to_string(), why }
    }
}
