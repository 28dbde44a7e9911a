//! Settings: a flag beats `GODWIT_*` beats the TOML file; an unknown key is an error.
//!
//! A program has one settings struct whose fields are all `Option`. clap fills it from flags and
//! environment; [`load`] lays it over what the file says. The program then checks the whole and
//! makes a config of it that has no options left.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why settings cannot be used. Nothing has been started or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the config file {path} is not valid TOML: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// A key that no setting has.
    #[error("the config file {path} has an unknown key `{key}`{}", nearest_hint(.nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that is spelt most alike.
        nearest: Option<String>,
    },
    /// A value that a setting cannot take.
    #[error("the config file {path} has a value that cannot be used: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which and why.
        why: String,
    },
    /// The settings do not fit together.
    #[error("{0}")]
    Invalid(String),
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

impl ConfigError {
    /// Settings that do not fit together, in a sentence.
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }
}

/// The settings of the command line and environment (`cli`), then of the file.
pub fn load<S>(cli: S, file: Option<&Path>) -> Result<S, ConfigError>
where
    S: Serialize + DeserializeOwned + Default,
{
    let Some(path) = file else { return Ok(cli) };
    layer(cli, read(path)?, path, &[])
}

/// The table of a TOML file.
pub(crate) fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|why| ConfigError::Read { path: path.to_owned(), why })?;
    text.parse().map_err(|why: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        why: match why.span() {
            Some(at) => {
                let line =
                    text.get(..at.start).map_or(0, |before| before.matches('\n').count()) + 1;
                format!("line {line}: {}", why.message().replace('\n', " "))
            }
            None => why.message().replace('\n', " "),
        },
    })
}

/// Lays `cli` over a file's table; `also_known` are keys taken out of the table already, for hints.
pub(crate) fn layer<S>(
    cli: S,
    table: toml::Table,
    path: &Path,
    also_known: &[&str],
) -> Result<S, ConfigError>
where
    S: Serialize + DeserializeOwned + Default,
{
    let known = keys_of(&S::default());
    if let Some(key) = table.keys().find(|key| !known.contains_key(*key)) {
        let all = known.keys().map(String::as_str).chain(also_known.iter().copied());
        let nearest = nearest(key, all);
        return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), nearest });
    }
    let value_error =
        |why: String| ConfigError::Value { path: path.to_owned(), why: why.replace('\n', " ") };
    let from_file: S = table
        .try_into()
        .map_err(|why: toml::de::Error| value_error(why.to_string().trim_end().to_owned()))?;
    let mut merged = keys_of(&from_file);
    lay_over(&mut merged, keys_of(&cli));
    serde_json::from_value(Value::Object(merged)).map_err(|why| value_error(why.to_string()))
}

/// Lays what is set over what was; a section key by key.
fn lay_over(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(under)), Value::Object(over)) => lay_over(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Each setting by its key; those not set are null.
fn keys_of<S: Serialize>(settings: &S) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("settings are a struct that serializes, not {other:?}"),
    }
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    /// Below this likeness (Jaro-Winkler, 0 to 1) a hint would only mislead.
    const ALIKE: f64 = 0.7;
    known
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Size, Span};
    use clap::Parser;
    use serde::Deserialize;

    #[derive(clap::Args, Serialize, Deserialize, Default, Debug, PartialEq)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Settings {
        #[arg(long, env = "GODWIT_TEST_CONFIG_LISTEN")]
        listen: Option<String>,
        #[arg(long)]
        hold_time: Option<Span>,
        #[arg(long)]
        hold_bytes: Option<Size>,
        #[arg(long)]
        threads: Option<usize>,
    }

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        settings: Settings,
    }

    fn load_with(flags: &[&str], file: &str) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        let args = Args::parse_from(["test"].iter().chain(flags));
        load(args.settings, Some(&path))
    }

    #[test]
    fn a_flag_beats_the_file_and_the_rest_comes_from_it() {
        let file = "listen = '127.0.0.1:1'\nhold-time = '500ms'\nhold-bytes = 4096\nthreads = 2";
        let settings = load_with(&["--hold-time", "2s", "--threads=3"], file).unwrap();
        assert_eq!(settings.hold_time, Some(Span::secs(2)));
        assert_eq!(settings.hold_bytes, Some(Size(4096)));
        assert_eq!(settings.threads, Some(3));
        assert_eq!(settings.listen.as_deref(), Some("127.0.0.1:1"));
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_file() {
        // A process's environment is shared by its tests, so the layers are tried in a child.
        if std::env::var_os("GODWIT_TEST_CONFIG_LISTEN").is_none() {
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "config::tests::a_flag_beats_the_environment_and_that_beats_the_file",
                ])
                .env("GODWIT_TEST_CONFIG_LISTEN", "from-env")
                .output()
                .unwrap();
            assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
            return;
        }
        let listen = |flags: &[&str]| load_with(flags, "listen = 'from-file'").unwrap().listen;
        assert_eq!(listen(&[]).as_deref(), Some("from-env"));
        assert_eq!(listen(&["--listen", "from-flag"]).as_deref(), Some("from-flag"));
    }

    #[test]
    fn mistakes_are_named() {
        for (file, says) in [
            ("hold-tiem = '1s'", "unknown key `hold-tiem`; did you mean `hold-time`?"),
            ("zzz = 1", "unknown key `zzz`"),
            ("listen = 5", "listen"),
            ("hold-time = '10'", "`10` is no duration"),
            ("hold-bytes = 'big'", "size"),
            ("listen = ", "not valid TOML"),
        ] {
            let error = load_with(&[], file).unwrap_err().to_string();
            assert!(error.contains(says), "{file}: {error}");
        }
        let missing = load(Settings::default(), Some(Path::new("/no/such/file"))).unwrap_err();
        assert!(missing.to_string().contains("/no/such/file"));
    }
}
