//! What every verb needs: the service, where to journal, how to talk to the person.

use std::io::{IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use ops::exit::{Exit, Stop};
use serde::Serialize;
use serde_json::{Value, json};
use topology::operator::Actor;
use topology::{Record, Revision, Service, ServiceView};

use crate::args::{Args, ClusterVerb, Config, Output, Verb};
use crate::claim::{Claimed, Patience};
use crate::{
    abort, auto, bundle, clusters, doctor, drill, failback, history, init, maintenance, plan,
    registry, resize, resume, retire, route, status, switch, verify, watch, watcher, who,
};

/// The service under the hands of an operator.
#[derive(Debug)]
pub struct Tool {
    /// The service.
    pub service: Service,
    /// Places, times and limits.
    pub config: Config,
    /// Who runs this tool.
    pub by: Actor,
    /// Why, as far as it was said.
    pub reason: Option<String>,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Set when this tool's claim on the service has ended under its hands.
    pub(crate) claim_lost: Arc<AtomicBool>,
    pub(crate) output: Output,
    began: Instant,
}

/// Parses nothing, does everything else.
pub async fn main(args: Args) -> anyhow::Result<Exit> {
    if let Some(shell) = args.completions {
        ops::cli::completions::<Args>(shell);
        return Ok(Exit::Done);
    }
    let config = ops::config::load(args.settings, args.config.as_deref())?.validate()?;
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
        topology::open(&config.registry).map_err(|why| Stop::new(Exit::Usage, why.to_string()))?;
    let service = Service::open(registry, &config.service).await?;
    let tool = Tool {
        service,
        config,
        by: who::me(),
        reason: args.reason,
        dry_run: args.dry_run,
        claim_lost: Arc::default(),
        output: args.output,
        began: Instant::now(),
    };
    tool.run(verb).await
}

impl Tool {
    async fn run(&self, verb: Verb) -> anyhow::Result<Exit> {
        match verb {
            Verb::Init { clusters, active, lease } => {
                init::init(self, clusters, active, lease).await
            }
            Verb::Cluster(ClusterVerb::Add { cluster }) => clusters::add(self, cluster).await,
            Verb::Cluster(ClusterVerb::Remove { cluster, yes }) => {
                clusters::remove(self, &cluster, yes).await
            }
            Verb::Resize(asked) => resize::resize(self, &asked).await,
            Verb::Retire { cluster, yes } => retire::retire(self, &cluster, yes).await,
            Verb::Status { watch: false, .. } => status::status(self),
            Verb::Status { watch: true, every, count } => watch::watch(self, every, count).await,
            Verb::Plan { to, failover, scope } => plan::print(self, &to, failover, &scope).await,
            Verb::Run { to, scope, how } => switch::run(self, &to, &scope, &how).await,
            Verb::Failover { to, scope, loss, how } => {
                switch::failover(self, (&to, &scope), loss.accept_loss, &how).await
            }
            Verb::Failback { how } => failback::failback(self, &how).await,
            Verb::Resume { loss, no_wait_reverse } => {
                resume::resume(self, loss.accept_loss, no_wait_reverse).await
            }
            Verb::Abort => abort::abort(self).await,
            Verb::History => history::history(self).await,
            Verb::Report { id, html } => history::report(self, &id, html.as_ref()).await,
            Verb::Doctor { access } => doctor::doctor(self, &access).await,
            Verb::Drill(how) => drill::drill(self, &how).await,
            Verb::Maintenance { to } => maintenance::maintenance(self, to).await,
            Verb::Auto { state, limits } => auto::auto(self, state, limits).await,
            Verb::Watch(how) => watcher::watch(self, &how).await,
            Verb::Route(routing) => route::route(self, &routing).await,
            Verb::SupportBundle { out, access } => bundle::bundle(self, &out, &access).await,
            Verb::Registry { verb } => registry::run(self, &verb).await,
            Verb::Verify { access } => verify::verify(self, &access).await,
        }
    }

    /// The same tool for another service, journaling elsewhere.
    pub(crate) fn aside(&self, service: Service, journal: PathBuf) -> Self {
        Self {
            service,
            config: Config { journal, ..self.config.clone() },
            by: self.by.clone(),
            reason: self.reason.clone(),
            dry_run: false,
            claim_lost: Arc::default(),
            output: self.output,
            began: self.began,
        }
    }

    /// Does `work` with the service claimed for it, so that it is the only operation.
    pub(crate) async fn claimed<T>(
        &self,
        operation: &str,
        patience: Patience,
        work: Pin<Box<dyn Future<Output = anyhow::Result<T>> + '_>>,
    ) -> anyhow::Result<T> {
        let claim = Claimed::take(self, operation, patience).await?;
        let done = work.await;
        claim.release(self).await;
        done
    }

    /// An error if another tool may be at an operation now.
    pub(crate) fn still_claimed(&self) -> Result<(), Stop> {
        match self.claim_lost.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Stop::new(
                Exit::RolledBack,
                "this tool was away for so long that its claim on the service has ended; another may be at an operation",
            )),
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

    /// What every journal says of who began it.
    pub(crate) fn signed(&self, mut about: Value) -> Value {
        about["by"] = json!(self.by);
        about["reason"] = json!(self.reason);
        about
    }

    /// Tells the person how it goes, on stderr. Nobody may be reading: that ends no switch.
    pub(crate) fn progress(&self, text: impl std::fmt::Display) {
        let _ = writeln!(stderr(), "[{:>8.3}s] {text}", self.began.elapsed().as_secs_f64());
    }

    /// Asks a person at a terminal; `None` where there is nobody to ask.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return None;
        }
        let _ = write!(stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        // An end of input is no.
        let _ = stdin().read_line(&mut answer);
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
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
