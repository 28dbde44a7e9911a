//! What every verb needs: the service, where to journal, how to talk to the person.

use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ops::config::ConfigError;
use ops::exit::{Exit, Stop};
use serde::Serialize;
use topology::{Record, Revision, Service, ServiceView};

use crate::args::{Args, Output, Settings, Verb};
use crate::{failback, init, plan, resume, status, switch, verify};

/// The service under the hands of an operator.
#[derive(Debug)]
pub struct Tool {
    /// The service.
    pub service: Service,
    /// Where operations are journaled on this machine.
    pub journal_dir: PathBuf,
    output: Output,
    began: Instant,
}

/// Parses nothing, does everything else.
pub async fn main(args: Args) -> anyhow::Result<Exit> {
    if let Some(shell) = args.completions {
        ops::cli::completions::<Args>(shell);
        return Ok(Exit::Done);
    }
    let settings = ops::config::load(args.settings, args.config.as_deref())?;
    let (registry, service) = addresses(&settings)?;
    let journal_dir = settings.journal.clone().or_else(state_dir).ok_or_else(|| {
        ConfigError::invalid(
            "there is no place for the journal: set --journal DIR, XDG_STATE_HOME or HOME",
        )
    })?;
    if args.check_config {
        ops::cli::say("config is good");
        return Ok(Exit::Done);
    }
    let Some(verb) = args.verb else {
        return Err(Stop::new(Exit::Usage, "say what to do: see --help for the verbs").into());
    };
    ops::log::start(
        &std::env::var("GODWIT_LOG").unwrap_or_else(|_| "warn".to_owned()),
        ops::log::Format::Text,
    )?;
    let registry =
        topology::open(&registry).map_err(|why| Stop::new(Exit::Usage, why.to_string()))?;
    let service = Service::open(registry, &service).await?;
    let tool = Tool { service, journal_dir, output: args.output, began: Instant::now() };
    tool.run(verb).await
}

fn addresses(settings: &Settings) -> Result<(String, String), ConfigError> {
    let need = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| {
            ConfigError::invalid(format!(
                "--{name} is missing (or GODWIT_{}, or `{name}` in the config file)",
                name.to_uppercase()
            ))
        })
    };
    Ok((need(&settings.registry, "registry")?, need(&settings.service, "service")?))
}

/// `godwit/` in the user's state directory (XDG Base Directory specification).
fn state_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("godwit"))
}

impl Tool {
    async fn run(&self, verb: Verb) -> anyhow::Result<Exit> {
        match verb {
            Verb::Init { clusters, active, lease } => {
                init::init(self, clusters, active, lease).await
            }
            Verb::Status => status::status(self),
            Verb::Plan { to, guards } => plan::print(self, &to, &guards),
            Verb::Run { to, switch } => switch::run(self, &to, &switch).await,
            Verb::Failover { to, yes, accept_loss, drain_wait, timeout, after } => {
                let loss = switch::Failover { accept_loss, drain_wait, timeout };
                switch::failover(self, &to, yes, &loss, &after).await
            }
            Verb::Failback { rejoin_timeout, switch } => {
                failback::failback(self, rejoin_timeout, &switch).await
            }
            Verb::Resume { accept_loss, drain_wait, after } => {
                resume::resume(self, accept_loss, drain_wait, &after).await
            }
            Verb::Cancel => resume::cancel(self).await,
            Verb::Verify { timeout, access } => verify::verify(self, timeout, &access).await,
        }
    }

    /// The service and its record; refused in words where there is none.
    pub(crate) fn view(&self) -> anyhow::Result<(Arc<ServiceView>, Record, Revision)> {
        let view = self.service.view();
        if let Some(why) = view.problems.get("record") {
            return Err(Stop::new(Exit::Failed, why.clone()).into());
        }
        let (record, revision) = view.record.clone().with_context(|| {
            format!(
                "service `{}` has no record in this registry; create it with `init`",
                self.service.name()
            )
        })?;
        Ok((view, record, revision))
    }

    /// Tells the person how it goes, on stderr. Nobody may be reading: that ends no switch.
    pub(crate) fn progress(&self, text: impl std::fmt::Display) {
        let _ = writeln!(stderr(), "[{:>8.3}s] {text}", self.began.elapsed().as_secs_f64());
    }

    /// Prints the result: its text, or one line of JSON. A reader that has gone (`| head`) changes
    /// nothing of what was done, nor the exit code.
    pub(crate) fn result(&self, text: &str, json: &impl Serialize) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Text => text.trim_end().to_owned(),
            Output::Json => serde_json::to_string(json).context("writing the result")?,
        };
        let _ = writeln!(stdout(), "{text}");
        Ok(())
    }
}
