//! The settings of runs that a timer starts. Those of `push` may stand in its config file too
//! ([`crate::config`]).

use std::path::PathBuf;
use std::time::Duration;

use ops::config::ConfigError;
use ops::units::Span;

use super::Window;

/// The nicest that a process may be.
const NICE_MAX: i32 = 19;

/// As flags and environment say.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Runs that a timer starts")]
pub struct CronSettings {
    /// Run at these times of the day only (UTC), such as 02:00-05:00; at its end the run stops
    #[arg(long, env = "GODWIT_WINDOW", value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
    /// Wait first for a random part of this [default: not at all]
    #[arg(long, env = "GODWIT_JITTER", value_name = "SPAN")]
    pub jitter: Option<Span>,
    /// How nice to be to other processes: 0 (as started) to 19 [default: 10]
    #[arg(long, env = "GODWIT_NICE", value_name = "N")]
    pub nice: Option<i32>,
    /// Use disks only when nobody else does (ionice's class idle)
    #[arg(long, env = "GODWIT_IO_IDLE")]
    pub io_idle: bool,
    /// Write what came of the run to this file, as JSON
    #[arg(long, env = "GODWIT_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// And as metrics to this one, for node_exporter's textfile collector: one file for each verb
    #[arg(long, env = "GODWIT_TEXTFILE", value_name = "FILE.prom")]
    pub textfile: Option<PathBuf>,
}

/// The same, checked.
#[derive(Clone, Debug, Default)]
pub struct Cron {
    pub(super) window: Option<Window>,
    pub(super) jitter: Option<Duration>,
    pub(super) nice: i32,
    pub(super) io_idle: bool,
    pub(super) report: Option<PathBuf>,
    pub(super) textfile: Option<PathBuf>,
}

impl CronSettings {
    /// Checks them.
    ///
    /// # Errors
    /// A sentence.
    pub fn validate(self) -> Result<Cron, ConfigError> {
        if let Some(nice) = self.nice.filter(|nice| !(0..=NICE_MAX).contains(nice)) {
            let why = format!("--nice {nice}: write a number of 0 to {NICE_MAX}");
            return Err(ConfigError::invalid(why));
        }
        if let Some(path) =
            self.textfile.as_ref().filter(|p| p.extension() != Some("prom".as_ref()))
        {
            let why = format!(
                "--textfile {}: node_exporter reads files that end with .prom",
                path.display()
            );
            return Err(ConfigError::invalid(why));
        }
        Ok(Cron {
            window: self.window,
            jitter: self.jitter.map(Span::duration),
            nice: self.nice.unwrap_or(ops::background::NICE),
            io_idle: self.io_idle,
            report: self.report,
            textfile: self.textfile,
        })
    }
}
