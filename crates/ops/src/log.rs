//! Logs: to stderr, as text for people or as JSON for machines.
//!
//! Levels: `error`, data may be at risk or the program stops; `warn`, someone should look, and a
//! test run fails on one that nobody expected; `info`, what an operator wants in the journal;
//! `debug` and `trace` for whoever works on the code.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter where none is given.
pub const DEFAULT_FILTER: &str = "info";

/// Starts logging to stderr. Once a process; again is an error.
pub fn start(filter: &str, format: Format) -> Result<(), ConfigError> {
    let filter = parse(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|why| ConfigError::invalid(format!("cannot start logging: {why}")))
}

/// Reads a filter such as `info` or `warn,godwit_node=debug`.
pub fn parse(filter: &str) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(filter).map_err(|why| {
        ConfigError::invalid(format!(
            "`{filter}` is no log filter ({why}): write a level such as `info`, or `warn,godwit_node=debug`"
        ))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bad_filter_is_explained() {
        assert!(super::parse("warn,godwit_node=debug").is_ok());
        assert!(super::parse("x=loud").unwrap_err().to_string().contains("no log filter"));
    }
}
