//! `watch`: says what the observers say, and with `--auto` fails over where the operator allowed it.
//!
//! It believes nothing that the registry has not just answered: each look is read anew, and while the
//! registry is silent nothing is known to be down. Several may run: who has the claim on the service
//! acts, and looks once more with the claim in its hands. What it does is an ordinary `failover`.

mod alert;
mod decide;
mod meters;

use std::time::{Duration, Instant};

use ops::exit::{Exit, Stop};
use ops::health::{Check, Health};
use ops::metrics::{Identity, Metrics};
use ops::shutdown::Shutdown;
use ops::units::Span;
use topology::ServiceView;

use crate::args::{Accept, Scope};
use crate::claim::Patience;
use crate::guards::Past;
use crate::report::Report;
use crate::switch;
use crate::tool::Tool;
use alert::{Alert, Kind};
use decide::{Act, Seen};
use meters::Meters;

/// How long the registry may take to answer before it counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// After a try that came to nothing the next one waits at least so long.
const AGAIN_MIN: Duration = Duration::from_secs(5);

/// How `watch` is run.
#[derive(clap::Args, Clone, Debug)]
pub struct Watching {
    /// Fail over where `auto on` allows it; without, only say what is seen
    #[arg(long)]
    pub auto: bool,
    /// How often the registry is asked
    #[arg(long, value_name = "SPAN", default_value = "500ms")]
    pub every: Span,
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, env = "GODWIT_METRICS", value_name = "HOST:PORT")]
    pub metrics: Option<String>,
}

/// A watcher at work.
struct Watcher<'a> {
    tool: &'a Tool,
    acts: bool,
    seen: Seen,
    meters: Meters,
    registry: Check,
    /// Not before this is anything tried again.
    again: Option<Instant>,
    /// What was last said of why nothing is done, so that it is said once.
    said: String,
}

/// Watches until it is told to end.
pub(crate) async fn watch(tool: &Tool, how: &Watching) -> anyhow::Result<Exit> {
    if how.every.duration().is_zero() {
        return Err(Stop::new(Exit::Usage, "--every must be longer than nothing").into());
    }
    let shutdown = Shutdown::on_signals()?;
    let identity =
        Identity { service: Some(tool.service.name().to_owned()), ..Identity::default() };
    let metrics = Metrics::new("switchover", env!("CARGO_PKG_VERSION"), &identity);
    let health = Health::new();
    if let Some(address) = &how.metrics {
        let listener = ops::http::bind("metrics", address).await?;
        let (metrics, health) = (metrics.clone(), health.clone());
        tokio::spawn(ops::http::serve(listener, metrics, health, shutdown.clone()));
    }
    let mut watcher = Watcher {
        tool,
        acts: how.auto,
        seen: Seen::default(),
        meters: Meters::new(&metrics),
        registry: health.check("registry"),
        again: None,
        said: String::new(),
    };
    tool.progress(match how.auto {
        true => "watching, and acting where `auto on` allows it",
        false => "watching; nothing is done",
    });
    loop {
        watcher.look().await;
        tokio::select! {
            () = tokio::time::sleep(how.every.duration()) => {}
            () = shutdown.cancelled() => return Ok(Exit::Done),
        }
    }
}

/// The service as the registry answers now; an error in words where it does not.
async fn fresh(tool: &Tool) -> Result<ServiceView, String> {
    match tokio::time::timeout(ANSWER_WITHIN, tool.service.read_view()).await {
        Ok(Ok(view)) => Ok(view),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => {
            Err(format!("the registry has not answered within {} s", ANSWER_WITHIN.as_secs()))
        }
    }
}

