//! The flags that every daemon has, and what is around its `main`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
pub use clap_complete::Shell;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, ConfigError};
use crate::exit::{self, Exit};
use crate::log;

/// Flags of every daemon; flatten it into the arguments. `log`, `log-format` and `metrics` may
/// stand in the config file too.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Operation")]
pub struct Common {
    /// Settings as TOML, with the names of the flags as keys; flags and GODWIT_* come first
    #[arg(long, env = "GODWIT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the settings, print `config is good` and exit; start nothing
    #[arg(long)]
    pub check_config: bool,
    /// What to log: a level, or a filter such as `warn,godwit_node=debug` [default: info]
    #[arg(long, env = "GODWIT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// What log lines look like [default: text]
    #[arg(long, env = "GODWIT_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<log::Format>,
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, env = "GODWIT_METRICS", value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Print a completion script for this shell and exit
    #[arg(long, value_enum, value_name = "SHELL", exclusive = true)]
    pub completions: Option<Shell>,
}

/// The keys of a config file that are [`Common`]'s.
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct CommonKeys {
    log: Option<String>,
    log_format: Option<log::Format>,
    metrics: Option<String>,
}

const COMMON_KEYS: [&str; 3] = ["log", "log-format", "metrics"];

impl Common {
    /// Lays `cli` and these flags over the config file, if one was named.
    pub fn load<S>(&mut self, cli: S) -> Result<S, ConfigError>
    where
        S: Serialize + DeserializeOwned + Default,
    {
        let settings = match self.config.clone() {
            None => cli,
            Some(path) => {
                let mut table = config::read(&path)?;
                let ours: toml::Table =
                    COMMON_KEYS.iter().filter_map(|key| table.remove_entry(*key)).collect();
                let keys: CommonKeys = ours.try_into().map_err(|why: toml::de::Error| {
                    let why = why.to_string().trim_end().replace('\n', " ");
                    ConfigError::Value { path: path.clone(), why }
                })?;
                self.log = self.log.take().or(keys.log);
                self.log_format = self.log_format.or(keys.log_format);
                self.metrics = self.metrics.take().or(keys.metrics);
                config::layer(cli, table, &path, &COMMON_KEYS)?
            }
        };
        log::parse(self.filter())?;
        Ok(settings)
    }

    /// With `--check-config`, says that the config is good: call it after checking all of it.
    pub fn checked(&self) -> Option<Exit> {
        self.check_config.then(|| {
            say("config is good");
            Exit::Done
        })
    }

    /// With `--completions`, prints the script.
    pub fn completions<A: CommandFactory>(&self) -> Option<Exit> {
        self.completions.map(|shell| {
            completions::<A>(shell);
            Exit::Done
        })
    }

    /// Starts logging as asked.
    pub fn start_logging(&self) -> Result<(), ConfigError> {
        log::start(self.filter(), self.log_format.unwrap_or_default())
    }

    fn filter(&self) -> &str {
        self.log.as_deref().unwrap_or(log::DEFAULT_FILTER)
    }
}

/// Prints a completion script for these arguments.
pub fn completions<A: CommandFactory>(shell: Shell) {
    let mut command = A::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // As with `say`.
    let _ = std::io::stdout().write_all(&script);
}

/// A line of output. A reader that has heard enough (`| head -1`) is no error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a program: on an error prints one sentence to stderr, and exits with the code that the
/// error or the program names.
pub fn run<F>(program: &str, main: F) -> ExitCode
where
    F: Future<Output = anyhow::Result<Exit>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(program, &anyhow::anyhow!("cannot start threads: {why}")),
    };
    let result = runtime.block_on(main);
    // Work that blocks (a read of a hung disk, say) must not hold up the exit for ever.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => fail(program, &error),
    }
}

fn fail(program: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{program}: {}", sentence(error));
    exit::of(error).into()
}

/// An error and its causes as one sentence; a cause that only repeats what was said is left out.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use clap::Parser;

    #[derive(clap::Args, Serialize, serde::Deserialize, Default)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Settings {
        #[arg(long)]
        listen: Option<String>,
    }

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn the_file_may_set_common_flags_and_the_command_line_beats_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "log = 'warn'\nmetrics = '127.0.0.1:1'\nlisten = 'x'").unwrap();
        let load = |flags: &[&str]| {
            let args = ["t", "--config", path.to_str().unwrap()];
            let Args { mut common, settings } = Args::parse_from(args.iter().chain(flags));
            let settings = common.load(settings).map_err(|e| e.to_string())?;
            Ok::<_, String>((common, settings))
        };
        let (common, settings) = load(&["--log", "debug"]).unwrap();
        assert_eq!(common.log.as_deref(), Some("debug"));
        assert_eq!(common.metrics.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(settings.listen.as_deref(), Some("x"));
        std::fs::write(&path, "metric = '127.0.0.1:1'").unwrap();
        assert!(load(&[]).err().unwrap().contains("did you mean `metrics`?"));
        std::fs::write(&path, "log = 'a=loud'").unwrap();
        assert!(load(&[]).err().unwrap().contains("no log filter"));
    }

    #[test]
    fn an_error_is_one_sentence() {
        let error: Result<(), _> = Err(std::io::Error::other("disk full"));
        let error = error.context("writing the journal").unwrap_err();
        assert_eq!(sentence(&error), "writing the journal: disk full");
    }
}