impl Watcher<'_> {
    async fn look(&mut self) {
        let view = match fresh(self.tool).await {
            Ok(view) => view,
            Err(why) => {
                // What was down may be up by now, and who is silent may be this watcher.
                self.seen.forget();
                self.registry.failing(why.clone());
                return self.say_once(format!("nothing is known now: {why}"));
            }
        };
        self.registry.ok();
        let now = Instant::now();
        for change in self.seen.look(&view, now) {
            let kind = if change.down { Kind::Down } else { Kind::Up };
            self.alert(&view, Alert::new(kind, vec![change.shard], change.says)).await;
        }
        self.meters.show(&view);
        let act = match self.seen.decide(&view, now) {
            Ok(Some(act)) => act,
            Ok(None) => return self.say_once(String::new()),
            Err(why) => return self.say_once(format!("nothing is done: {why}")),
        };
        if !self.acts {
            let advice = format!("{}; `failover --to {}` would be the answer", act.why, act.to);
            return self.say_once(advice);
        }
        if self.again.is_some_and(|again| now < again) {
            return;
        }
        self.act(&view, act).await;
    }

    async fn act(&mut self, view: &ServiceView, act: Act) {
        let began = Instant::now();
        self.tool.progress(format!("failing over to `{}`: {}", act.to, act.why));
        // A claim that was lost once is none of the next try's.
        let mut acting =
            self.tool.aside(self.tool.service.clone(), self.tool.config.journal.clone());
        acting.reason = Some(format!("auto: {}", act.why));
        let patience = act.wait.max(AGAIN_MIN);
        let done = self.fail_over(&acting, &act).await;
        self.again = Some(Instant::now() + patience);
        let shards = act.shards.clone();
        let (kind, says) = match done {
            Ok(report)
                if report.exit == Exit::Done.code() || report.exit == Exit::Incomplete.code() =>
            {
                (
                    Kind::FailedOver,
                    format!(
                        "`{}` took over by itself, {} ms after it was decided: {}",
                        act.to,
                        began.elapsed().as_millis(),
                        report.text().trim_end()
                    ),
                )
            }
            Ok(report) => {
                let why = report.message.unwrap_or(report.outcome);
                (Kind::Refused, format!("`{}` did not take over: {why}", act.to))
            }
            Err(why) => (Kind::Refused, format!("`{}` did not take over: {why:#}", act.to)),
        };
        self.meters.acted(kind);
        self.alert(view, Alert::new(kind, shards, says)).await;
    }

    /// With the service claimed, and everything looked at once more.
    async fn fail_over(&mut self, acting: &Tool, act: &Act) -> anyhow::Result<Report> {
        let past = Past::read(&acting.service).await?;
        decide::long_enough_ago(&past, act)?;
        let scope = Scope { shards: if act.only_failed { act.shards.clone() } else { Vec::new() } };
        let what = (act.to.as_str(), &scope);
        let report = match switch::failover_checked(acting, what, act.accept).await? {
            Ok(report) => report,
            Err(refused) => return Ok(refused),
        };
        let seen = &mut self.seen;
        let work = Box::pin(async {
            let view = fresh(acting).await.map_err(anyhow::Error::msg)?;
            let now = Instant::now();
            seen.look(&view, now);
            // The claim is this watcher's own.
            let view = ServiceView { claim: None, ..view };
            match seen.decide(&view, now).map_err(anyhow::Error::msg)? {
                Some(still) if still.to == act.to && still.shards == act.shards => {}
                _ => anyhow::bail!("it is not so any more, or somebody else has seen to it"),
            }
            decide::long_enough_ago(&Past::read(&acting.service).await?, act)?;
            switch::failover_claimed(acting, report, &scope, act.accept).await
        });
        acting.claimed("failover", Patience::None, work).await
    }

    /// Tells everybody who is to be told.
    async fn alert(&mut self, view: &ServiceView, alert: Alert) {
        let quiet = view.maintenance.is_some();
        self.meters.alerts(alert.kind);
        alert.tell(self.tool, quiet).await;
    }

    fn say_once(&mut self, text: String) {
        if text != self.said && !text.is_empty() {
            self.tool.progress(&text);
        }
        self.said = text;
    }
}

/// What a loss is accepted as, of what the registry says.
fn accepted(text: &str) -> Result<Accept, String> {
    text.parse().map_err(|why| format!("the loss that `auto` accepts: {why}"))
}
